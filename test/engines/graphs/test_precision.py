from __future__ import annotations

import builtins
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import DIM, HEIGHT, IMAGES, WIDTH

from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.graphs.sensitivity import sensitivity
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


def opened(tmp_path: Path, content: bytes) -> PlaceModel:
    path = tmp_path / "converted.onnx"
    path.write_bytes(content)
    return PlaceModel.open(path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_library_can_be_told_is_the_same_file(network: PlaceModel, precision: str) -> None:
    assert graph_of(network, precision) == network.content
    assert sensitivity(network, precision, IMAGES) == []


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_contract_and_the_metadata_are_kept(network: PlaceModel, tmp_path: Path, precision: str) -> None:
    converted = opened(tmp_path, graph_of(network, precision, IMAGES))
    assert (converted.dim, converted.width, converted.height) == (DIM, WIDTH, HEIGHT)
    assert converted.metadata == network.metadata
    engine = OnnxRuntimeEngine(converted)
    together = engine.describe(IMAGES)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(engine.describe(IMAGES[:1]), together[:1], atol=1e-3)


def test_without_onnx_the_fix_is_named(network: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_onnx(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    assert graph_of(network, "fp32") == network.content
    for precision in ("fp16", "int8"):
        with pytest.raises(EngineError, match=r"pip install onnx( 'numpy<2')?$"):
            graph_of(network, precision, IMAGES)


def test_a_graph_that_is_refused_is_one_line(network: PlaceModel) -> None:
    wrong = np.zeros((2, HEIGHT + 1, WIDTH, 3), np.uint8)
    with pytest.raises(EngineError, match=r"^the model cannot be converted to int8: .+$"):
        graph_of(network, "int8", wrong)
    with pytest.raises(EngineError, match="no graph in 'int4'"):
        graph_of(network, "int4", IMAGES)


def test_nothing_is_left_behind(network: PlaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    graph_of(network, "int8", IMAGES)
    graph_of(network, "fp16")
    assert list(tmp_path.iterdir()) == []
    assert network.path.read_bytes() == network.content
