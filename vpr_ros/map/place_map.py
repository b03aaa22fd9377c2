"""The keyframes a robot remembers, and their file.

A map file is a NumPy `.npz` (a zip with checksums) that holds arrays and one JSON text, never a pickle. It is written to a
temporary file beside the target and renamed, so the target is always whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import MapError
from vpr_ros.map.index import FaissIndex
from vpr_ros.types import Camera, Candidate, Descriptor, Keyframe, Thumbnail
from vpr_ros.whole_file import whole_file

FORMAT = "vpr_ros.place_map.1"


class PlaceMap:
    """Keyframes by id (0, 1, 2, ...), searchable by descriptor, with the loop closures accepted between them.

    Keyframes that follow one another are one moment of the rig until a camera repeats or a session ends. Of one camera every
    keyframe is a moment of its own; of several, moments count as the busiest of them does.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.keyframes: list[Keyframe] = []
        self.moments: list[int] = []
        """Which moment each keyframe belongs to, from 0; never decreasing."""
        self._cameras_of_moment: set[str] = set()
        self.links: list[tuple[int, int]] = []
        """Pairs of keyframe ids that an accepted loop closure found to be one place."""
        self._index = FaissIndex(dim)

    def __len__(self) -> int:
        return len(self.keyframes)

    def add(self, keyframe: Keyframe) -> None:
        """Append a keyframe; its id must be the next one."""
        if keyframe.id != len(self):
            raise ValueError(f"the next keyframe's id is {len(self)}, not {keyframe.id}")
        self._index.add(keyframe.descriptor[None])
        is_same_session = bool(self.keyframes) and self.keyframes[-1].session == keyframe.session
        if is_same_session and keyframe.camera_name not in self._cameras_of_moment:
            self.moments.append(self.moments[-1])
            self._cameras_of_moment.add(keyframe.camera_name)
        else:
            self.moments.append(self.moments[-1] + 1 if self.moments else 0)
            self._cameras_of_moment = {keyframe.camera_name}
        self.keyframes.append(keyframe)

    def search(self, descriptor: Descriptor, k: int, stop: int) -> tuple[Candidate, ...]:
        """At most k keyframes with id < stop, most similar first."""
        return self._index.search(descriptor, k, stop)

    def faults(self, *, is_verified: bool, calibrated: Collection[str] = (), stop: int | None = None) -> list[str]:
        """What the map cannot do that is asked of it, a sentence each; empty if it can do all.

        - `is_verified`: matches are verified by local features, which are found in a keyframe's thumbnail;
        - `calibrated`: names of the cameras whose intrinsics are known now, so that the keyframes with id < `stop` (all)
          that they took should have some, too.
        """
        found = []
        blind = sum(k.thumbnail is None or not k.thumbnail.jpeg for k in self.keyframes) if is_verified else 0
        if blind:
            found.append(
                f"{_share(blind, len(self))} no picture to verify with (recorded while verification.enabled was false) and "
                "can never match: record the map again, or set verification.enabled to false"
            )
        earlier = [k for k in self.keyframes[:stop] if k.camera_name in calibrated]
        if bare := sum(k.camera is None for k in earlier):
            found.append(
                f"{_share(bare, len(self))} no intrinsics, though the camera is calibrated now: closures with them come "
                "without a relative pose; record the map again"
            )
        return found

    def save(self, path: Path, model_id: str) -> None:
        """Write the map atomically. Raises MapError."""
        header = {"format": FORMAT, "model_id": model_id, "keyframes": [_header(k) for k in self.keyframes]}
        descriptors = [k.descriptor for k in self.keyframes]
        thumbnails = [k.thumbnail.jpeg if k.thumbnail else b"" for k in self.keyframes]
        arrays: dict[str, NDArray[Any]] = {
            "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            "descriptors": np.array(descriptors, dtype=np.float32).reshape(-1, self.dim),
            "thumbnail_sizes": np.array([len(jpeg) for jpeg in thumbnails], dtype=np.int64),
            "thumbnails": np.frombuffer(b"".join(thumbnails), dtype=np.uint8),
            "links": np.array(self.links, dtype=np.int64).reshape(-1, 2),
        }
        try:
            with whole_file(path) as file:
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            raise MapError(f"cannot save map {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path, model_id: str) -> PlaceMap:
        """Read a map file. Raises MapError if it is missing, corrupt, of another format, or made with another model."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays["header"].tobytes())
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise MapError(f"{path} is not a map of this version ({FORMAT})")
            made_with = header["model_id"]
            if made_with != model_id:
                raise MapError(
                    f"{path} was made with another model ({made_with[:12]}, now {model_id[:12]}): descriptors of two models "
                    "do not compare; set model.path to that model or record the map again"
                )
            place_map = cls(arrays["descriptors"].shape[1])
            for keyframe in _keyframes(header["keyframes"], arrays):
                place_map.add(keyframe)
            place_map.links = [(int(a), int(b)) for a, b in arrays["links"]]
        except FileNotFoundError as error:
            raise MapError(f"there is no map {path}") from error
        except MapError:
            raise
        except Exception as error:  # zipfile, zlib and numpy let out whatever damaged bytes cause
            raise MapError(f"{path} is corrupt or no map: {error}") from error
        return place_map


def _share(count: int, total: int) -> str:
    return (
        f"all {total} keyframes of the map have" if count == total else f"{count} of the map's {total} keyframes have"
    )


def _header(keyframe: Keyframe) -> dict[str, Any]:
    """What is not an array, as JSON."""
    return {
        "session": keyframe.session,
        "stamp_ns": keyframe.stamp_ns,
        "frame_id": keyframe.frame_id,
        "camera_name": keyframe.camera_name,
        "travelled_m": keyframe.travelled_m,
        "elapsed_ns": keyframe.elapsed_ns,
        "odometry_segment": keyframe.odometry_segment,
        "scale": None if keyframe.thumbnail is None else keyframe.thumbnail.scale,
        "camera": None if keyframe.camera is None else asdict(keyframe.camera),
        "odom_from_body": None if keyframe.odom_from_body is None else keyframe.odom_from_body.tolist(),
    }


def _keyframes(headers: Sequence[dict[str, Any]], arrays: dict[str, NDArray[Any]]) -> list[Keyframe]:
    ends = np.cumsum(arrays["thumbnail_sizes"])
    starts = ends - arrays["thumbnail_sizes"]
    if len(headers) != len(arrays["descriptors"]) or len(headers) != len(ends):
        raise ValueError("its arrays disagree on the number of keyframes")
    keyframes = []
    for i, head in enumerate(headers):
        jpeg, scale, pose = arrays["thumbnails"][starts[i] : ends[i]].tobytes(), head["scale"], head["odom_from_body"]
        keyframes.append(
            Keyframe(
                id=i,
                session=head["session"],
                stamp_ns=int(head["stamp_ns"]),
                descriptor=arrays["descriptors"][i],
                thumbnail=None if scale is None else Thumbnail(jpeg, float(scale)),
                camera=None if head["camera"] is None else _camera(head["camera"]),
                odom_from_body=None if pose is None else np.array(pose, dtype=np.float64).reshape(4, 4),
                travelled_m=head["travelled_m"],
                frame_id=head["frame_id"],
                camera_name=head.get("camera_name", ""),  # older files have neither this nor the next two
                elapsed_ns=int(head.get("elapsed_ns", 0)),
                odometry_segment=int(head.get("odometry_segment", 0)),
            )
        )
    return keyframes


def _camera(values: dict[str, Any]) -> Camera:
    return Camera(**values | {"distortion": tuple(values["distortion"])})
