"""Networks that training exports, in NVIDIA's own builder. The whole table: benchmarks/engine_builds.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_builds import NETWORKS, exported, quiet

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.tensorrt.rtx import TensorRtRtxBackend

BACKEND = TensorRtRtxBackend(capabilities=("sm86", "sm89"))
if reason := BACKEND.cannot_build():
    pytest.skip(reason, allow_module_level=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_is_read_and_built(name: str, tmp_path: Path) -> None:
    size = 126  # of nine patches, which are more than SALAD's clusters
    model = exported(NETWORKS[name], tmp_path / "network.onnx", size)
    assert (model.mask_size is not None) == name.endswith("mask")
    plan, layers = BACKEND.inspect(graph_of(model, "fp16"), BuildOptions("fp16", 2), quiet)
    assert len(plan) > 100_000
    heavy = [layer for layer in layers if {"Conv", "MatMul", "Gemm"} & set(layer.operators)]
    halves = [layer for layer in heavy if layer.takes == "fp16"]
    assert len(halves) > 0.6 * len(heavy) > 0
