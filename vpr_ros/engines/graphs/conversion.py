"""A model of which chosen operators leave fp32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.graphs import fp16, int8
from vpr_ros.engines.graphs.equalisation import equalise
from vpr_ros.engines.graphs.onnx_graph import tidy
from vpr_ros.errors import EngineError
from vpr_ros.machine import Machine
from vpr_ros.model import PlaceModel


class Conversion:
    """A model on its way to fp16 or int8. `candidates`: name -> kind of the operators that may leave fp32.

    `content` is the model's file in fp32.
    """

    def __init__(self, model: PlaceModel, precision: str, images: NDArray[np.uint8] | None, symmetric: bool) -> None:
        try:
            import onnx
        except ImportError as error:
            fix = Machine().pip_install("onnx")
            raise EngineError(f"{precision} needs the package onnx to convert the model: {fix}") from error
        self._precision, self._images, self._symmetric = precision, images, symmetric
        self._metadata = dict(model.metadata)
        self.content = model.content
        with _refusals(precision):
            proto = onnx.load_from_string(model.content)
            if precision == "fp16":
                self._proto = tidy(proto)
                self.candidates = fp16.halvable(self._proto)
            elif precision == "int8":
                if images is None or not len(images):
                    raise EngineError(
                        "int8 is calibrated on images of your camera: set engine.images, or give --images"
                    )
                self._proto = tidy(int8.simplified(proto))
                equalise(self._proto, images)
                self.candidates = int8.quantisable(self._proto)
            else:
                raise EngineError(f"there is no graph in {precision!r}")

    def keeping(self, kept: frozenset[str]) -> dict[str, str]:
        """The candidates that may leave fp32 while these stay there; of fp16 only."""
        return fp16.halvable(self._proto, kept)

    def converted(self, chosen: dict[str, str]) -> bytes:
        """The ONNX file where the chosen of the candidates have left fp32."""
        from onnx import ModelProto, helper

        proto = ModelProto()
        proto.CopyFrom(self._proto)
        with _refusals(self._precision):
            if self._precision == "fp16":
                fp16.halve(proto, chosen)
            else:
                assert self._images is not None
                proto = int8.quantised(proto, chosen, self._images, self._symmetric)
            helper.set_model_props(proto, self._metadata)
            return proto.SerializeToString()


@contextmanager
def _refusals(precision: str) -> Iterator[None]:
    """What onnx and ONNX Runtime raise as EngineError; they have dozens of classes."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"the model cannot be converted to {precision}: {' '.join(str(error).split())}") from error
