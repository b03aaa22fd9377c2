"""Each example is run as a user runs it, on a recording that the test makes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from closure_files import read_g2o
from hypothesis import given
from hypothesis import strategies as st
from page_code import run_code
from scipy.spatial.transform import Rotation
from small_worlds import EIGHT_PLACES, EVERY_FRAME, texture

from vpr_ros.bags.writer import BagWriter
from vpr_ros.config import Config, ros_yaml
from vpr_ros.types import Camera, MatchStatus, PlaceMatch, Verification

EXAMPLES = Path(__file__).parents[2] / "examples"
S = 10**9
SETTINGS = EVERY_FRAME | {"engine.backend": "onnxruntime"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, grid_model_path: Path) -> Path:
    path = tmp_path_factory.mktemp("settings") / "small.yaml"
    path.write_text(ros_yaml(Config().with_values(SETTINGS | {"model.path": str(grid_model_path)})))
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight places in a row, 20 m apart, then the first four again; odometry of the camera itself."""
    path = tmp_path_factory.mktemp("bag") / "drive"
    with BagWriter(path) as writer:
        for i, place in enumerate(EIGHT_PLACES):
            stamp, pose = (100 + i) * S, np.eye(4)
            pose[0, 3] = 1.0 * place
            writer.odometry("/odom", stamp, pose, "odom", "camera")
            writer.camera_info("/camera_info", stamp, Camera(300.0, 300.0, 160.0, 120.0, 320, 240))
            writer.image("/image", stamp, texture(place, 320, 240), "camera")
    return path


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    path = os.pathsep.join(
        [str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
    )  # this checkout, whatever is installed
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_closures_of_a_folder_with_the_shipped_model(tmp_path: Path) -> None:
    """Two rounds of twelve street views, an image a second: the second round closes the loop, image by image."""
    views = sorted((EXAMPLES.parent / "models" / "parity_images").glob("*.jpg"))[:12]
    for i, view in enumerate([*views, *views]):
        shutil.copy(view, tmp_path / f"{i}.jpg")
    found = [line.split() for line in run("closures_of_a_folder", tmp_path, 1.0).splitlines()]
    closures = [(int(words[1]), int(words[7])) for words in found]
    assert len(closures) >= 8
    assert all(query == match + 12 for query, match in closures)


def test_bag_to_g2o(bag: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "graph.g2o"
    said = run("bag_to_g2o", bag, out, "--odom-topic", "/odom", "--config", settings)
    graph = read_g2o(out)
    closures = {(edge.from_, edge.to) for edge in graph.edges if edge.to - edge.from_ == 8}
    assert closures == {(0, 8), (1, 9), (2, 10), (3, 11)}
    assert "4 loop closures in 13 images" in said


def test_closures_become_factors(bag: Path, settings: Path) -> None:
    pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    first, *pairs = run("closure_to_gtsam", bag, "--odom-topic", "/odom", "--config", settings).splitlines()
    assert first == "4 factors"
    assert pairs == ["0 <- 8", "1 <- 9", "2 <- 10", "3 <- 11"]


@given(seed=st.integers(0, 10**6), with_body=st.booleans())
def test_a_factor_measures_what_the_match_says(seed: int, with_body: bool) -> None:
    """Its error at any poses is Cauchy's loss of the squared Mahalanobis distance in the message's own terms."""
    gtsam = pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    rng = np.random.default_rng(seed)
    match_from_query = random_pose(rng)
    root = rng.normal(size=(6, 6))
    covariance = 1e-6 * (root @ root.T + np.eye(6))
    match = PlaceMatch(0, MatchStatus.ACCEPTED, verification=Verification(99, 1.0, 1.0, match_from_query, covariance))
    body_from_camera = random_pose(rng) if with_body else np.eye(4)
    factor = load("closure_to_gtsam").closure_factor(match, 1, 0, gtsam.Pose3(body_from_camera) if with_body else None)

    step = 1e-6 * rng.normal(size=6)  # x y z, then rotation about the axes of the match camera
    moved = match_from_query.copy()
    moved[:3, 3] += step[:3]
    moved[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix() @ moved[:3, :3]
    world_from_match = random_pose(rng)
    values = gtsam.Values()
    values.insert(0, gtsam.Pose3(world_from_match @ np.linalg.inv(body_from_camera)))
    values.insert(1, gtsam.Pose3(world_from_match @ moved @ np.linalg.inv(body_from_camera)))
    expected = np.log1p(step @ np.linalg.solve(covariance, step)) / 2
    assert factor.error(values) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_the_ten_lines_of_the_page_make_the_same_factor() -> None:
    gtsam = pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    rng = np.random.default_rng(0)
    pose, root = random_pose(rng), rng.normal(size=(6, 6))
    covariance = root @ root.T + np.eye(6)
    (x, y, z), (qx, qy, qz, qw) = pose[:3, 3], Rotation.from_matrix(pose[:3, :3]).as_quat()
    message = SimpleNamespace(
        has_pose=True,
        match_from_query=SimpleNamespace(
            pose=SimpleNamespace(
                position=SimpleNamespace(x=x, y=y, z=z), orientation=SimpleNamespace(x=qx, y=qy, z=qz, w=qw)
            ),
            covariance=covariance.ravel().tolist(),
        ),
        match=SimpleNamespace(stamp=0),
        query=SimpleNamespace(stamp=1),
    )
    graph = gtsam.NonlinearFactorGraph()
    page = run_code("slam_integration.md", "In ten lines", gtsam=gtsam, np=np, graph=graph, key=int)
    page["on_closure"](message)
    match = PlaceMatch(0, MatchStatus.ACCEPTED, verification=Verification(99, 1.0, 1.0, pose, covariance))
    assert graph.at(0).equals(load("closure_to_gtsam").closure_factor(match, 1, 0), 1e-9)


def test_a_match_without_a_pose_is_no_factor() -> None:
    pytest.importorskip("gtsam", reason="GTSAM is not installed (pip install gtsam)")
    closure_factor = load("closure_to_gtsam").closure_factor
    assert closure_factor(PlaceMatch(0, MatchStatus.ACCEPTED), 1, 0) is None
    assert closure_factor(PlaceMatch(0, MatchStatus.ACCEPTED, verification=Verification(99, 1.0, 1.0)), 1, 0) is None


def random_pose(rng: np.random.Generator) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3)
    return pose
