"""A backend that runs models with ONNX Runtime and misbehaves on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import BuildOptions, BuildProgress
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


class FakeEngine:
    """`turned` mixes each descriptor with the next dimension's: cosines fall below 1."""

    def __init__(self, model: PlaceModel, backend: FakeBackend) -> None:
        self.model, self.name, self._backend = model, f"{backend.name} engine", backend
        self._engine = OnnxRuntimeEngine(model, threads=1)
        self.is_closed = False

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.is_closed or self._backend.has_lost_its_device:
            raise EngineError("the device is lost")
        right = self._engine.describe(images)
        turned = right + self._backend.turned * np.roll(right, 1, axis=1)
        return turned / np.linalg.norm(turned, axis=1, keepdims=True)

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.describe(images), self._engine.describe_with_mask(images)[1]

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeBackend:
    name: str = "fake"
    precisions: tuple[str, ...] = ("fp32", "bf16")
    needs_symmetric_int8: bool = False
    version: str = "Fake 1.0"
    why_missing: str = ""
    turned: float = 0.0
    loads: bool = True
    builds: bool = True
    has_lost_its_device: bool = False
    built: list[BuildOptions] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)

    def missing(self) -> str:
        return self.why_missing

    def identity(self) -> Mapping[str, str]:
        return {"library": self.version, "device": "Abacus"}

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        progress("turning beads", 0.5)
        if not self.builds:
            raise EngineError("operator Bead is not known")
        self.built.append(options)
        return b"compiled " + graph

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> FakeEngine:
        if not self.loads or not content.startswith(b"compiled "):
            raise EngineError("not a file of mine")
        self.engines.append(FakeEngine(model, self))
        return self.engines[-1]
