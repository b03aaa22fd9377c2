"""Against the table of docs/methods.md 1.3, polygons of 2000 arc points, closed forms and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from training.data.image_set import ImageSet
from training.labels import field_of_view
from training.labels.field_of_view import FieldOfView
from vpr_ros.errors import SourceError

VIEW = FieldOfView(angle_deg=90.0, radius_m=50.0)


def pose(right: float, forward: float, yaw_right_deg: float) -> NDArray[np.float64]:
    """Of camera 2 as camera 1 sees it, camera 1 looking north from the origin."""
    return np.array([right, forward, np.pi / 2 - np.radians(yaw_right_deg)])


ORIGIN = pose(0, 0, 0)


def psi_of(view: FieldOfView, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(view.overlap(first[None], second[None])[0])


@pytest.mark.parametrize(
    ("right", "forward", "yaw", "ratio", "iou"),
    [  # what shared/reference/graded_similarity_oracle.py prints
        (0, 0, 0, 1.0, 1.0), (0, 0, 10, 0.889, 0.799), (0, 0, 20, 0.778, 0.636), (0, 0, 40, 0.556, 0.385),
        (0, 0, 45, 0.5, 0.333), (0, 0, 60, 0.334, 0.2), (0, 0, 90, 0.0, 0.0),
        (0, 5, 0, 0.825, 0.702), (0, 10, 0, 0.666, 0.499), (0, 20, 0, 0.391, 0.243), (0, 25, 0, 0.278, 0.162),
        (0, 30, 0, 0.182, 0.1), (0, 40, 0, 0.048, 0.025), (0, 50, 0, 0.0, 0.0),
        (5, 0, 0, 0.875, 0.778), (10, 0, 0, 0.758, 0.61), (20, 0, 0, 0.545, 0.375), (25, 0, 0, 0.45, 0.29),
        (30, 0, 0, 0.362, 0.221), (40, 0, 0, 0.213, 0.119), (10, 10, 0, 0.645, 0.476),
        (10, 0, 30, 0.432, 0.276), (-10, 0, 30, 0.778, 0.637), (0, 25, 45, 0.341, 0.205),
        (0, 60, 180, 0.807, 0.676), (0, 40, 180, 0.408, 0.256), (0, 30, 180, 0.23, 0.13),
    ],
)  # fmt: skip
def test_the_table(right: float, forward: float, yaw: float, ratio: float, iou: float) -> None:
    second = pose(right, forward, yaw)
    assert psi_of(VIEW, ORIGIN, second) == pytest.approx(ratio, abs=0.003)
    assert psi_of(FieldOfView(measure="iou"), ORIGIN, second) == pytest.approx(iou, abs=0.003)


def sector(pose: NDArray[np.float64], angle_deg: float, radius_m: float) -> shapely.Polygon:
    half = np.radians(angle_deg) / 2
    arc = pose[2] + np.linspace(-half, half, 2000)
    ring = np.stack([pose[0] + radius_m * np.cos(arc), pose[1] + radius_m * np.sin(arc)], axis=1)
    return shapely.Polygon(np.vstack([pose[:2], ring]))


poses = st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(-180, 180)).map(lambda p: pose(*p))
angles = st.one_of(st.floats(5, 180), st.sampled_from([60.0, 90.0, 180.0]))


@settings(max_examples=50, deadline=None)
@example(pose(0, 0, 0), pose(1e-291, 1e-291, -136), 90.0, "ratio")  # polygon intersection says 0.9 on the default grid
@example(pose(0, 0, 0), pose(9.1e-11, 0, 0), 90.0, "ratio")
@example(pose(0, 0, 0), pose(0, 20, 0), 90.0, "iou")
@example(pose(0, 0, 0), pose(20, 20, 0), 90.0, "ratio")  # along its own edge
@example(pose(0, 0, 0), pose(20, 0, 0), 180.0, "ratio")
@example(pose(0, 0, 0), pose(20, 0, 180), 180.0, "ratio")
@given(poses, poses, angles, st.sampled_from(["ratio", "iou"]))
def test_it_is_the_overlap_of_polygons(
    first: NDArray[np.float64], second: NDArray[np.float64], angle: float, measure: str
) -> None:
    a, b = sector(first, angle, 50.0), sector(second, angle, 50.0)
    shared = shapely.intersection(a, b, grid_size=1e-8).area
    whole = a.area if measure == "ratio" else a.area + b.area - shared
    view = FieldOfView(angle_deg=angle, radius_m=50.0, measure=measure)
    assert psi_of(view, first, second) == pytest.approx(shared / whole, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(poses, st.floats(-360, 360), angles)
def test_pure_rotation_has_a_closed_form(first: NDArray[np.float64], yaw: float, angle: float) -> None:
    second = first + np.array([0, 0, np.radians(yaw)])
    turn = abs((yaw + 180) % 360 - 180)
    assert psi_of(FieldOfView(angle_deg=angle), first, second) == pytest.approx(max(0, 1 - turn / angle), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(poses, poses, poses, angles)
def test_it_is_symmetric_within_0_and_1_and_does_not_depend_on_the_frame(
    first: NDArray[np.float64], second: NDArray[np.float64], frame: NDArray[np.float64], angle: float
) -> None:
    view = FieldOfView(angle_deg=angle)
    psi = psi_of(view, first, second)
    assert 0.0 <= psi <= 1.0
    assert psi_of(view, second, first) == pytest.approx(psi, abs=1e-6)
    cos, sin = np.cos(frame[2]), np.sin(frame[2])
    rotation = np.array([[cos, -sin], [sin, cos]])
    utm = np.array([4.5e5, 5.4e6])
    moved = [np.array([*(rotation @ p[:2] + frame[:2] + utm), p[2] + frame[2]]) for p in (first, second)]
    assert psi_of(view, *moved) == pytest.approx(psi, abs=1e-6)


@given(poses, angles)
def test_equal_poses_share_everything(first: NDArray[np.float64], angle: float) -> None:
    assert psi_of(FieldOfView(angle_deg=angle), first, first) == 1.0
    assert psi_of(FieldOfView(angle_deg=angle), first, first + np.array([0, 0, 2 * np.pi])) == pytest.approx(
        1.0, abs=1e-6
    )


@given(poses, st.floats(2, 100), st.floats(-4, 4), st.floats(-4, 4))
def test_nothing_is_shared_two_radii_apart(
    first: NDArray[np.float64], radii: float, bearing: float, heading: float
) -> None:
    away = radii * 50.0 * (1 + 1e-9)
    second = np.array([first[0] + away * np.cos(bearing), first[1] + away * np.sin(bearing), heading])
    assert psi_of(VIEW, first, second) == 0.0


def test_cameras_that_face_each_other_pass_no_gate() -> None:
    facing = pose(0, 60, 180)
    assert psi_of(FieldOfView(max_heading_deg=90.0), ORIGIN, facing) == 0.0
    assert psi_of(FieldOfView(max_heading_deg=180.0), ORIGIN, facing) == psi_of(VIEW, ORIGIN, facing) > 0.8


@pytest.mark.parametrize(("yaw", "psi"), [(45.0, 0.5), (-45.0, 0.5), (315.0, 0.5), (45.01, 0.0)])
def test_the_gate_includes_its_own_angle(yaw: float, psi: float) -> None:
    assert psi_of(FieldOfView(max_heading_deg=45.0), ORIGIN, pose(0, 0, yaw)) == pytest.approx(psi)


def street(count: int) -> ImageSet:
    """A drive along a street and back, 4 m between images."""
    rng = np.random.default_rng(0)
    back = np.arange(count) >= count // 2
    x = 4.0 * np.where(back, count - np.arange(count), np.arange(count))
    positions = np.stack([x, 3.0 * back], axis=1) + rng.normal(0, 0.3, (count, 2)) + [4.5e5, 5.4e6]
    headings = np.where(back, np.pi, 0.0) + rng.normal(0, 0.1, count)
    paths = [Path(f"{i}.jpg") for i in range(count)]
    return ImageSet.of("street", paths, positions_m=positions, headings_rad=headings)


@pytest.mark.parametrize("gate", [None, 60.0])
def test_the_matrix_holds_the_overlap_of_every_pair(monkeypatch: pytest.MonkeyPatch, gate: float | None) -> None:
    monkeypatch.setattr(field_of_view, "_CHUNK", 7)
    images = street(50)
    view = FieldOfView(max_heading_deg=gate)
    matrix = view.similarity(images)
    poses = np.column_stack([images.positions_m, images.headings_rad])
    dense = np.array([[psi_of(view, a, b) for b in poses] for a in poses], np.float32)
    np.fill_diagonal(dense, 0)
    np.testing.assert_allclose(matrix.toarray(), dense, atol=1e-6)
    assert matrix.dtype == np.float32
    assert matrix.has_sorted_indices
    assert abs(matrix - matrix.T).max() == 0.0
    assert (matrix.data > 0).all()
    assert 0 < matrix.nnz < 50 * 49
    assert (gate is None) == bool(matrix[10, 36] > 0)  # they look at each other


def test_an_image_without_a_pose_is_refused() -> None:
    images = street(5)
    images.positions_m[3, 0] = np.nan
    with pytest.raises(
        SourceError, match=r"street: 1 of 5 images have no position \(the first is image 3\); leave them"
    ):
        VIEW.similarity(images)
    lost = ImageSet.of("map", images.paths, positions_m=np.zeros((5, 2)))
    with pytest.raises(SourceError, match="map: 5 of 5 images have no heading"):
        VIEW.similarity(lost)


@pytest.mark.parametrize(
    "wrong",
    [{"angle_deg": 0}, {"angle_deg": 181}, {"radius_m": 0}, {"radius_m": np.inf}, {"measure": "dice"}, {"max_heading_deg": -1}],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FieldOfView(**wrong)
