"""How well a network's attention mask finds what it was taught to ignore, on labelled images it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from tqdm import tqdm

from training.attention.guidance import Guidance
from training.data.classes import read_table
from training.data.feature_masks import to_target
from training.data.image_set import ImageSet, LabelMaps
from training.files import write_whole
from training.models.place_network import PlaceNetwork
from training.semantics.labelled import images_under, label_file
from vpr_ros.errors import ConfigError
from vpr_ros.evaluation.figures import data_uri, render
from vpr_ros.images import overlay, read_image, resize

_TEMPLATE = Path(__file__).with_name("masks.html.j2")
KEPT = 0.5
"""A position is ignored where less of it is kept."""
SHOWN = 20
"""Images on the page, evenly spread."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MaskAgreement:
    """Of a learned mask with a true one: `auc` of telling kept from ignored positions, `iou` of the ignored ones at 0.5.

    `ignored` is the true share of these. AUC is NaN where nothing or everything is ignored, IoU where nothing is in both.
    """

    auc: float
    iou: float
    ignored: float

    @classmethod
    def of(cls, learned: Floats, true: Floats) -> MaskAgreement:
        """Two arrays of one shape, in [0, 1]: how much is kept."""
        kept = true.ravel() >= KEPT
        both, either = ((learned.ravel() < KEPT) & ~kept).sum(), ((learned.ravel() < KEPT) | ~kept).sum()
        pairs = kept.sum() * (~kept).sum()
        # the share of pairs that are in the right order (Mann and Whitney)
        ranks = rankdata(learned.ravel())[kept].sum() - kept.sum() * (kept.sum() + 1) / 2
        return cls(
            float(ranks / pairs) if pairs else float("nan"),
            float(both / either) if either else float("nan"),
            float((~kept).mean()),
        )


@torch.no_grad()
def learned_masks(network: PlaceNetwork, images: ImageSet) -> Floats:
    """(N, h, w). Raises ConfigError for a network without a mask, ImageError for an image that cannot be read."""
    width, height = network.options.width, network.options.height
    found = []
    for path in tqdm(images.paths, desc="masks", unit="image", disable=None):
        _, mask = network.with_mask(torch.from_numpy(resize(read_image(path), width, height)[None]).to(network.device))
        if mask is None:
            raise ConfigError("this network has no mask: its attention is none of deattention, crn or cbam")
        found.append(mask[0, 0].float().cpu().numpy())
    return np.stack(found)


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Of N labelled images the `learned` and `true` masks (N, h, w) in [0, 1], and how well they agree."""

    images: ImageSet
    learned: Floats
    true: Floats
    agreement: MaskAgreement


def compare(network: PlaceNetwork, images: Path, labels: Path, table: str, categories: tuple[str, ...]) -> Masks:
    """The mask of `network` over the images of a folder with what their label maps say of `categories`.

    Images whose label map cannot be read are left out. Raises what `learned_masks` and `Guidance.mask` raise, SourceError
    for an image without labels.
    """
    paths = images_under(images)
    maps = LabelMaps.of([label_file(path, images, labels) for path in paths], read_table(table))
    labelled = ImageSet.of("masks", paths, label_maps=maps)
    learned = learned_masks(network, labelled)
    stored = Guidance(categories=categories).precompute(labelled, *learned.shape[1:])
    true = to_target(torch.from_numpy(stored)).numpy()
    known = ~np.isnan(true[:, 0, 0])
    return Masks(labelled.take(known), learned[known], true[known], MaskAgreement.of(learned[known], true[known]))


def write_page(out: Path, masks: Masks) -> None:
    """Images with both masks laid over them: what is ignored is red."""
    images, learned, true = masks.images, masks.learned, masks.true
    shown = np.unique(np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int))
    rows = []
    for i in shown:
        image = read_image(images.paths[i])
        rows.append((images.paths[i].name, data_uri(image), *(data_uri(overlay(image, m[i])) for m in (true, learned))))
    write_whole(out, render(_TEMPLATE, rows=rows, agreement=masks.agreement, images=len(images)).encode())
