"""What every library that can run a model has to offer. `vpr_ros.engines` chooses among them, checks and remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import EngineError

if TYPE_CHECKING:  # it opens models with ONNX Runtime, which is not needed here
    from vpr_ros.model import PlaceModel

BuildProgress = Callable[[str, float | None], None]
"""Called with what is being done and the share of it that is done (None: not known). What it raises ends the build."""


class UnsupportedPrecision(EngineError):
    """The device or library computes in others only: nothing is broken."""


class Engine(Protocol):
    """A model that is ready to run. Safe to call from any thread, one call at a time."""

    @property
    def model(self) -> PlaceModel: ...

    @property
    def name(self) -> str:
        """For people and diagnostics: `tensorrt fp16`."""

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 of the model's size -> (N, D) float32, unit length.

        Raises EngineError where the library fails while it runs.
        """

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""

    def close(self) -> None:
        """Give back threads and memory; nothing may be described afterwards."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What an engine is built for. `batch` is the most images in one call; larger ones are cut by the engine."""

    precision: str = "fp32"
    batch: int = 1
    threads: int = 0
    """Of the CPU; 0 lets the library choose."""
    cores: tuple[int, ...] = ()
    """CPU cores that the library's threads are bound to; () binds none."""


class Backend(Protocol):
    """One library on one kind of device."""

    @property
    def name(self) -> str:
        """Value of `engine.backend`."""

    @property
    def precisions(self) -> tuple[str, ...]: ...

    @property
    def needs_symmetric_int8(self) -> bool:
        """Whether zero must be zero in its int8 activations; others are nearer to fp32 and faster on a CPU."""

    def missing(self) -> str:
        """Why it cannot run here, as one clause that names the fix; empty if it can. Imports nothing that may crash."""

    def identity(self) -> Mapping[str, str]:
        """What a built engine depends on: `{"library": "TensorRT 10.3.0", "device": "Orin sm_87"}`.

        An engine that was built under another identity is built again.
        """

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: BuildProgress) -> bytes:
        """The content of an engine file. `graph` is the model in `options.precision`: an ONNX file.

        A library that compiles while it loads returns `graph`. Raises EngineError.
        """

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> Engine:
        """An engine from what `build` made. Raises EngineError for content that it refuses."""


@runtime_checkable
class BuildsAhead(Backend, Protocol):
    """A backend that can build on a machine that cannot run what it builds."""

    def cannot_build(self) -> str:
        """Why it cannot build here, as `missing`; empty if it can."""

    def identity_ahead(self) -> Mapping[str, str]:
        """What such an engine depends on, without a device. Raises EngineError where `cannot_build` says why."""
