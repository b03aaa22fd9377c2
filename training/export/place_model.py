"""A place network as the one-file model of vpr_ros, and the check of the file against the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from training.export.onnx_graphs import torch_graph, wrapped_graph
from training.models.network_file import load_network, read_metadata
from training.models.place_network import PlaceNetwork
from training.models.published import HubModel, OnnxModel, check_descriptors, first_line, open_published
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import ModelError, SourceError
from vpr_ros.files import check_writable, whole_file
from vpr_ros.images import read_image, resize
from vpr_ros.model import FORMAT, PlaceModel
from vpr_ros.sources.folders import image_files

LEAST_COSINE = 0.9999
MOST_MASK_DIFFERENCE = 1e-3
REAL_IMAGES = 32
"""So many of a folder, evenly spread, are compared."""
BATCH = 8

T = TypeVar("T")
Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Attend = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (N, H, W, 3) -> masks (N, h, w)."""


def export(
    network: nn.Module,
    path: Path,
    *,
    width: int,
    height: int,
    metadata: Mapping[str, str],
    real_images: NDArray[np.uint8] | None = None,
) -> PlaceModel:
    """Write the model of a torch network on the CPU: (N, H, W, 3) uint8 RGB -> (N, D) float of unit length.

    A place network whose attention has a mask gets it as a second output, (N, h, w), and if its recipe guided that mask
    the metadata `ignores` names what the mask was taught to leave out.

    Descriptors of random and constant images, and of `real_images` (N, H, W, 3), must have a cosine of at least 0.9999
    between the file and torch, and masks may differ by 0.001. Raises ModelError, leaving what was at `path`, if that is
    not so, if the network breaks that contract or torch cannot export it.
    """

    def describe(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            descriptors = network(torch.from_numpy(images)).numpy()
        check_descriptors(descriptors, images, "the network")
        return descriptors

    network.eval()
    images = parity_images(width, height, real_images)
    dim = describe(images[:2]).shape[1]
    masked = _with_mask(network, images[:2])
    if masked is None:
        return _write(torch_graph(network, images[:2], dim), path, metadata, describe, images)
    graph = torch_graph(masked, images[:2], dim, masked.attend(images[:2]).shape[1:])
    return _write(graph, path, {**metadata, "ignores": _ignores(metadata)}, describe, images, masked.attend)


class _WithMask(nn.Module):
    """What a place network with a mask is exported as: images -> descriptors (N, D) and masks (N, h, w)."""

    def __init__(self, network: PlaceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        descriptors, mask = self.network.with_mask(images)
        assert mask is not None  # else it would not be exported as this
        return descriptors, mask[:, 0]

    @torch.no_grad()
    def attend(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The masks (N, h, w). Raises ModelError for one that leaves 0 to 1."""
        masks = self(torch.from_numpy(images))[1].numpy()
        if not (masks.min() >= 0 and masks.max() <= 1):
            raise ModelError(f"the mask of the network goes from {masks.min():.3g} to {masks.max():.3g}, not 0 to 1")
        return masks


@torch.no_grad()
def _with_mask(network: nn.Module, images: NDArray[np.uint8]) -> _WithMask | None:
    """None for a network without a mask."""
    if isinstance(network, PlaceNetwork) and network.with_mask(torch.from_numpy(images))[1] is not None:
        return _WithMask(network).eval()  # torch.onnx puts everything back into the mode of the outermost module
    return None


def _ignores(metadata: Mapping[str, str]) -> str:
    """The categories that the mask of a trained network was taught to ignore, empty if nothing taught it."""
    guidance = json.loads(metadata.get("recipe", "{}")).get("guidance") or {}
    return ", ".join(guidance.get("categories", ()))


def export_published(
    model: HubModel | OnnxModel, path: Path, *, name: str | None = None, real_images: NDArray[np.uint8] | None = None
) -> PlaceModel:
    """Write the model of a published network, which may be called otherwise. Raises as `export` does."""
    declaration = model.declaration
    images = parity_images(model.width, model.height, real_images)
    metadata = {
        "name": name or model.name,
        "licence": declaration.licence,
        "trained_on": declaration.trained_on,
        "published": declaration.model_dump_json(),
        "published_id": model.id,
    }
    if isinstance(model, OnnxModel):
        if path.exists() and path.samefile(model.path):
            raise ModelError(f"{path} is the published file itself: write to another name")
        graph = wrapped_graph(model, model.describe(images[:2]).shape[1])
    else:
        model.network.cpu()
        graph = torch_graph(model.network, images[:2], model.describe(images[:2]).shape[1])
    return _write(graph, path, metadata, model.describe, images)


def parity(describe: Describe, model: PlaceModel, images: NDArray[np.uint8]) -> float:
    """The smallest cosine between the descriptors of `describe` and of the model over (N, H, W, 3) images.

    Raises ModelError if the model does not run on them.
    """
    cosines = []
    for batch, found in _run(open_reference(model).describe, images):
        check_descriptors(found, batch, "the exported model")
        cosines.append(np.sum(describe(batch) * found, axis=1).min())
    return float(min(cosines))


def mask_difference(attend: Attend, model: PlaceModel, images: NDArray[np.uint8]) -> float:
    """The largest difference between the masks of `attend` and of the model over (N, H, W, 3) images.

    Raises ModelError if the model does not run on them.
    """
    engine = open_reference(model)
    return float(np.max([np.abs(attend(b) - masks).max() for b, (_, masks) in _run(engine.describe_with_mask, images)]))


def _run(model: Callable[[NDArray[np.uint8]], T], images: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], T]]:
    """Images and what a model makes of them: the first alone, as on the robot, the others in batches."""
    for batch in np.split(images, range(1, len(images), BATCH)):
        try:
            found = model(batch)
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(
                f"the exported model does not run on {len(batch)} images: is the batch size in its graph? "
                f"({first_line(error)})"
            ) from error
        yield batch, found


def parity_images(width: int, height: int, real_images: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """(N, H, W, 3): noise, a ramp, black, white, and the real ones if there are any."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    images = np.stack([*noise, ramp, np.zeros_like(ramp), np.full_like(ramp, 255)])
    return images if real_images is None else np.concatenate([images, real_images])


def read_images(folder: Path | None, width: int, height: int) -> NDArray[np.uint8] | None:
    """(N, H, W, 3) from all over a folder. Raises SourceError if it has none, ImageError for one that cannot be read."""
    if folder is None:
        return None
    paths = image_files(folder)
    if not paths:
        raise SourceError(f"{folder}: no images")
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, REAL_IMAGES).astype(int))]
    return np.stack([resize(read_image(path), width, height) for path in chosen])


def _write(
    proto: onnx.ModelProto,
    path: Path,
    metadata: Mapping[str, str],
    describe: Describe,
    images: NDArray[np.uint8],
    attend: Attend | None = None,
) -> PlaceModel:
    """Under another name until it is checked. Raises ModelError, leaving what was at `path`."""
    tools = f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    known = {**{key: value for key, value in metadata.items() if value}, "format": FORMAT, "exported_with": tools}
    try:
        with whole_file(path) as file:
            _rewrite(file, proto, known)
            model = PlaceModel.open(file.name)
            cosine = parity(describe, model, images)
            if not cosine >= LEAST_COSINE:
                raise ModelError(
                    f"the exported model differs from the network: cosine {cosine:.6f}, at least {LEAST_COSINE} is needed"
                )
            measured = f"cosine >= {cosine:.7f} over {len(images)} images"
            if attend is not None:
                difference = mask_difference(attend, model, images)
                if not difference <= MOST_MASK_DIFFERENCE:
                    raise ModelError(
                        f"the exported mask differs from the network's by {difference:.4f}, "
                        f"at most {MOST_MASK_DIFFERENCE} is allowed"
                    )
                measured += f", mask within {difference:.1e}"
            _rewrite(file, proto, known | {"parity": measured})
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error
    return PlaceModel.open(path)


def _rewrite(file: IO[bytes], proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Put the model with this metadata in place of what is in the file, for others to read."""
    helper.set_model_props(proto, dict(metadata))
    file.seek(0)
    file.truncate()
    file.write(proto.SerializeToString())
    file.flush()


def export_file(source: Path, path: Path, *, name: str | None = None, images: Path | None = None) -> PlaceModel:
    """Export what a file holds or describes, compared on the `images` of a folder too. Raises VprError."""
    check_writable(path.parent)
    if source.suffix in (".yaml", ".yml"):
        published = open_published(source)
        real_images = read_images(images, published.width, published.height)
        return export_published(published, path, name=name, real_images=real_images)
    if source.suffix != ".safetensors":
        raise ModelError(
            f"{source} must be network.safetensors of training.train or the YAML that describes a published model; "
            "an ONNX file needs one, for its preprocessing"
        )
    network, metadata = load_network(source), read_metadata(source)
    width, height = network.options.width, network.options.height
    return export(
        network,
        path,
        width=width,
        height=height,
        metadata=metadata | ({"name": name} if name else {}),
        real_images=read_images(images, width, height),
    )
