"""What each attention module costs on the robot: parameters, FLOPs, and the time of an exported model against the baseline's.

    python benchmarks/attention_cost.py
    python benchmarks/attention_cost.py --backbone vgg16 --size 640x480

MobileNetV2 up to stride 16 with NetVLAD unless it is told otherwise, random weights, ONNX Runtime with two threads. Models take
turns in every round; only ratios of their times are printed.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from distillation_cost import by_name, flops
from training_cost import size

# isort: split
import numpy as np
import torch

from training.export.place_model import export
from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.engines.open import open_reference

ROUNDS = 31
THREADS = 2
ROWS = {
    "baseline": None,
    "squeeze-and-excitation": {"kind": "se"},
    "BAM": {"kind": "bam"},
    "CBAM": {"kind": "cbam"},
    "CRN": {"kind": "crn"},
    "de-attention": {"kind": "deattention", "squeeze_excitation": False},
    "de-attention + SE": {"kind": "deattention"},
}
LAST_BLOCKS = {"mobilenet_v2": "features.13"}
"""Where the feature map has a stride of 16; other backbones end where their papers cut them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mobilenet_v2", help="of torchvision (default: %(default)s)")
    parser.add_argument("--size", type=size, default="320x240", help="of images in the network, px (default: 320x240)")
    options = parser.parse_args()
    width, height = options.size
    backbone = {"name": options.backbone, "weights": "none", "last_block": LAST_BLOCKS.get(options.backbone)}
    content = {"width": width, "height": height, "backbone": backbone, "pool": {"kind": "netvlad"}}
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    networks, engines = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, attention in ROWS.items():
            torch.manual_seed(0)
            networks[name] = PlaceNetwork(NetworkOptions.model_validate({**content, "attention": attention})).eval()
            model = export(networks[name], Path(folder) / "model.onnx", width=width, height=height, metadata={})
            engines[name] = open_reference(model, THREADS)
    seconds = by_name(ROUNDS, {name: partial(engine.describe, images) for name, engine in engines.items()})
    channels, size_of_map = networks["baseline"].backbone.channels, networks["baseline"].backbone.size
    print(
        f"{options.backbone}, {width}x{height}, a map of {channels} x {size_of_map[0]} x {size_of_map[1]}, NetVLAD-64"
    )
    print(f"{'':<24}{'parameters':>14}{'MFLOPs':>10}{'time / baseline':>18}   least to most of {ROUNDS} rounds")
    for name, network in networks.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        ratio = np.divide(seconds[name], seconds["baseline"])
        of_ratio = f"{np.median(ratio):>18.3f}   {ratio.min():.2f} to {ratio.max():.2f}"
        print(f"{name:<24}{count:>14,}{flops(network) / 1e6:>10,.1f}{of_ratio}")


if __name__ == "__main__":
    main()
