"""A map as files that other tools read: trajectories, pairs of images, a pose graph, arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vpr_ros.evaluation.closure_files import OdometryPath, format_stamp, write_g2o
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.rotations import matrix_to_quaternion
from vpr_ros.types import FrameRef, Keyframe, KeyframeRef, MatchStatus, PlaceMatch, Pose, Verification

FORMATS = ("g2o", "tum", "pairs", "npz")


def export_map(
    place_map: PlaceMap, folder: Path, formats: Iterable[str] = FORMATS, drift_per_m: float = 0.1
) -> list[Path]:
    """Write some of `FORMATS` into a folder; the files and folders that were made.

    - g2o: `graph.g2o`, keyframes and closures as `closure_files.write_g2o` has them;
    - tum: `trajectories/SESSION.txt`, `stamp tx ty tz qx qy qz qw` of the camera in the odometry's frame where it is known how it sits on
      the body, else of the body; another segment of odometry is another file;
    - pairs: `pairs.txt`, two names of images a line for each closure, as COLMAP and hloc read them, and `images/` with the pictures;
    - npz: `keyframes.npz`, arrays without pickles: robot, session, id, camera, stamp_ns, descriptors (N, D), odom_from_body (N, 4, 4), NaN where
      unknown, and links (L, 2), positions in the other arrays.
    """
    writers = {"g2o": _write_g2o, "tum": _write_tum, "pairs": _write_pairs, "npz": _write_npz}
    folder.mkdir(parents=True, exist_ok=True)
    return [writers[name](place_map, folder, drift_per_m) for name in formats]


def _write_g2o(place_map: PlaceMap, folder: Path, drift_per_m: float) -> Path:
    queries: dict[KeyframeRef, list[PlaceMatch]] = defaultdict(list)
    for link in place_map.closures():
        match = _match(link.second, MatchStatus.ACCEPTED, _labelled(link.first), link.verification)
        queries[link.second].append(match)
    matches = [
        match for ref in place_map.names for match in queries.get(ref) or [_match(ref, MatchStatus.NO_MAP, None, None)]
    ]
    odometry = [OdometryPath(poses, is_camera) for _, is_camera, poses in _paths(place_map)]
    write_g2o(folder / "graph.g2o", matches, odometry, drift_per_m)
    return folder / "graph.g2o"


def _match(ref: KeyframeRef, status: MatchStatus, match: KeyframeRef | None, found: Verification | None) -> PlaceMatch:
    return PlaceMatch(
        ref.stamp_ns, status, keyframe_id=ref.id, match=match, verification=found, session=_labelled(ref).session
    )


def _labelled(ref: KeyframeRef) -> KeyframeRef:
    """With a session's name that is unique among robots."""
    session = f"{ref.robot}/{ref.session}" if ref.robot else ref.session
    return KeyframeRef("", session, ref.id, ref.stamp_ns, ref.camera_name, ref.frame_id)


def _paths(place_map: PlaceMap) -> Iterator[tuple[str, bool, dict[FrameRef, Pose]]]:
    """Poses that compare with each other: a name for them, whether they are the camera's, and the poses by frame."""
    found: dict[tuple[str, int, str, bool], dict[FrameRef, Pose]] = defaultdict(dict)
    for keyframe in place_map:
        ref, pose = _labelled(keyframe.ref), keyframe.odom_from_body
        if pose is not None:
            is_camera = keyframe.body_from_camera is not None
            odom = pose if keyframe.body_from_camera is None else pose @ keyframe.body_from_camera
            found[ref.session, keyframe.odometry_segment, ref.camera_name, is_camera][ref.frame] = odom
    for (session, segment, camera, is_camera), poses in found.items():
        name = "-".join(part for part in (session, camera, f"{segment}" if segment else "") if part)
        yield name, is_camera, poses


def _write_tum(place_map: PlaceMap, folder: Path, _: float) -> Path:
    trajectories = folder / "trajectories"
    trajectories.mkdir(exist_ok=True)
    for name, is_camera, poses in _paths(place_map):
        lines = [f"# {'camera' if is_camera else 'body'} in the frame of the odometry: stamp tx ty tz qx qy qz qw"]
        for frame, pose in poses.items():
            numbers = [*pose[:3, 3], *matrix_to_quaternion(pose[:3, :3])]
            lines.append(f"{format_stamp(frame.stamp_ns)} {' '.join(f'{number:.9g}' for number in numbers)}")
        (trajectories / f"{file_name(name)}.txt").write_text("\n".join(lines) + "\n")
    return trajectories


def _write_pairs(place_map: PlaceMap, folder: Path, _: float) -> Path:
    lines = [f"{image_name(first)} {image_name(second)}" for first, second in place_map.links]
    (folder / "pairs.txt").write_text("".join(f"{line}\n" for line in lines))
    for keyframe in place_map:
        if keyframe.thumbnail is not None and keyframe.thumbnail.jpeg:
            path = folder / "images" / image_name(keyframe.ref)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(keyframe.thumbnail.jpeg)
    return folder / "pairs.txt"


def image_name(ref: KeyframeRef) -> str:
    """Of a keyframe's picture, relative to the folder of images: SESSION/CAMERA/STAMP.jpg."""
    parts = [file_name(_labelled(ref).session) or "session", *([file_name(ref.camera_name)] if ref.camera_name else [])]
    return "/".join([*parts, f"{ref.stamp_ns}-{ref.id}.jpg"])


def file_name(text: str) -> str:
    """Without what leads elsewhere, or that a shell would see."""
    return "".join(c if c.isalnum() or c in "-_.+" else "-" for c in text).lstrip(".")[:100]


def _write_npz(place_map: PlaceMap, folder: Path, _: float) -> Path:
    keyframes: list[Keyframe] = list(place_map)
    position = {keyframe.ref: i for i, keyframe in enumerate(keyframes)}
    unknown = np.full((4, 4), np.nan)
    poses = [unknown if k.odom_from_body is None else k.odom_from_body for k in keyframes]
    path = folder / "keyframes.npz"
    np.savez(
        path,
        allow_pickle=False,
        robot=np.array([k.ref.robot for k in keyframes], np.str_),
        session=np.array([k.ref.session for k in keyframes], np.str_),
        id=np.array([k.ref.id for k in keyframes], np.int64),
        camera=np.array([k.ref.camera_name for k in keyframes], np.str_),
        stamp_ns=np.array([k.ref.stamp_ns for k in keyframes], np.int64),
        descriptors=np.array([k.descriptor for k in keyframes], np.float32).reshape(-1, place_map.dim),
        odom_from_body=np.array(poses, np.float64).reshape(-1, 4, 4),
        links=np.array([[position[a], position[b]] for a, b in place_map.links], np.int64).reshape(-1, 2),
    )
    return path
