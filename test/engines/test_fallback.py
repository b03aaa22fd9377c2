from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_backends import FakeBackend, FakeEngine
from masked_models import save_masked_grid_model

from vpr_ros.engines.fallback import FallbackEngine
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_library_that_fails_gives_way_to_the_reference_and_no_frame_is_lost(tmp_path: Path, with_mask: bool) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    warnings: list[str] = []
    backend = FakeBackend()
    fake = FakeEngine(model, backend)
    engine = FallbackEngine(fake, lambda: open_reference(model, 1), warnings.append)
    expected = open_reference(model, 1).describe_with_mask(IMAGES)

    def describe() -> tuple[np.ndarray, ...]:
        return engine.describe_with_mask(IMAGES) if with_mask else (engine.describe(IMAGES),)

    for found, right in zip(describe(), expected, strict=False):
        np.testing.assert_allclose(found, right, atol=1e-6)
    assert engine.name == "fake engine"
    backend.has_lost_its_device = True
    for _ in range(2):
        for found, right in zip(describe(), expected, strict=False):
            np.testing.assert_array_equal(found, right)
    assert warnings == ["fake engine failed (the device is lost): going on with onnxruntime"]
    assert fake.is_closed
    assert engine.name == "onnxruntime"


def test_a_reference_that_fails_too_is_an_error(grid_model: PlaceModel) -> None:
    backend = FakeBackend(has_lost_its_device=True)
    engine = FallbackEngine(FakeEngine(grid_model, backend), lambda: FakeEngine(grid_model, backend), lambda text: None)
    for _ in range(2):
        with pytest.raises(EngineError, match="the device is lost"):
            engine.describe(IMAGES)
