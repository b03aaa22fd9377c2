from __future__ import annotations

import pytest
from small_networks import save_network

from vpr_ros.model import PlaceModel


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> PlaceModel:
    return save_network(tmp_path_factory.mktemp("network") / "network.onnx")
