"""The keyframes a robot remembers, and their file.

A map file is a NumPy `.npz` (a zip with checksums) that holds arrays and one JSON text, never a pickle. It is written to a
temporary file beside the target and renamed, so the target is always whole.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import MapError
from vpr_ros.files import whole_file
from vpr_ros.map.index.base import Index, Selection
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.keyframe_headers import Header, header_of
from vpr_ros.types import Candidate, Descriptor, Keyframe, KeyframeRef, Thumbnail

FORMAT = "vpr_ros.place_map.1"


class PlaceMap:
    """Keyframes by name, searchable by descriptor, with the loop closures accepted between them.

    Keyframes that follow one another are one moment of the rig until a camera repeats or a session ends. Of one camera every
    keyframe is a moment of its own; of several, moments count as the busiest of them does.
    """

    def __init__(self, dim: int, index: Index | None = None) -> None:
        """`index`: an empty one to search with; without it the exact one."""
        self.dim = dim
        self.next_id = 0
        """Of the next keyframe that this robot makes; grows, and is kept with the map."""
        self.moments: dict[KeyframeRef, int] = {}
        """Which moment each keyframe belongs to, from 0; never decreasing in the order in which they were added."""
        self.links: list[tuple[KeyframeRef, KeyframeRef]] = []
        """Pairs of keyframes that an accepted loop closure found to be one place."""
        self._keyframes: dict[KeyframeRef, Keyframe] = {}
        self._keys: dict[KeyframeRef, int] = {}
        self._by_key: dict[int, KeyframeRef] = {}
        self._last: Keyframe | None = None
        self._cameras_of_moment: set[str] = set()
        self._index: Index = FaissIndex(dim) if index is None else index

    def __len__(self) -> int:
        return len(self._keyframes)

    def __iter__(self) -> Iterator[Keyframe]:
        """In the order in which they were added."""
        return iter(self._keyframes.values())

    def __getitem__(self, ref: KeyframeRef) -> Keyframe:
        return self._keyframes[ref]

    def __contains__(self, ref: KeyframeRef) -> bool:
        return ref in self._keyframes

    def add(self, keyframe: Keyframe) -> None:
        """Raises ValueError for a name that is taken."""
        ref = keyframe.ref
        if ref in self:
            raise ValueError(f"keyframe {ref.id} of session {ref.session!r} is in the map already")
        key = len(self._keys)
        self._index.add(np.array([key], np.int64), keyframe.descriptor[None])
        self._keys[ref], self._by_key[key] = key, ref
        self.moments[ref] = self._moment_of(ref)
        self._keyframes[ref] = self._last = keyframe
        self.next_id = max(self.next_id, ref.id + 1)

    def _moment_of(self, ref: KeyframeRef) -> int:
        if self._last is None:
            self._cameras_of_moment = {ref.camera_name}
            return 0
        last = self._last.ref
        is_same_session = (last.robot, last.session) == (ref.robot, ref.session)
        if is_same_session and ref.camera_name not in self._cameras_of_moment:
            self._cameras_of_moment.add(ref.camera_name)
            return self.moments[last]
        self._cameras_of_moment = {ref.camera_name}
        return self.moments[last] + 1

    def link(self, first: KeyframeRef, second: KeyframeRef) -> None:
        """Note that two keyframes show one place."""
        self.links.append((first, second))

    def linked_moments(self) -> Iterator[tuple[int, int]]:
        """The moments of each pair of `links`."""
        return ((self.moments[first], self.moments[second]) for first, second in self.links)

    def search(self, descriptor: Descriptor, k: int, without: Collection[KeyframeRef] = ()) -> tuple[Candidate, ...]:
        """At most k keyframes, none of those in `without`, most similar first."""
        excluded = np.fromiter((self._keys[ref] for ref in without), np.int64, len(without))
        hits = self._index.search(descriptor, k, Selection(without=excluded))
        return tuple(Candidate(self._by_key[hit.key], hit.similarity) for hit in hits)

    def faults(
        self, *, is_verified: bool, calibrated: Collection[str] = (), without: Collection[KeyframeRef] = ()
    ) -> list[str]:
        """What the map cannot do that is asked of it, a sentence each; empty if it can do all.

        - `is_verified`: matches are verified by local features, which are found in a keyframe's thumbnail;
        - `calibrated`: names of the cameras whose intrinsics are known now, so that the keyframes that they took should have
          some, too; but for those in `without`.
        """
        found = []
        blind = sum(k.thumbnail is None or not k.thumbnail.jpeg for k in self) if is_verified else 0
        if blind:
            found.append(
                f"{_share(blind, len(self))} no picture to verify with (recorded while verification.enabled was false) and "
                "can never match: record the map again, or set verification.enabled to false"
            )
        earlier = [k for k in self if k.ref.camera_name in calibrated and k.ref not in without]
        if bare := sum(k.camera is None for k in earlier):
            found.append(
                f"{_share(bare, len(self))} no intrinsics, though the camera is calibrated now: closures with them come "
                "without a relative pose; record the map again"
            )
        return found

    def content(self) -> MapContent:
        """What the map holds now; it may be saved while the map grows."""
        return MapContent(self.dim, tuple(self), tuple(self.links), self.next_id)

    def save(self, path: Path, model_id: str) -> None:
        """Write the map atomically. Raises MapError."""
        self.content().save(path, model_id)

    @classmethod
    def load(cls, path: Path, model_id: str, dim: int | None = None) -> PlaceMap:
        """Read a map file of descriptors with `dim` numbers (any, if None).

        Raises MapError if it is missing, corrupt, of another format, or made with another model.
        """
        try:
            _check_sizes(path)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays["header"].tobytes())
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise MapError(f"{path} is not a map of this version ({FORMAT})")
            made_with = str(header["model_id"])
            if made_with != model_id:
                raise MapError(
                    f"{path} was made with another model ({made_with[:12]}, now {model_id[:12]}): descriptors of two models "
                    "do not compare; set model.path to that model or record the map again"
                )
            place_map = cls(_checked(arrays, dim).shape[1])
            keyframes = _keyframes(header["keyframes"], arrays)
            for keyframe in keyframes:
                place_map.add(keyframe)
            place_map.links = [(keyframes[a].ref, keyframes[b].ref) for a, b in arrays["links"].tolist()]
            place_map.next_id = max(place_map.next_id, int(header.get("next_id", 0)))
        except FileNotFoundError as error:
            raise MapError(f"there is no map {path}") from error
        except OSError as error:
            raise MapError(f"cannot read map {path}: {error.strerror or error}") from error
        except MapError:
            raise
        except MemoryError as error:
            raise MapError(f"cannot load map {path}: there is too little memory") from error
        except Exception as error:  # zipfile, zlib and numpy let out whatever damaged bytes cause
            raise MapError(f"{path} is corrupt or no map: {error}") from error
        return place_map


@dataclass(frozen=True, slots=True, eq=False)
class MapContent:
    """A map at one moment; the fields are those of `PlaceMap`."""

    dim: int
    keyframes: tuple[Keyframe, ...]
    links: tuple[tuple[KeyframeRef, KeyframeRef], ...]
    next_id: int

    def save(self, path: Path, model_id: str) -> None:
        """Write a map file atomically, which only its user may read: it holds pictures of where people live. Raises MapError."""
        try:
            with whole_file(path, is_private=True) as file, zipfile.ZipFile(file, "w") as archive:
                for name, kind, shape, pieces in self._arrays(model_id):
                    _write_array(archive, name, kind, shape, pieces)
        except OSError as error:
            raise MapError(f"cannot save map {path}: {error.strerror or error}") from error
        except MemoryError as error:
            raise MapError(f"cannot save map {path}: there is too little memory") from error

    def _arrays(self, model_id: str) -> Iterator[tuple[str, str, tuple[int, ...], Iterable[bytes]]]:
        """Each array's name, type, shape and bytes, piece by piece: a robot that is short of memory saves its map all the same."""
        keyframes = self.keyframes
        count = len(keyframes)
        jpegs = [k.thumbnail.jpeg if k.thumbnail else b"" for k in keyframes]
        sizes = np.array([len(jpeg) for jpeg in jpegs], dtype=np.int64)
        positions = {k.ref: position for position, k in enumerate(keyframes)}
        links = np.array([[positions[ref] for ref in pair] for pair in self.links], dtype=np.int64)
        yield "header", "|u1", (sum(map(len, self._header(model_id))),), self._header(model_id)
        descriptors = (k.descriptor.astype("<f4", copy=False).tobytes() for k in keyframes)
        yield "descriptors", "<f4", (count, self.dim), descriptors
        yield "thumbnail_sizes", "<i8", (count,), [sizes.astype("<i8").tobytes()]
        yield "thumbnails", "|u1", (int(sizes.sum()),), jpegs
        yield "links", "<i8", (len(self.links), 2), [links.astype("<i8").tobytes()]

    def _header(self, model_id: str) -> Iterator[bytes]:
        """JSON."""
        head = json.dumps({"format": FORMAT, "model_id": model_id, "next_id": self.next_id})
        yield f'{head[:-1]}, "keyframes": ['.encode()
        for i, keyframe in enumerate(self.keyframes):
            yield ((", " if i else "") + json.dumps(header_of(keyframe))).encode()
        yield b"]}"


def _write_array(
    archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...], pieces: Iterable[bytes]
) -> None:
    """As `numpy.savez` does, which wants the whole array."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
        for piece in pieces:
            file.write(piece)


_SMALL_BYTES = 1 << 26
_MOST_SHRUNK = 20
"""A map is stored as it is. Whoever compresses one gains a factor of two."""


def _check_sizes(path: Path) -> None:
    """Before anything is unpacked. Raises MapError, and what `zipfile` raises for a file that is none of its kind."""
    if path.exists() and not path.is_file():
        raise MapError(f"{path} is not a regular file")
    with zipfile.ZipFile(path) as archive:
        for array in archive.infolist():
            if array.file_size > max(_SMALL_BYTES, _MOST_SHRUNK * array.compress_size):
                raise MapError(f"{path} is no map: {array.compress_size} bytes of it would become {array.file_size}")


def _share(count: int, total: int) -> str:
    return (
        f"all {total} keyframes of the map have" if count == total else f"{count} of the map's {total} keyframes have"
    )


def _checked(arrays: Mapping[str, NDArray[Any]], dim: int | None) -> NDArray[np.float32]:
    """The descriptors (N, D) of a file. Raises ValueError where a foreign or forged one would lead recognition astray."""
    descriptors, links = arrays["descriptors"], arrays["links"]
    if descriptors.ndim != 2 or descriptors.dtype != np.float32 or dim not in (None, descriptors.shape[1]):
        raise ValueError(
            f"descriptors of shape {descriptors.shape} and type {descriptors.dtype}; the model's have {dim}"
        )
    if not np.isfinite(descriptors).all() or np.abs(descriptors).max(initial=0.0) > 2.0:
        raise ValueError("descriptors that are not of unit length")  # before their squares overflow
    if not np.allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-3):
        raise ValueError("descriptors that are not of unit length")
    if links.size and (links.ndim != 2 or links.shape[1] != 2 or links.dtype.kind not in "iu"):
        raise ValueError("loop closures that are no pairs")
    if links.size and not (links.min() >= 0 and links.max() < len(descriptors)):
        raise ValueError("loop closures with keyframes that it does not have")
    return descriptors


def _keyframes(headers: Any, arrays: dict[str, NDArray[Any]]) -> list[Keyframe]:
    """Raises ValueError, TypeError or KeyError where something is not as it must be."""
    sizes, thumbnails = arrays["thumbnail_sizes"], arrays["thumbnails"]
    if not isinstance(headers, list) or not len(headers) == len(arrays["descriptors"]) == len(sizes):
        raise ValueError("its arrays disagree on the number of keyframes")
    if sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 0 or sizes.sum() != len(thumbnails)):
        raise ValueError("its pictures are not as long as it announces")
    ends = np.cumsum(sizes)
    keyframes = []
    for i, values in enumerate(headers):
        head = Header(values, i)
        jpeg, scale = thumbnails[ends[i] - sizes[i] : ends[i]].tobytes(), head.scale
        keyframes.append(
            Keyframe(
                ref=head.ref,
                descriptor=arrays["descriptors"][i],
                thumbnail=None if scale is None else Thumbnail(jpeg, scale),
                camera=head.camera,
                body_from_camera=head.pose("body_from_camera"),
                odom_from_body=head.pose("odom_from_body"),
                travelled_m=head.travelled_m,
                elapsed_ns=head.integer("elapsed_ns", 0, -(2**63), 2**63 - 1),
                odometry_segment=head.integer("odometry_segment", 0, 0, 2**63 - 1),
            )
        )
    return keyframes
