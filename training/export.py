"""Export a checkpoint as the one-file model of vpr_ros, and check it against torch.

python -m training.export .training/first_model/checkpoint.pt models/vpr_mobilenetv2_gem_256.onnx
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import onnx
import torch

from training.models.place_network import PlaceNetwork
from vpr_ros.config import EngineConfig
from vpr_ros.engines import open_engine
from vpr_ros.errors import ModelError
from vpr_ros.model import FORMAT, PlaceModel

LEAST_COSINE = 0.9999


def load_network(checkpoint: Path) -> tuple[PlaceNetwork, dict[str, Any]]:
    """The network of a checkpoint and everything else in it. Raises ModelError if it is not one of ours."""
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = PlaceNetwork(saved["recipe"]["dim"])
        network.load_state_dict(saved.pop("state"))
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{checkpoint} is not a checkpoint of training.train: {reason}") from error
    return network.eval(), saved


def export(network: PlaceNetwork, path: Path, *, width: int, height: int, metadata: dict[str, str]) -> PlaceModel:
    """Write the ONNX file and return it checked.

    Raises ModelError, leaving no file, if it differs from torch: descriptors of random and constant images must have a
    cosine of at least 0.9999.
    """
    images = _parity_images(width, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the dynamo exporter has mistranslated GeM's learnable power (cosine 0.47): the older one, and a check, whichever it is
    torch.onnx.export(
        network,
        (images[:1],),
        str(path),
        input_names=["images"],
        output_names=["descriptors"],
        dynamic_axes={"images": {0: "n"}, "descriptors": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"format": FORMAT, **metadata})
    onnx.save(model, path)
    exported = PlaceModel.open(path)
    cosine = parity(network, exported, images)
    if cosine < LEAST_COSINE:
        path.unlink()
        raise ModelError(
            f"the exported model differs from torch: cosine {cosine:.6f}, at least {LEAST_COSINE} is needed"
        )
    print(f"parity with torch: smallest cosine {cosine:.7f} over {len(images)} images")
    return exported


def parity(network: PlaceNetwork, model: PlaceModel, images: torch.Tensor) -> float:
    """The smallest cosine between the descriptors of torch and of ONNX Runtime over (N, H, W, 3) uint8 images."""
    with torch.no_grad():
        expected = network(images).numpy()
    found = open_engine(model, EngineConfig()).describe(images.numpy())
    return float(np.sum(expected * found, axis=1).min())


def _parity_images(width: int, height: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    return torch.from_numpy(np.stack([*noise, ramp, np.zeros_like(ramp), np.full_like(ramp, 255)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("model", type=Path, help="the ONNX file to write")
    arguments = parser.parse_args()
    network, saved = load_network(arguments.checkpoint)
    recipe = saved["recipe"]
    metadata = {
        "name": recipe["name"],
        "recipe": json.dumps(recipe),
        "commit": saved["commit"],
        "trained_on": "; ".join(saved["sources"]),
    }
    model = export(network, arguments.model, width=recipe["width"], height=recipe["height"], metadata=metadata)
    print(f"wrote {model.path} ({len(model.content) / 1e6:.1f} MB), id {model.id[:12]}")


if __name__ == "__main__":
    main()
