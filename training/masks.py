"""How well a network's attention mask finds what it was taught to ignore, on labelled images it was not trained on.

    python -m training.masks .training/deattention/network.safetensors ../shared/data/camvid/test \\
        --labels ../shared/data/camvid/testannot --table camvid --out masks.html

Prints the area under the ROC curve and the intersection over union of the ignored positions at feature resolution, and
writes a page with images, the true mask and the learned one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from tqdm import tqdm

from training.checkpoint import load_network
from training.data.image_set import ImageSet, LabelMaps
from training.guidance import Guidance, to_target
from training.models.place_network import PlaceNetwork
from training.semantics.classes import read_table
from training.semantics.labelled import images_under, label_file
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.evaluation.figures import data_uri, render
from vpr_ros.images import overlay, read_image, resize

_TEMPLATE = Path(__file__).with_name("masks.html.j2")
KEPT = 0.5
"""A position is ignored where less of it is kept."""
SHOWN = 20
"""Images on the page, evenly spread."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of a learned mask with a true one: `auc` of telling kept from ignored positions, `iou` of the ignored ones at 0.5.

    `ignored` is the true share of these. AUC is NaN where nothing or everything is ignored, IoU where nothing is in both.
    """

    auc: float
    iou: float
    ignored: float

    @classmethod
    def of(cls, learned: Floats, true: Floats) -> Agreement:
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


def write_page(out: Path, images: ImageSet, learned: Floats, true: Floats, agreement: Agreement) -> None:
    """Images with both masks laid over them: what is ignored is red."""
    shown = np.unique(np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int))
    rows = []
    for i in shown:
        image = read_image(images.paths[i])
        rows.append((images.paths[i].name, data_uri(image), *(data_uri(overlay(image, m[i])) for m in (true, learned))))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(_TEMPLATE, rows=rows, agreement=agreement, images=len(images)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="a network.safetensors of training.train")
    parser.add_argument("images", type=Path, help="folder of images that it was not trained on")
    parser.add_argument("--labels", type=Path, required=True, help="folder of their label images or label maps")
    parser.add_argument("--table", default="cityscapes", help="what the class ids mean (default: %(default)s)")
    parser.add_argument("--categories", nargs="+", default=["human", "vehicle", "sky"], help="what it should ignore")
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args(arguments)
    try:
        network = load_network(options.network)
        paths = images_under(options.images)
        labels = [label_file(path, options.images, options.labels) for path in paths]
        images = ImageSet.of("masks", paths, label_maps=LabelMaps.of(labels, read_table(options.table)))
        learned = learned_masks(network, images)
        guidance = Guidance(categories=tuple(options.categories))
        true = to_target(torch.from_numpy(guidance.precompute(images, *learned.shape[1:]))).numpy()
        known = ~np.isnan(true[:, 0, 0])  # a label image that cannot be read is unknown everywhere
        images, learned, true = images.take(known), learned[known], true[known]
        agreement = Agreement.of(learned, true)
        if options.out:
            write_page(options.out, images, learned, true, agreement)
    except VprError as error:
        raise SystemExit(f"masks: {error}") from error
    print(
        f"{len(images)} images, {learned.shape[1]} x {learned.shape[2]} positions, {agreement.ignored:.1%} ignored: "
        f"AUC {agreement.auc:.3f}, IoU of the ignored {agreement.iou:.3f}, mean mask {learned.mean():.3f}"
    )


if __name__ == "__main__":
    main()
