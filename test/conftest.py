from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from small_worlds import save_grid_model

from vpr_ros.model import PlaceModel

collect_ignore = []
if importlib.util.find_spec("torch") is None:  # as on a robot, where `colcon test` must not end at the first error
    collect_ignore.append("training")
    print("test/training is skipped: there is no torch")

settings.register_profile("any machine", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("any machine")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Engines that tests build stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def grid_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_grid_model(tmp_path_factory.mktemp("model") / "grid.onnx")


@pytest.fixture(scope="session")
def grid_model(grid_model_path: Path) -> PlaceModel:
    return PlaceModel.open(grid_model_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the team's data is not at {SHARED_DATA}")
    return SHARED_DATA
