"""What NVIDIA's own parser and builder make of every model that ships and of every kind of network that training exports.

    python benchmarks/engine_builds.py                            # needs no GPU: pip install tensorrt-rtx-cu13 onnx
    python benchmarks/engine_builds.py --networks shipped --capabilities sm89
    python benchmarks/engine_builds.py --layers                   # also what was fused, by kind and type

TensorRT for RTX plans without a GPU, so a row says: read and planned by the real library. Nothing is run. A plan is for batches
of 1 to 4. Networks have random weights and images of 224 x 224 px (238 x 224 px where patches ask for it).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions, BuildProgress
from vpr_ros.engines.benchmark.process import in_process
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.open import fitted
from vpr_ros.engines.tensorrt.capabilities import parse_capabilities
from vpr_ros.engines.tensorrt.layers import Layer, summary
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel, shipped_model

SIZE = 224
BATCH = 4
CALIBRATION = 8
CAPABILITIES = ("sm75", "sm86", "sm89", "sm120", "sm86,sm89,sm120")
SHIPPED = "shipped"
NETWORKS: dict[str, dict[str, Any]] = {
    "mobilenet_v2 netvlad": {"backbone": {"name": "mobilenet_v2"}, "pool": {"kind": "netvlad", "clusters": 16}},
    "vgg16 netvlad": {"backbone": {"name": "vgg16"}, "pool": {"kind": "netvlad", "clusters": 64}},
    "resnet18 gem": {"backbone": {"name": "resnet18"}, "pool": {"kind": "gem"}},
    "resnet50 mixvpr": {
        "backbone": {"name": "resnet50", "last_block": "layer3"},
        "pool": {"kind": "mixvpr", "channels": 256, "rows": 4},
    },
    "mobilenet_v3_large gem": {"backbone": {"name": "mobilenet_v3_large"}, "pool": {"kind": "gem"}},
    "efficientnet_lite0 gem": {"backbone": {"name": "timm/efficientnet_lite0"}, "pool": {"kind": "gem"}},
    "vit_small salad": {
        "backbone": {"name": "timm/vit_small_patch14_dinov2.lvd142m"},
        "pool": {"kind": "salad"},
    },
    "resnet18 gem, mask": {
        "backbone": {"name": "resnet18"},
        "pool": {"kind": "gem"},
        "attention": {"kind": "crn"},
    },
}


def models(names: list[str], folder: Path) -> Iterator[tuple[str, PlaceModel]]:
    """The chosen models; networks are exported into `folder`."""
    for name in names:
        if name == SHIPPED:
            yield name, PlaceModel.open(shipped_model())
        else:
            yield name, exported(NETWORKS[name], folder / f"{name.replace(' ', '_')}.onnx")


def exported(options: dict[str, Any], path: Path, size: int = SIZE) -> PlaceModel:
    """A network with random weights as a file."""
    import torch

    import training  # noqa: F401  # first: it mends torchvision
    from training.export.place_model import export
    from training.models.place_network import NetworkOptions, PlaceNetwork

    torch.manual_seed(0)
    backbone = {"weights": "none", **options["backbone"]}
    plain = {"width": size, "height": size, "dim": 256, **options, "backbone": backbone}
    network = PlaceNetwork(NetworkOptions.model_validate(plain)).eval()
    return export(network, path, width=size, height=size, metadata={"name": path.stem})


def calibration(model: PlaceModel) -> NDArray[np.uint8]:
    return fitted(model, ())[:CALIBRATION]


def quiet(text: str, share: float | None) -> None:
    pass


def build(
    tell: BuildProgress, model: PlaceModel, precision: str, capabilities: str
) -> tuple[float, bytes, tuple[Layer, ...]]:
    """Seconds, plan and layers. Raises EngineError where the graph cannot be made, read or planned.

    In a process of its own: after a plan for sm75 that was refused, 1.7.1 fuses less in the next one of the process.
    """
    graph = graph_of(model, precision, calibration(model))
    backend = TensorRtRtxBackend(capabilities=parse_capabilities(capabilities))
    start = time.monotonic()
    plan, layers = backend.inspect(graph, BuildOptions(precision, BATCH), quiet)
    return time.monotonic() - start, plan, layers


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=[SHIPPED, *NETWORKS], choices=[SHIPPED, *NETWORKS])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument(
        "--capabilities", nargs="+", default=CAPABILITIES, help="each is one plan; commas for one of several"
    )
    parser.add_argument("--layers", action="store_true", help="print what was fused")
    options = parser.parse_args()
    if reason := TensorRtRtxBackend(capabilities=("sm89",)).cannot_build():
        print(reason, file=sys.stderr)
        return 2
    refused = []
    library = TensorRtRtxBackend(capabilities=("sm89",)).identity_ahead()["library"]
    print(f"Built by {library}, batches of 1 to {BATCH}; seconds on this CPU.\n")
    print_row("model", "precision", *options.capabilities)
    print_row("---", "---", *("---" for _ in options.capabilities))
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models(options.networks, Path(folder)):
            for precision in options.precisions:
                cells, layers = [], ()
                for capabilities in options.capabilities:
                    try:
                        seconds, plan, layers = in_process(quiet, build, model, precision, capabilities)
                        count = sum(bool(layer.takes) for layer in layers)
                        cells.append(f"{seconds:.1f} s, {len(plan) / 1e6:.1f} MB, {count} layers")
                    except EngineError as error:
                        cells.append("refused")
                        refused.append(f"{name} {precision} {capabilities}: {error}")
                print_row(name, precision, *cells)
                if options.layers:
                    print("\n".join(summary(layers)))
    print()
    for line in refused:
        print(f"- {line}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # training is no installed package
    sys.exit(main())
