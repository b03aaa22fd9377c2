"""The engine that docs/extending.md shows: built, compared with the reference and cached like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from page_code import run_code

from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.open import fitted, open_reference
from vpr_ros.model import PlaceModel


def test_the_engine(grid_model: PlaceModel, tmp_path: Path) -> None:
    backend = run_code("extending.md", "An engine")["EvaluatorBackend"]()
    assert backend.missing() == ""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(4)]
    builder = Builder(grid_model, open_reference(grid_model), fitted(grid_model, images), EngineCache(tmp_path), 0.0)
    engine, facts = builder.engine(backend, BuildOptions(), lambda text, share: None)
    assert facts.parity.cosine_min > 0.99999
    np.testing.assert_allclose(
        engine.describe(fitted(grid_model, images)), builder.reference.describe(builder.images), atol=1e-5
    )
    assert len(list(EngineCache(tmp_path).entries())) == 1
