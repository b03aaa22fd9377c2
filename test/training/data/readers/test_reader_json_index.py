"""The JSON index of the GCL paper's data, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_worlds import touch

from training.data.readers.json_index import read_index
from vpr_ros.errors import SourceError

TRANSLATION, QUATERNION = (0, 1, 2), (3, 4, 5, 6)
QUARTER_TURN = Rotation.from_euler("z", 90, degrees=True)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    paths, rotation = ["images/0.png", "images/1.png"], QUARTER_TURN.as_quat()
    poses = [[1, 2, 3, 0, 0, 0, 1], [4, 5, 6, *(2 * rotation).tolist()]]
    touch(tmp_path, *paths)
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"im_prefix": "/home/authors", "im_paths": paths, "poses": poses}))
    return path


def test_images_and_poses(index: Path) -> None:
    paths, poses = read_index(index, index.parent, TRANSLATION, QUATERNION)
    assert paths == [index.parent / "images/0.png", index.parent / "images/1.png"]
    np.testing.assert_allclose(poses[:, :3, 3], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(poses[:, :3, :3], [np.eye(3), QUARTER_TURN.as_matrix()], atol=1e-12)
    np.testing.assert_array_equal(poses[:, 3], [[0, 0, 0, 1]] * 2)


def test_the_columns_of_a_pose_may_be_others(index: Path) -> None:
    content = json.loads(index.read_text())
    content["poses"] = [[pose[6], *pose[3:6], *pose[:3]] for pose in content["poses"]]
    expected = read_index(index, index.parent, TRANSLATION, QUATERNION)[1]
    index.write_text(json.dumps(content))
    np.testing.assert_allclose(read_index(index, index.parent, (4, 5, 6), (1, 2, 3, 0))[1], expected)


def refused(index: Path, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_index(index, index.parent, TRANSLATION, QUATERNION)


def test_files_that_are_not_an_index(index: Path) -> None:
    index.write_text('{"im_paths": [],\n "poses": [,]}')
    refused(index, r"index\.json:2: not JSON")
    for content in ("[1, 2]", '{"im_paths": []}', '{"im_paths": "a.png", "poses": []}'):
        index.write_text(content)
        refused(index, r'index\.json: expected an index \{"im_paths": \[\.\.\.\], "poses": \[\.\.\.\]\}')
    index.write_text('{"im_paths": [], "poses": []}')
    refused(index, r"index\.json: has 0 im_paths and 0 poses")
    index.write_bytes(b"\xff\xfe")
    refused(index, r"index\.json: cannot be read")
    index.unlink()
    refused(index, r"index\.json: cannot be read: .*No such file")


@pytest.mark.parametrize("broken", [[0.0] * 6, [0.0] * 8, ["x"] * 7, [float("nan")] * 7, None, [[0.0] * 7]])
def test_entries_that_are_not_poses(index: Path, broken: object) -> None:
    content = json.loads(index.read_text())
    content["poses"][1] = broken
    index.write_text(json.dumps(content))
    refused(index, r"index\.json: poses\[1\]: expected 7 numbers, a translation and a quaternion")


def test_a_rotation_of_length_zero(index: Path) -> None:
    content = json.loads(index.read_text())
    content["poses"][1] = [1, 2, 3, 0, 0, 0, 0]
    index.write_text(json.dumps(content))
    refused(index, r"index\.json: poses\[1\]: its quaternion is zero")


def test_counts_that_differ_and_images_that_are_not_there(index: Path) -> None:
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "poses": content["poses"][:1]}))
    refused(index, r"index\.json: has 2 im_paths and 1 poses")
    index.write_text(json.dumps({**content, "im_paths": ["images/0.png", "1.png"]}))
    refused(index, r"index\.json: im_paths\[1\]: there is no .*/1\.png; set the reader's path")
