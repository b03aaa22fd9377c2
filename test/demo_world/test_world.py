"""The demo world keeps the laws of a pinhole camera, so that what is measured in it can be trusted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_world import (
    APPEARANCES,
    DemoWorld,
    Label,
    Streets,
    View,
    loop_trajectory,
    random_appearance,
)
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.types import Camera, Pose

CAMERA = Camera(fx=200.0, fy=210.0, cx=150.25, cy=123.5, width=320, height=240)
"""Off-centre on purpose."""
DRIVE = [pose for _, pose in loop_trajectory(laps=1.0)]
MOVING = [Label.PERSON, Label.CAR]


@pytest.fixture(scope="module", autouse=True)
def _panda3d() -> None:
    pytest.importorskip("panda3d.core", reason="the demo world needs Panda3D: pip install vpr_ros[demo]")


@pytest.fixture(scope="module")
def world() -> Iterator[DemoWorld]:
    with DemoWorld(3, APPEARANCES["summer"], CAMERA) as world:
        yield world


def truth(world: DemoWorld, pose: Pose) -> tuple[View, np.ndarray, np.ndarray]:
    view = world.render(pose, ground_truth=True)
    assert view.depth is not None
    assert view.labels is not None
    return view, view.depth, view.labels


def pixels() -> np.ndarray:
    rows, columns = np.mgrid[: CAMERA.height, : CAMERA.width]
    return np.stack([columns, rows], axis=-1).astype(np.float64)


def back_project(depth: np.ndarray, pose: Pose) -> np.ndarray:
    rays = np.concatenate([pixels(), np.ones((*depth.shape, 1))], axis=-1) @ np.linalg.inv(CAMERA.matrix).T
    return depth[..., None] * rays @ pose[:3, :3].T + pose[:3, 3]


def project(points: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    image = seen @ CAMERA.matrix.T
    return image[..., :2] / image[..., 2:], seen[..., 2]


def looking_down(x: float, y: float, height: float) -> Pose:
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = x, y, height
    return pose


def test_depth_of_a_plane_at_a_known_distance_is_that_distance(world: DemoWorld) -> None:
    _, depth, labels = truth(world, looking_down(0.0, 0.0, 7.5))
    road = labels == Label.ROAD
    assert road.mean() > 0.3
    np.testing.assert_allclose(depth[road], 7.5, atol=1e-4)


def test_known_points_land_where_the_intrinsics_say(world: DemoWorld) -> None:
    """The kerbs of the south-west crossing, seen from above; corners are drawn on whole pixels."""
    height, half = 9.0, Streets().half_road_m
    _, _, labels = truth(world, looking_down(0.0, 0.0, height))
    row = labels[round(CAMERA.cy)] == Label.ROAD
    west_kerb = CAMERA.cx - CAMERA.fx * half / height
    assert np.flatnonzero(row)[0] == pytest.approx(west_kerb, abs=1.0)
    column = labels[:, round(CAMERA.cx)] == Label.ROAD
    south_kerb = CAMERA.cy + CAMERA.fy * half / height
    assert np.flatnonzero(column)[-1] == pytest.approx(south_kerb, abs=1.0)


def test_driving_on_brings_the_house_ahead_nearer_by_as_much(world: DemoWorld) -> None:
    pose = DRIVE[0].copy()
    pose[:3, :3] = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
    ahead = pose.copy()
    ahead[0, 3] += 6.0
    spot = (round(CAMERA.cy) - 12, round(CAMERA.cx))
    (_, far, labels), (_, near, _) = truth(world, pose), truth(world, ahead)
    assert labels[spot] == Label.BUILDING
    assert far[spot] - near[spot] == pytest.approx(6.0, abs=1e-3)


@pytest.mark.parametrize("at", [0, 60, 130, 200])
def test_depth_of_one_view_predicts_that_of_another(world: DemoWorld, at: int) -> None:
    pose, other = DRIVE[at], DRIVE[at + 2]
    (_, depth, _), (_, expected, _) = truth(world, pose), truth(world, other)
    finite = np.isfinite(depth)
    where, z = project(back_project(np.where(finite, depth, 1.0), pose), other)
    column, row = np.round(where).astype(int).transpose(2, 0, 1)
    inside = finite & (z > 0.5) & (column >= 0) & (column < CAMERA.width) & (row >= 0) & (row < CAMERA.height)
    error = np.abs(expected[row[inside], column[inside]] - z[inside]) / z[inside]
    assert inside.mean() > 0.4
    assert np.median(error) < 0.002
    assert np.mean(error < 0.05) > 0.9


def test_the_picture_and_the_labels_show_the_same_pixels(world: DemoWorld) -> None:
    """The sky of the picture fits that of the labels best where neither is shifted."""
    view, _, labels = truth(world, DRIVE[100])
    blue = view.image[..., 2].astype(np.float64) - view.image[..., 0]
    sky = (labels == Label.SKY).astype(np.float64)

    def fit(dx: int, dy: int) -> float:
        return float(np.corrcoef(np.roll(blue, (dy, dx), (0, 1))[8:-8, 8:-8].ravel(), sky[8:-8, 8:-8].ravel())[0, 1])

    scores = {(dx, dy): fit(dx, dy) for dx in range(-2, 3) for dy in range(-2, 3)}
    assert max(scores, key=lambda shift: scores[shift]) == (0, 0)


def test_a_street_has_road_below_houses_beside_and_sky_above(world: DemoWorld) -> None:
    view, depth, labels = truth(world, DRIVE[5])
    assert view.image.shape == (CAMERA.height, CAMERA.width, 3)
    assert (view.image.dtype, depth.dtype, labels.dtype) == (np.uint8, np.float32, np.uint8)
    assert np.mean(labels[-20:, 120:200] == Label.ROAD) > 0.9
    assert np.mean(labels == Label.BUILDING) > 0.1
    assert np.mean(labels[:40] == Label.SKY) > 0.1
    assert np.array_equal(np.isinf(depth), labels == Label.SKY)
    assert set(np.unique(labels)) <= set(Label)


def test_truth_is_optional_and_does_not_change_the_picture(world: DemoWorld) -> None:
    view = world.render(DRIVE[30])
    assert view.depth is None
    assert view.labels is None
    np.testing.assert_array_equal(view.image, world.render(DRIVE[30], ground_truth=True).image)


def test_same_arguments_same_pixels_even_in_two_worlds_at_once(world: DemoWorld) -> None:
    before = world.render(DRIVE[40]).image
    with DemoWorld(3, APPEARANCES["summer"], CAMERA) as twin:
        np.testing.assert_array_equal(before, twin.render(DRIVE[40]).image)
        np.testing.assert_array_equal(world.render(DRIVE[90]).image, twin.render(DRIVE[90]).image)
    np.testing.assert_array_equal(before, world.render(DRIVE[40]).image)


def test_another_look_changes_colours_but_nothing_that_stands(world: DemoWorld) -> None:
    with DemoWorld(3, APPEARANCES["winter"], CAMERA) as winter:
        for pose in DRIVE[::60]:
            (summer_view, summer_depth, summer), (winter_view, winter_depth, snowy) = (
                truth(world, pose),
                truth(winter, pose),
            )
            static = ~np.isin(summer, MOVING) & ~np.isin(snowy, MOVING)
            assert static.mean() > 0.5
            np.testing.assert_array_equal(summer[static], snowy[static])
            np.testing.assert_array_equal(summer_depth[static], winter_depth[static])
            assert np.mean(np.any(summer_view.image != winter_view.image, axis=2)) > 0.9


def test_another_seed_is_another_town_and_any_look_renders(world: DemoWorld) -> None:
    look = random_appearance(11)
    assert look == random_appearance(11) != random_appearance(12)
    with DemoWorld(4, look, CAMERA) as other:
        _, depth, _ = truth(other, DRIVE[70])
        assert np.mean(~np.isclose(depth, truth(world, DRIVE[70])[1], atol=0.5)) > 0.1
        assert other.render(DRIVE[70]).image.std() > 10.0


def test_the_camera_stays_on_the_road(world: DemoWorld) -> None:
    """On neither lap does anything come nearer than a metre along the optical axis."""
    for _, pose in loop_trajectory(laps=2.0)[::13]:
        _, depth, _ = truth(world, pose)
        assert depth.min() > 1.0


def test_a_closed_world_says_so() -> None:
    world = DemoWorld(0, camera=replace(CAMERA, width=64, height=48))
    world.close()
    world.close()
    with pytest.raises(VprError, match="closed"):
        world.render(DRIVE[0])


def test_distorted_cameras_are_refused() -> None:
    with pytest.raises(ConfigError, match="pinhole"):
        DemoWorld(0, camera=replace(CAMERA, distortion=(0.1,)))


def test_missing_panda3d_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "panda3d", None)
    with pytest.raises(VprError, match=r"pip install vpr_ros\[demo\]"):
        DemoWorld(0)


def test_the_second_lap_runs_beside_the_first() -> None:
    drive = loop_trajectory(laps=2.0, rate_hz=20.0, lateral_offset_m=(0.0, 0.7))
    positions = np.array([pose[:3, 3] for _, pose in drive])
    travelled = np.cumsum(np.linalg.norm(np.diff(positions, axis=0, prepend=positions[:1]), axis=1))
    first = positions[travelled < Streets().lap_m]
    second = positions[travelled > Streets().lap_m + 12.0]
    gaps = [np.linalg.norm(first - position, axis=1).min() for position in second]
    assert max(gaps) < 0.7 + 0.3
    assert np.median(gaps) == pytest.approx(0.7, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(
    laps=st.floats(0.1, 2.5),
    speed=st.floats(1.0, 15.0),
    rate=st.floats(0.5, 12.0),
    start=st.integers(0, 2 * 10**18),
    length=st.floats(32.0, 60.0),
)
def test_any_drive_is_made_of_rigid_poses_in_order(
    laps: float, speed: float, rate: float, start: int, length: float
) -> None:
    streets = Streets(block_length_m=length)
    drive = loop_trajectory(streets, laps=laps, speed_m_s=speed, rate_hz=rate, start_ns=start)
    stamps = [stamp for stamp, _ in drive]
    assert stamps[0] == start
    assert all(isinstance(stamp, int) for stamp in stamps)
    assert all(a < b for a, b in pairwise(stamps))
    poses = np.array([pose for _, pose in drive])
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-9)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert np.all(steps < 1.5 * speed / rate + 0.01)


@pytest.mark.parametrize("wrong", [{"laps": 0.0}, {"speed_m_s": -1.0}, {"rate_hz": 0.0}, {"lateral_offset_m": ()}])
def test_drives_that_lead_nowhere_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        loop_trajectory(**wrong)


def test_blocks_too_small_for_houses_are_refused() -> None:
    with pytest.raises(ConfigError, match="18 m"):
        Streets(block_depth_m=20.0)
