"""The checks of `vpr benchmark --check` on one backend, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import Backend
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.benchmark.checks import FAIL, check_engine
from vpr_ros.engines.benchmark.measure import build_engine
from vpr_ros.model import PlaceModel


def failures(backend: Backend, model: PlaceModel, images: NDArray[np.uint8], folder: Path) -> list[str]:
    """What fails in each precision, in calls of 1 to 5 images. A model with a mask is too small for int8."""

    def quiet(text: str, share: float | None) -> None:
        pass

    found, settings = [], Settings(EngineConfig(), folder / "engines")
    for precision in backend.precisions:
        if precision == "int8" and model.mask_size is not None:
            continue
        case = Case(model, images, backend, precision, 4)
        file, _ = build_engine(quiet, case, settings)
        checks = check_engine(quiet, case, settings, file)
        found += [f"{case}: {check.name}: {check.clause}" for check in checks if check.result == FAIL]
    return found
