"""The keyframes a robot remembers, and their file.

A map file is a NumPy `.npz` (a zip with checksums) that holds arrays and one JSON text, never a pickle. It is written to a
temporary file beside the target and renamed, so the target is always whole.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import MapError
from vpr_ros.index import FaissIndex
from vpr_ros.types import Camera, Candidate, Descriptor, Keyframe, LocalFeatures

FORMAT = "vpr_ros.place_map.1"


class PlaceMap:
    """Keyframes by id (0, 1, 2, ...), searchable by descriptor, with the loop closures accepted between them."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.keyframes: list[Keyframe] = []
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
        self.keyframes.append(keyframe)

    def search(self, descriptor: Descriptor, k: int, stop: int) -> tuple[Candidate, ...]:
        """At most k keyframes with id < stop, most similar first."""
        return self._index.search(descriptor, k, stop)

    def save(self, path: Path, model_id: str, features: str) -> None:
        """Write the map atomically. `features` names the kind of local features in it. Raises MapError."""
        header = {
            "format": FORMAT,
            "model_id": model_id,
            "features": features,
            "keyframes": [_header(k) for k in self.keyframes],
        }
        sizes = [len(k.features) if k.features else 0 for k in self.keyframes]
        local = [k.features for k in self.keyframes if k.features]
        arrays: dict[str, NDArray[Any]] = {
            "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            "descriptors": _stack([k.descriptor[None] for k in self.keyframes], (0, self.dim), np.float32),
            "feature_counts": np.array(sizes, dtype=np.int64),
            "feature_points": _stack([f.points for f in local], (0, 2), np.float32),
            "feature_descriptors": _stack([f.descriptors for f in local if len(f)], (0, 0), np.uint8),
            "links": np.array(self.links, dtype=np.int64).reshape(-1, 2),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, arrays)
        except OSError as error:
            raise MapError(f"cannot save map {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path, model_id: str, features: str) -> PlaceMap:
        """Read a map file.

        Raises MapError if it is missing, corrupt, of another format, or made with another model or other local features.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays["header"].tobytes())
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise MapError(f"{path} is not a map of this version ({FORMAT})")
            _check_origin(path, "model", header["model_id"], model_id)
            _check_origin(path, "kind of local features", header["features"], features)
            place_map = cls(arrays["descriptors"].shape[1])
            for keyframe in _keyframes(header["keyframes"], arrays):
                place_map.add(keyframe)
            place_map.links = [(int(a), int(b)) for a, b in arrays["links"]]
        except FileNotFoundError as error:
            raise MapError(f"there is no map {path}") from error
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise MapError(f"{path} is corrupt or no map: {error}") from error
        return place_map


def _check_origin(path: Path, what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise MapError(f"{path} was made with another {what} ({found[:12]}, now {wanted[:12]}); record it again")


def _write_atomically(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _stack(parts: Sequence[NDArray[Any]], empty: tuple[int, int], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)


def _header(keyframe: Keyframe) -> dict[str, Any]:
    """What is not an array, as JSON."""
    return {
        "session": keyframe.session,
        "stamp_ns": keyframe.stamp_ns,
        "frame_id": keyframe.frame_id,
        "travelled_m": keyframe.travelled_m,
        "camera": None if keyframe.camera is None else asdict(keyframe.camera),
        "odom_from_body": None if keyframe.odom_from_body is None else keyframe.odom_from_body.tolist(),
    }


def _keyframes(headers: Sequence[dict[str, Any]], arrays: dict[str, NDArray[Any]]) -> list[Keyframe]:
    ends = np.cumsum(arrays["feature_counts"])
    starts = ends - arrays["feature_counts"]
    if len(headers) != len(arrays["descriptors"]) or len(headers) != len(ends):
        raise ValueError("its arrays disagree on the number of keyframes")
    keyframes = []
    for i, head in enumerate(headers):
        local = slice(starts[i], ends[i])
        features = LocalFeatures(arrays["feature_points"][local], arrays["feature_descriptors"][local])
        pose = head["odom_from_body"]
        keyframes.append(
            Keyframe(
                id=i,
                session=head["session"],
                stamp_ns=int(head["stamp_ns"]),
                descriptor=arrays["descriptors"][i],
                features=features if len(features) else None,
                camera=None if head["camera"] is None else _camera(head["camera"]),
                odom_from_body=None if pose is None else np.array(pose, dtype=np.float64).reshape(4, 4),
                travelled_m=head["travelled_m"],
                frame_id=head["frame_id"],
            )
        )
    return keyframes


def _camera(values: dict[str, Any]) -> Camera:
    return Camera(**values | {"distortion": tuple(values["distortion"])})
