"""Maps of few keyframes, with everything that a keyframe may have; and the archives that maps once were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vpr_ros.map.archive import FORMAT
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Camera, Keyframe, KeyframeRef, Thumbnail

CAMERA = Camera(500.0, 505.0, 320.0, 240.0, 640, 480, (0.1, -0.2, 0.0, 0.0), fisheye=True)


def name(i: int) -> KeyframeRef:
    """Ids in no order."""
    stamp_ns = 1_700_000_000_123_456_789 + i
    return KeyframeRef("robot", "first", 17 * i % 101, stamp_ns, ("front", "rear", "")[i % 3], "lens")


def pose_at(x_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x_m
    return pose


def some_keyframes(count: int, dim: int = 8) -> list[Keyframe]:
    rng = np.random.default_rng(count)
    keyframes = []
    for i in range(count):
        descriptor = rng.normal(size=dim).astype(np.float32)
        thumbnail = Thumbnail(rng.bytes(7 * i), 0.5)
        keyframes.append(
            Keyframe(
                name(i),
                descriptor=descriptor / np.linalg.norm(descriptor),
                thumbnail=thumbnail if i else None,
                camera=CAMERA if i % 2 else None,
                odom_from_body=pose_at(i + 1) if i % 2 else None,
                travelled_m=1.5 * i if i % 2 else None,
                body_from_camera=pose_at(i + 2) if i % 2 else None,
                elapsed_ns=i,
                odometry_segment=i // 2,
            )
        )
    return keyframes


def fill(place_map: PlaceMap, count: int = 5) -> PlaceMap:
    """With `some_keyframes`, and a link between the first and the fourth."""
    for keyframe in some_keyframes(count, place_map.dim):
        place_map.add(keyframe)
    if count > 3:
        place_map.link(name(0), name(3))
    return place_map


def some_map(count: int = 5, dim: int = 8) -> PlaceMap:
    """In memory."""
    return fill(PlaceMap(dim), count)


def assert_same_keyframes(one: PlaceMap, other: PlaceMap) -> None:
    """All of what they hold, but for the numbers of their files."""
    assert len(one) == len(other)
    assert one.links == other.links
    for a, b in zip(one, other, strict=True):
        assert asdict(a.ref) == asdict(b.ref)
        assert (a.thumbnail, a.camera, a.travelled_m) == (b.thumbnail, b.camera, b.travelled_m)
        assert (a.elapsed_ns, a.odometry_segment) == (b.elapsed_ns, b.odometry_segment)
        np.testing.assert_equal(a.body_from_camera, b.body_from_camera)
        np.testing.assert_array_equal(a.descriptor, b.descriptor)
        np.testing.assert_equal(a.odom_from_body, b.odom_from_body)


def archive_arrays(keyframes: Sequence[Keyframe], links: Sequence[tuple[int, int]], model_id: str) -> dict[str, Any]:
    """The arrays of the `.npz` file that earlier versions wrote."""
    headers = [
        {
            **asdict(k.ref),
            "travelled_m": k.travelled_m,
            "elapsed_ns": k.elapsed_ns,
            "odometry_segment": k.odometry_segment,
            "scale": None if k.thumbnail is None else k.thumbnail.scale,
            "camera": None if k.camera is None else asdict(k.camera),
            "odom_from_body": None if k.odom_from_body is None else k.odom_from_body.tolist(),
            "body_from_camera": None if k.body_from_camera is None else k.body_from_camera.tolist(),
        }
        for k in keyframes
    ]
    jpegs = [k.thumbnail.jpeg if k.thumbnail else b"" for k in keyframes]
    return {
        "header": as_header({"format": FORMAT, "model_id": model_id, "next_id": 99, "keyframes": headers}),
        "descriptors": np.array([k.descriptor for k in keyframes], np.float32),
        "thumbnail_sizes": np.array([len(jpeg) for jpeg in jpegs], np.int64),
        "thumbnails": np.frombuffer(b"".join(jpegs), np.uint8),
        "links": np.array(links, np.int64).reshape(-1, 2),
    }


def as_header(header: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(header).encode(), np.uint8)


def some_archive(path: Path, count: int = 5, model_id: str = "m", **changes: Any) -> Path:
    """An archive of `some_keyframes`, with other arrays in place of its own."""
    links = [(0, 3)] if count > 3 else []
    with path.open("wb") as file:
        np.savez(file, **archive_arrays(some_keyframes(count), links, model_id) | changes)
    return path
