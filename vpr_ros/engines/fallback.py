"""An engine that goes on with the reference when its library fails while it runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vpr_ros.engines.backend import Engine
from vpr_ros.errors import EngineError


class FallbackEngine:
    """Runs `engine`; from its first EngineError on, what `open_reference` opens. `warn` is told once."""

    def __init__(self, engine: Engine, open_reference: Callable[[], Engine], warn: Callable[[str], None]) -> None:
        self._engine, self._open_reference, self._warn = engine, open_reference, warn
        self._has_failed = False
        self.model = engine.model

    @property
    def name(self) -> str:
        return self._engine.name

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine.describe`."""
        try:
            return self._engine.describe(images)
        except EngineError as error:
            self._fall_back(error)
        return self._engine.describe(images)

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Engine.describe_with_mask`."""
        try:
            return self._engine.describe_with_mask(images)
        except EngineError as error:
            self._fall_back(error)
        return self._engine.describe_with_mask(images)

    def close(self) -> None:
        self._engine.close()

    def _fall_back(self, error: EngineError) -> None:
        """Raises the error again if the reference itself has failed."""
        if self._has_failed:
            raise error
        self._has_failed = True
        failed, self._engine = self._engine, self._open_reference()
        self._warn(f"{failed.name} failed ({error}): going on with {self._engine.name}")
        failed.close()
