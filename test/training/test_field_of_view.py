"""Against METHODS 1.3's table and a slow grid integration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from training.labels.field_of_view import FieldOfView, planar_pose

VIEW = FieldOfView(angle_deg=90.0, radius_m=50.0, max_heading_deg=180.0)


def pose(right: float, forward: float, yaw_right_deg: float) -> np.ndarray:
    """Of camera 2 as camera 1 sees it, camera 1 looking north from the origin."""
    return np.array([right, forward, np.pi / 2 - np.radians(yaw_right_deg)])


ORIGIN = pose(0, 0, 0)


@pytest.mark.parametrize(
    ("right", "forward", "yaw", "psi"),
    [
        (0, 0, 0, 1.0), (0, 0, 10, 0.889), (0, 0, 20, 0.778), (0, 0, 45, 0.5), (0, 0, 60, 0.334), (0, 0, 90, 0.0),
        (0, 5, 0, 0.825), (0, 10, 0, 0.666), (0, 25, 0, 0.278), (0, 50, 0, 0.0),
        (5, 0, 0, 0.875), (10, 0, 0, 0.758), (40, 0, 0, 0.213),
        (10, 0, 30, 0.432), (-10, 0, 30, 0.778), (0, 25, 45, 0.341),
        (0, 60, 180, 0.807), (0, 40, 180, 0.408),
    ],
)  # fmt: skip
def test_the_table(right: float, forward: float, yaw: float, psi: float) -> None:
    assert VIEW.similarity(ORIGIN, pose(right, forward, yaw)) == pytest.approx(psi, abs=0.01)


def integrated(second: np.ndarray, cells: int = 500) -> float:
    """The slow way: count cells of the plane that lie in both sectors."""
    g = np.linspace(-55, 55, cells)
    x, y = np.meshgrid(g, g)

    def inside(p: np.ndarray) -> np.ndarray:
        turn = (np.arctan2(y - p[1], x - p[0]) - p[2] + np.pi) % (2 * np.pi) - np.pi
        return (np.hypot(x - p[0], y - p[1]) <= 50) & (np.abs(turn) <= np.pi / 4)

    first = inside(ORIGIN)
    return float((first & inside(second)).sum() / first.sum())


coordinates = st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(-180, 180))


@settings(max_examples=30, deadline=None)
@example((1e-291, 1e-291, -136.0))  # GEOS says 0.9 here
@given(coordinates)
def test_against_integration(where: tuple[float, float, float]) -> None:
    assert VIEW.similarity(ORIGIN, pose(*where)) == pytest.approx(integrated(pose(*where)), abs=0.01)


@example((0.0, 0.0, 0.0), (9.1e-11, 0.0, 0.0))  # OpenCV's polygon intersection says 0.36 here
@given(coordinates, coordinates)
def test_it_is_symmetric_and_does_not_depend_on_the_frame(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = pose(*a), pose(*b)
    psi = VIEW.similarity(first, second)
    assert 0.0 <= psi <= 1.0
    assert VIEW.similarity(second, first) == pytest.approx(psi, abs=1e-3)
    far = np.array([4.5e5, 5.4e6, 0.0])  # UTM coordinates
    assert VIEW.similarity(first + far, second + far) == pytest.approx(psi, abs=1e-3)


def test_cameras_that_face_each_other_see_nothing_in_common() -> None:
    gated = FieldOfView(angle_deg=90.0, radius_m=50.0, max_heading_deg=90.0)
    assert gated.similarity(ORIGIN, pose(0, 60, 180)) == 0.0


def test_planar_pose_of_kitti_and_of_a_world_with_z_up() -> None:
    turned = np.eye(4)
    turned[:3, 3] = 3.0, -1.0, 7.0
    x, y, heading = planar_pose(turned, np.array([0.0, -1.0, 0.0]))  # KITTI: z forward, y down
    assert (x, y) == pytest.approx((3.0, 7.0))
    assert heading == pytest.approx(np.pi / 2)
    east = np.eye(4)
    east[:3, :3] = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # looks along +x, up is +z
    assert planar_pose(east, np.array([0.0, 0.0, 1.0]))[2] == pytest.approx(0.0)
