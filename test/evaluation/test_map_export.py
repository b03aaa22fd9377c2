from __future__ import annotations

from pathlib import Path

import numpy as np
from closure_files import read_g2o
from small_maps import some_keyframes

from vpr_ros.evaluation.map_export import export_map
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail, Verification


def line_of_places(robot: str = "anna") -> PlaceMap:
    """Four keyframes a metre apart on a line, the camera half a metre ahead of the body; the last closes with the first."""
    result = PlaceMap(2)
    ahead, metres = np.eye(4), np.eye(4)
    ahead[0, 3] = 0.5
    for i in range(4):
        pose = metres.copy()
        pose[0, 3] = i
        angle = 0.1 * i
        result.add(
            Keyframe(
                KeyframeRef(robot, "../monday", i, 10**9 * (i + 1), "front"),
                np.array([np.cos(angle), np.sin(angle)], np.float32),
                Thumbnail(b"jpeg %d" % i, 0.5),
                None,
                ahead,
                pose,
            )
        )
    relative = np.eye(4)
    relative[0, 3] = 1.0
    result.link(result.names[0], result.names[3], Verification(30, 0.5, 0.5, relative, 0.01 * np.eye(6), True))
    return result


def test_the_pose_graph_has_the_closures_and_the_steps_between_keyframes(tmp_path: Path) -> None:
    assert export_map(line_of_places(), tmp_path, ["g2o"]) == [tmp_path / "graph.g2o"]
    graph = (tmp_path / "graph.g2o").read_text()
    vertices = [line.split() for line in graph.splitlines() if line.startswith("VERTEX")]
    edges = [line.split() for line in graph.splitlines() if line.startswith("EDGE")]
    assert [float(vertex[2]) for vertex in vertices] == [0.5, 1.5, 2.5, 3.5]
    assert [(edge[1], edge[2], float(edge[3])) for edge in edges] == [
        ("0", "3", 1.0), ("0", "1", 1.0), ("1", "2", 1.0), ("2", "3", 1.0),
    ]  # fmt: skip
    assert read_g2o(tmp_path / "graph.g2o")


def test_trajectories_are_of_the_camera_and_stay_in_the_folder(tmp_path: Path) -> None:
    export_map(line_of_places(), tmp_path / "out", ["tum"])
    (path,) = (tmp_path / "out" / "trajectories").iterdir()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    rows = np.loadtxt(path)
    np.testing.assert_allclose(rows[:, 0], [1, 2, 3, 4])
    np.testing.assert_allclose(rows[:, 1:], [[x, 0, 0, 0, 0, 0, 1] for x in (0.5, 1.5, 2.5, 3.5)])
    assert path.read_text().startswith("# camera in the frame of the odometry")


def test_pairs_name_pictures_that_are_there(tmp_path: Path) -> None:
    export_map(line_of_places(), tmp_path, ["pairs"])
    (pair,) = (tmp_path / "pairs.txt").read_text().splitlines()
    first, second = ((tmp_path / "images" / name).read_bytes() for name in pair.split())
    assert (first, second) == (b"jpeg 0", b"jpeg 3")
    assert len(list((tmp_path / "images").rglob("*.jpg"))) == 4


def test_arrays_hold_all_without_pickles(tmp_path: Path) -> None:
    place_map = line_of_places()
    bare = some_keyframes(1, dim=2)[0]
    place_map.add(bare)
    export_map(place_map, tmp_path, ["npz"])
    with np.load(tmp_path / "keyframes.npz", allow_pickle=False) as arrays:
        assert arrays["session"].tolist() == ["../monday"] * 4 + ["first"]
        assert arrays["links"].tolist() == [[0, 3]]
        np.testing.assert_array_equal(arrays["descriptors"], [k.descriptor for k in place_map])
        assert np.isnan(arrays["odom_from_body"][4]).all()


def test_an_empty_map_makes_empty_files(tmp_path: Path) -> None:
    assert len(export_map(PlaceMap(4), tmp_path)) == 4
