"""A robot with odometry of its own in a map of keyframes with exact poses: where it is, is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_worlds import texture

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.open import open_reference
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.recognition.relocalization import (
    Localization,
    LocalizationState,
    MapPose,
    Relocalizer,
    mean_pose,
    pose_by_match,
    query_places,
)
from vpr_ros.rotations import BODY_FROM_OPTICAL, rotation_angle_deg
from vpr_ros.types import (
    Frame,
    Keyframe,
    KeyframeRef,
    MatchStatus,
    OdometryFix,
    PlaceMatch,
    Pose,
    Verification,
)

LOST, LOCALIZED, UNKNOWN = LocalizationState.LOST, LocalizationState.LOCALIZED, LocalizationState.UNKNOWN


def pose(x: float = 0.0, y: float = 0.0, yaw_deg: float = 0.0, tilt: Sequence[float] = (0.0, 0.0)) -> Pose:
    made = np.eye(4)
    made[:3, :3] = cv2.Rodrigues(np.array([*tilt, np.radians(yaw_deg)]))[0]
    made[:2, 3] = x, y
    return made


MOUNT = pose(0.3, 0.1)
MOUNT[:3, :3] = BODY_FROM_OPTICAL
MAP_FROM_ODOM = pose(40.0, -7.0, 130.0)
SURE = np.diag([0.01] * 6)


class World:
    """A map whose keyframes stand at every metre of a street along x, and a robot whose odometry began somewhere else."""

    def __init__(self, length: int = 30, **changes: object) -> None:
        self.map = PlaceMap(8)
        self.refs = [self._remember(i, session="old", at=pose(float(i))) for i in range(length)]
        values = {"relocalization.max_distance_m": 1.0, "relocalization.lost_after_m": 10.0}
        values |= {name.replace("__", "."): value for name, value in changes.items()}
        self.relocalizer = Relocalizer(Config.from_flat(values), self.map)
        self.travelled_m = 0.0

    def _remember(self, id: int, session: str, at: Pose | None, segment: int = 0) -> KeyframeRef:
        descriptor = np.random.default_rng(id).normal(size=8).astype(np.float32)
        keyframe = Keyframe(
            KeyframeRef("", session, id, id * 10**9),
            descriptor / np.linalg.norm(descriptor),
            body_from_camera=MOUNT,
            odom_from_body=at,
            odometry_segment=segment,
        )
        self.map.add(keyframe)
        return keyframe.ref

    def answer(
        self,
        map_from_body: Pose | None,
        keyframe: KeyframeRef | None,
        seconds: float = 0.0,
        status: MatchStatus = MatchStatus.ACCEPTED,
        session: str = "new",
        has_odometry: bool = True,
        seen_from: Pose | None = None,
    ) -> PlaceMatch:
        """Of a robot that is at `map_from_body`, matched with a keyframe, and sees its pose to it (or that of `seen_from`)."""
        found, odometry = None, None
        if keyframe is not None and map_from_body is not None:
            there = self.map[keyframe]
            seen_at = map_from_body if seen_from is None else seen_from
            if there.odom_from_body is not None:
                relative = np.linalg.inv(there.odom_from_body @ MOUNT) @ seen_at @ MOUNT
                found = Verification(50, 0.9, 0.9, relative, SURE, scale_known=True)
        if map_from_body is not None and has_odometry:
            here = np.linalg.inv(MAP_FROM_ODOM) @ map_from_body
            odometry = OdometryFix(0, self.travelled_m, here, here)
        return PlaceMatch(
            round(seconds * 1e9),
            status,
            match=keyframe,
            verification=found,
            session=session,
            odometry=odometry,
            body_from_camera=MOUNT,
        )

    def follow(self, *arguments: Any, **options: Any) -> Localization | None:
        return self.relocalizer.follow(self.answer(*arguments, **options))


def nearest(world: World, x: float) -> KeyframeRef:
    return world.refs[min(max(round(x), 0), len(world.refs) - 1)]


def test_three_matches_that_agree_find_the_robot() -> None:
    world = World()
    for i in range(2):
        assert world.follow(pose(3.0 + i, 0.4, 10.0), nearest(world, 3.0 + i), i) is None
    assert world.relocalizer.now.state is UNKNOWN
    found = world.follow(pose(5.0, 0.4, 10.0), nearest(world, 5.0), 2)
    assert found is not None
    assert found.pose is not None
    assert found.state is LOCALIZED
    assert found.is_found
    assert found.match == nearest(world, 5.0)
    np.testing.assert_allclose(found.pose.map_from_body, pose(5.0, 0.4, 10.0), atol=1e-9)
    again = world.follow(pose(6.0, 0.4, 10.0), nearest(world, 6.0), 3)
    assert again is not None
    assert not again.is_found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 29), st.floats(-0.5, 0.5), st.floats(-180, 180)), min_size=3, max_size=8),
    st.floats(-100, 100),
    st.floats(-180, 180),
)
def test_whatever_the_path_and_the_odometry_the_pose_is_the_robots(
    path: list[tuple[float, float, float]], offset_m: float, turn_deg: float
) -> None:
    """`map_from_odom` is found again from matches at different places and headings."""
    world = World()
    origin = pose(offset_m, -offset_m, turn_deg, (0.2, -0.1))
    for i, (x, y, yaw_deg) in enumerate(path):
        here = pose(x, y, yaw_deg)
        answer = world.answer(here, nearest(world, x), i)
        odom = np.linalg.inv(origin) @ here
        found = world.relocalizer.follow(replace(answer, odometry=OdometryFix(0, 0.0, odom, odom)))
        if i < 2:
            assert found is None
        else:
            assert found is not None
            assert found.pose is not None
            np.testing.assert_allclose(found.pose.map_from_body, here, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=30, unique=True), st.floats(-180, 180))
def test_wrong_matches_do_not_find_it(order: list[int], heading_deg: float) -> None:
    """Each is at another distance from the truth than all others, so that no two agree."""
    world = World(length=200)
    for i, wrong in enumerate(order):
        here = pose(float(i), 0.0, heading_deg)
        match = world.refs[15 * wrong]
        assert world.follow(here, match, i, seen_from=pose(15.0 * wrong, 0.0, heading_deg)) is None
    assert world.relocalizer.now.state is UNKNOWN


def test_one_wrong_match_among_right_ones_moves_nothing() -> None:
    world = World()
    for i in range(4):
        world.follow(pose(float(i)), nearest(world, i), i)
    before = world.relocalizer.now
    assert world.follow(pose(4.0), world.refs[20], 4, seen_from=pose(20.0)) is None
    assert world.relocalizer.now is before
    found = world.follow(pose(5.0), nearest(world, 5), 5)
    assert found is not None
    assert found.pose is not None
    assert not found.is_found
    np.testing.assert_allclose(found.pose.map_from_body, pose(5.0), atol=1e-9)


def test_answers_that_are_no_closures_are_no_evidence() -> None:
    world = World()
    for status in MatchStatus:
        world.relocalizer.restart()
        found = [world.follow(pose(float(i)), nearest(world, i), i, status=status) for i in range(3)]
        is_evidence = status in (MatchStatus.ACCEPTED, MatchStatus.COOLDOWN)
        assert (found[-1] is not None) == is_evidence, status


def test_closures_of_the_running_drive_are_no_evidence() -> None:
    """Its keyframes are in the frame of its own odometry: they know nothing of an older map."""
    world = World()
    for i, session in enumerate(("old", "old+", "old++")):
        assert world.follow(pose(float(i)), nearest(world, i), i, session=session) is None


def test_a_robot_that_was_carried_is_found_where_it_is() -> None:
    world = World()
    for i in range(5):
        world.follow(pose(float(i)), nearest(world, i), i)
    carry = pose(20.0) @ np.linalg.inv(pose(5.0))  # odometry stands still meanwhile
    found = []
    for i in range(5, 8):
        answer = world.answer(pose(float(i)), None, i)
        moved = world.answer(carry @ pose(float(i)), nearest(world, i + 15), i)
        found.append(world.relocalizer.follow(replace(moved, odometry=answer.odometry)))
    assert found[:2] == [None, None]
    last = found[2]
    assert last is not None
    assert last.is_found
    assert last.pose is not None
    assert "15.0 m from where odometry has the robot" in last.reason
    np.testing.assert_allclose(last.pose.map_from_body, pose(22.0), atol=1e-9)


def test_the_robot_is_lost_after_a_path_without_matches_and_found_again() -> None:
    world = World()
    for i in range(3):
        world.follow(pose(float(i)), nearest(world, i), i)
    for i in range(3, 40):
        world.travelled_m = float(i - 2)
        said = world.follow(pose(float(i)), None, i, status=MatchStatus.LOW_SCORE)
        assert (said is not None) == (world.travelled_m == 11.0), world.travelled_m
        if said is not None:
            assert said.state is LOST
            assert said.reason == "no matches that agree for 11 m"
            assert said.match == nearest(world, 2)
    found = [world.follow(pose(float(i)), nearest(world, i), 40 + i) for i in range(3)]
    assert found[2] is not None
    assert found[2].is_found


def test_a_robot_that_stands_is_not_lost_however_long() -> None:
    world = World()
    for i in range(3):
        world.follow(pose(2.0), nearest(world, 2), i)
    assert world.follow(pose(2.0), None, 86400.0, status=MatchStatus.LOW_SCORE) is None
    assert world.relocalizer.now.state is LOCALIZED


def test_without_odometry_time_decides() -> None:
    world = World(relocalization__lost_after_s=20.0)
    for i in range(3):
        world.follow(pose(2.0), nearest(world, 2), i, has_odometry=False)
    assert world.relocalizer.now.state is LOCALIZED
    assert world.follow(pose(2.0), None, 22.0, status=MatchStatus.LOW_SCORE, has_odometry=False) is None
    lost = world.follow(pose(2.0), None, 22.1, status=MatchStatus.LOW_SCORE, has_odometry=False)
    assert lost is not None
    assert lost.state is LOST


def test_without_odometry_the_newest_view_alone_has_the_pose() -> None:
    world = World()
    found = [world.follow(pose(2.0 + 0.3 * i), nearest(world, 2), i, has_odometry=False) for i in range(3)][-1]
    assert found is not None
    assert found.pose is not None
    np.testing.assert_allclose(found.pose.map_from_body, pose(2.6), atol=1e-9)


def test_a_map_without_poses_tells_the_place() -> None:
    """Matches agree where their keyframes are neighbours."""
    world = World(length=0)
    refs = [world._remember(i, "old", None) for i in range(40)]
    assert world.follow(pose(), refs[3]) is None
    assert world.follow(pose(), refs[30]) is None
    assert world.follow(pose(), refs[4]) is None
    found = world.follow(pose(), refs[5])
    assert found is not None
    assert found.is_found
    assert found.pose is None
    assert found.match == refs[5]


def test_another_drives_odometry_is_another_frame() -> None:
    """Its poses are none of the map's frame, unless the user knows that all are in one."""
    for is_shared in (False, True):
        world = World(relocalization__shared_frame=is_shared)
        second = [world._remember(100 + i, "second", pose(float(i))) for i in range(5)]
        jumped = [world._remember(200 + i, "old", pose(float(i)), segment=1) for i in range(5)]
        for refs in (second, jumped):
            world.relocalizer.restart()
            found = [world.follow(pose(float(i)), refs[i], i) for i in range(3)][-1]
            assert found is not None
            assert (found.pose is not None) == is_shared


def test_the_frame_of_a_fleets_map_is_the_robots_own() -> None:
    """Though another robot's keyframes were there first; a robot that never drove in it takes the oldest."""
    place_map = PlaceMap(8)
    for robot in ("r2", "r1"):
        for i in range(3):
            descriptor = np.eye(8, dtype=np.float32)[i]
            ref = KeyframeRef(robot, f"of {robot}", i)
            place_map.add(Keyframe(ref, descriptor, body_from_camera=MOUNT, odom_from_body=pose(float(i))))
    for robot, own in (("r1", "r1"), ("r2", "r2"), ("r3", "r2")):
        relocalizer = Relocalizer(Config.from_flat({"node.robot": robot}), place_map)
        has_pose = {
            name: relocalizer.pose_of(KeyframeRef(name, f"of {name}", 1), None, MOUNT, "") for name in ("r1", "r2")
        }
        assert {name for name, known in has_pose.items() if known is not None} == {own}


def test_restarting_forgets() -> None:
    world = World()
    for i in range(3):
        world.follow(pose(float(i)), nearest(world, i), i)
    world.relocalizer.restart()
    assert world.relocalizer.now.state is UNKNOWN
    assert world.follow(pose(3.0), nearest(world, 3), 3) is None


def test_the_number_of_matches_may_change_while_it_runs() -> None:
    world = World()
    world.follow(pose(1.0), nearest(world, 1), 1)
    world.relocalizer.reconfigure(Config.from_flat({"relocalization.min_matches": 2}))
    assert world.follow(pose(2.0), nearest(world, 2), 2) is not None


# --- poses ------------------------------------------------------------------------------------------------------------


def keyframe_at(at: Pose | None, camera_name: str = "", mount: Pose | None = MOUNT) -> Keyframe:
    ref = KeyframeRef("", "old", 0, camera_name=camera_name)
    return Keyframe(ref, np.ones(1, np.float32), body_from_camera=mount, odom_from_body=at)


def test_the_covariance_is_that_of_errors_as_they_are_drawn() -> None:
    """Against a thousand draws of the relative pose, for a camera far from the body's origin."""
    rng = np.random.default_rng(0)
    there = keyframe_at(pose(5.0, 2.0, 40.0, (0.1, 0.2)))
    mount = pose(1.5, -0.5, 20.0)
    mount[:3, :3] = mount[:3, :3] @ BODY_FROM_OPTICAL
    root = rng.normal(size=(6, 6)) * 0.01
    covariance = root @ root.T
    relative = pose(0.4, -0.2, 15.0, (0.05, 0.3))
    exact = pose_by_match(there, Verification(0, 0, 0, relative, covariance), mount, "", 5.0)
    assert exact is not None
    errors = []
    for error in rng.multivariate_normal(np.zeros(6), covariance, size=2000):
        drawn = relative.copy()
        drawn[:3, :3] = cv2.Rodrigues(error[3:])[0] @ relative[:3, :3]
        drawn[:3, 3] += error[:3]
        found = pose_by_match(there, Verification(0, 0, 0, drawn, covariance), mount, "", 5.0)
        assert found is not None
        turn = cv2.Rodrigues(found.map_from_body[:3, :3] @ exact.map_from_body[:3, :3].T)[0].ravel()
        errors.append([*(found.map_from_body[:3, 3] - exact.map_from_body[:3, 3]), *turn])
    scale = np.sqrt(np.outer(np.diag(exact.covariance), np.diag(exact.covariance)))
    np.testing.assert_allclose(np.cov(np.array(errors).T) / scale, exact.covariance / scale, atol=0.12)


@pytest.mark.parametrize("missing", ["relative pose", "query mount", "match mount"])
def test_where_something_is_not_known_the_keyframe_stands_for_the_robot(missing: str) -> None:
    there = keyframe_at(pose(3.0, 1.0, 30.0), mount=None if missing == "match mount" else MOUNT)
    found = Verification(40, 0.9, 0.9, None if missing == "relative pose" else pose(0.5), SURE)
    coarse = pose_by_match(there, found, None if missing == "query mount" else MOUNT, "", 5.0)
    assert coarse is not None
    np.testing.assert_allclose(coarse.map_from_body, pose(3.0, 1.0, 30.0))
    np.testing.assert_allclose(np.sqrt(np.diag(coarse.covariance)), [5.0] * 3 + [np.radians(20.0)] * 3)


def test_another_camera_of_the_rig_looks_another_way() -> None:
    there = keyframe_at(pose(3.0), camera_name="rear")
    assert pose_by_match(there, None, MOUNT, "front", 5.0) is None
    assert pose_by_match(there, None, MOUNT, "rear", 5.0) is not None
    assert pose_by_match(keyframe_at(None), None, MOUNT, "", 5.0) is None


def test_the_mean_of_equally_sure_poses_is_in_the_middle_and_no_surer() -> None:
    mean = mean_pose([MapPose(pose(1.0, 0.0, 10.0), SURE), MapPose(pose(2.0, 1.0, 20.0), SURE)])
    np.testing.assert_allclose(mean.map_from_body, pose(1.5, 0.5, 15.0), atol=1e-6)
    np.testing.assert_allclose(mean.covariance, SURE, atol=1e-8)


def test_what_one_view_does_not_show_is_taken_from_the_other() -> None:
    """Each knows one direction well: the mean is right along both, and about as sure there."""
    along_x, along_y = np.diag([1e-4, 25.0, 1e-4, 1e-4, 1e-4, 1e-4]), np.diag([25.0, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])
    mean = mean_pose([MapPose(pose(1.0, 9.0), along_x), MapPose(pose(7.0, 2.0), along_y)])
    np.testing.assert_allclose(mean.map_from_body[:2, 3], [1.0, 2.0], atol=1e-3)
    assert np.diag(mean.covariance)[:2].max() < 3e-4


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_mean_does_not_depend_on_which_pose_is_the_first(seed: int, count: int) -> None:
    """But for what is of second order in the angle between them."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(count, 6, 6)) * 0.1
    base = pose(*rng.normal(size=2) * 10, rng.uniform(-180, 180), tuple(rng.normal(size=2)))
    poses = [
        MapPose(base @ pose(*rng.normal(size=2) * 0.1, rng.normal()), root @ root.T + 0.01 * np.eye(6))
        for root in roots
    ]
    first, last = mean_pose(poses), mean_pose(poses[::-1])
    assert np.linalg.norm(first.map_from_body[:3, 3] - last.map_from_body[:3, 3]) < 0.01
    assert rotation_angle_deg(first.map_from_body[:3, :3].T @ last.map_from_body[:3, :3]) < 0.5


# --- questions about an image -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(grid_model: PlaceModel) -> Engine:
    return open_reference(grid_model, threads=1)


def test_a_picture_is_found_among_all_places_and_changes_nothing(engine: Engine) -> None:
    config = Config.from_flat(
        {"keyframe.min_interval_s": 0.0, "keyframe.max_similarity": 1.0, "match.island_gap": 0, "match.top_k": 2}
    )
    detector = LoopDetector(config, engine, session="drive")
    for place in range(6):
        image, at = texture(place, 320, 240), pose(10.0 * place)
        detector.process(Frame(place * 10**9, image, None, at, "camera"))
    relocalizer = Relocalizer(config, detector.map)
    before = detector.map.names
    query = Frame(0, np.ascontiguousarray(np.roll(texture(4, 320, 240), 3, axis=1)))
    ((descriptor, _),) = detector.describe([query])
    places = query_places(detector, relocalizer, query, descriptor, 3)
    assert [place.is_verified for place in places] == [True, False, False]
    best = places[0]
    assert best.nearest.keyframe.stamp_ns == 4 * 10**9
    assert best.pose is not None
    assert best.verification is not None
    assert best.verification.inliers >= 30
    np.testing.assert_allclose(best.pose.map_from_body, pose(40.0))
    assert places[1].nearest.similarity >= places[2].nearest.similarity
    assert detector.map.names == before
    assert query_places(LoopDetector(config, engine), relocalizer, query, descriptor, 3) == []
