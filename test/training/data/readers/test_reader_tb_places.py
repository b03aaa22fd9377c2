"""TB-Places: sessions as sets, and one that asks another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from small_worlds import level_camera, touch

from training.data.readers.tb_places import TbPlaces, tb_places


def pose(x: float, y: float, heading_deg: float, length: float = 1.0) -> list[float]:
    camera = level_camera(x, y, np.radians(heading_deg))
    return [*camera[:3, 3], *(length * Rotation.from_matrix(camera[:3, :3]).as_quat()).tolist()]


def write_session(root: Path, name: str, poses: list[list[float]]) -> None:
    paths = [f"{name}/images/{i}.png" for i in range(len(poses))]
    touch(root, *paths)
    index = {"im_prefix": "/home/authors/TB_Places", "im_paths": paths, "poses": poses}
    (root / name / f"{name}.json").write_text(json.dumps(index))


def test_an_index_is_a_set(tmp_path: Path) -> None:
    write_session(tmp_path / "TB", "W17", [pose(1, 2, 0), pose(3, 4, 90, length=2.0), pose(5, 6, -135)])
    (images,) = TbPlaces(path="TB").read(tmp_path)
    assert images.name == "TB-Places W17"
    assert images.paths == tuple(tmp_path / f"TB/W17/images/{i}.png" for i in range(3))
    np.testing.assert_allclose(images.positions_m, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_allclose(np.degrees(images.headings_rad), [0, 90, -135], atol=1e-9)


def test_one_set_per_session(tmp_path: Path) -> None:
    write_session(tmp_path, "W17", [pose(0, 0, 0)])
    write_session(tmp_path, "W18", [pose(0, 0, 0)] * 2)
    sets = TbPlaces(index=("W18/W18.json", "W17/W17.json")).read(tmp_path)
    assert [(images.name, len(images)) for images in sets] == [("TB-Places W18", 2), ("TB-Places W17", 1)]


def test_one_session_asks_another(tmp_path: Path) -> None:
    write_session(tmp_path, "W17", [pose(0, 0, 0), pose(1.4, 0, 44), pose(1.4, 0, 46), pose(1.6, 0, 0)])
    write_session(tmp_path, "W18", [pose(0, 0, 0), pose(9, 9, 0)])
    protocol = tb_places(tmp_path)
    (part,) = protocol.parts
    assert [found.tolist() for found in part.positives] == [[0, 1], []]
    assert (part.queries.name, part.database.name) == ("TB-Places W18", "TB-Places W17")
    assert protocol.name == "TB-Places W18 -> TB-Places W17"
    assert protocol.rule == "within 1.5 m and 45 deg of heading"
    (wide,) = tb_places(tmp_path, radius_m=2, max_heading_deg=50).parts
    assert wide.positives[0].tolist() == [0, 1, 2, 3]
