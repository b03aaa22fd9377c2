from __future__ import annotations

from pathlib import Path

from small_networks import IMAGES, cosines, save_network

from vpr_ros.engines.graphs.precision import graph_of


def test_int8_brings_channels_of_different_strength_together(tmp_path: Path) -> None:
    model = save_network(tmp_path / "uneven.onnx", spread=1000)
    assert cosines(model, graph_of(model, "int8", IMAGES)).min() > 0.999  # quantised as they are: 0.991
