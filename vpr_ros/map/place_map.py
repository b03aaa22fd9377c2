"""The keyframes that a robot remembers: a map file (or tables in memory), and what searching it needs, derived from that."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import MapConfig
from vpr_ros.errors import MapError
from vpr_ros.map import schema
from vpr_ros.map.archive import Archive, read_archive
from vpr_ros.map.index.base import Keys, LocalIndex, Selection
from vpr_ros.map.index.open import open_index
from vpr_ros.map.key_table import KeyTable
from vpr_ros.map.keyframe_headers import LARGEST_STAMP_NS
from vpr_ros.map.map_file import Kind, MapLock, kind_of, new_database
from vpr_ros.map.pruning import Plan, redundant
from vpr_ros.map.recorder import Recorder
from vpr_ros.map.rows import (
    DRIVE_MOMENTS,
    CameraRow,
    Change,
    DescriptorRow,
    KeyframeRow,
    LinkRow,
    ReleasedRow,
    Removal,
    Row,
    SessionRow,
    ThumbnailRow,
    Update,
    camera_row,
    descriptors_of,
    header_of,
    keyframe_rows,
    link_row,
    relative_pose_of,
)
from vpr_ros.map.store import Store
from vpr_ros.model import PlaceModel
from vpr_ros.types import (
    Candidate,
    Descriptor,
    Keyframe,
    KeyframeRef,
    Link,
    Pose,
    Thumbnail,
    Verification,
    drive_of,
)

KEPT_KEYS = 1 << 16
"""Names whose keys are kept at hand; the others are looked up in the store."""
KEPT_KEYFRAMES = 64
SAME_COSINE = 0.999
"""Two maps may have a keyframe as it was made, and as another robot sent it in half precision."""
COMPARED = 16
"""Newest descriptors of a snapshot that are compared with the file's."""


@dataclass(slots=True)
class _Drive:
    """The moments of one drive of one robot; sessions that only a jump of the clock separates are one drive."""

    moment: int
    cameras: set[str] = field(default_factory=set)
    """That have a keyframe in the present moment."""
    session: str = ""


class PlaceMap:
    """Keyframes by name, searchable by descriptor, with the loop closures accepted between them.

    Keyframes of a drive that follow one another are one moment of the rig until a camera repeats or a session ends. Of one
    camera every keyframe is a moment of its own; of several, moments count as the busiest of them does.

    With a file, `add` returns before the disk has the keyframe; `on_durable` is called with it once it does, in another thread.
    """

    def __init__(self, dim: int, index: LocalIndex | None = None, store: Store | None = None) -> None:
        """In memory, or of an open `store`.

        `index`: one to search with, empty or with what a snapshot had; without it one that suits the size. Raises MapError.
        """
        self.dim = dim
        self.on_durable: Callable[[Keyframe], object] = lambda keyframe: None
        self._store = Store() if store is None else store
        self._index: LocalIndex = open_index(dim) if index is None else index
        self._lock: MapLock | None = None
        self._recorder: Recorder | None = None
        self._pending: dict[int, Keyframe] = {}
        self._late_thumbnails: dict[int, Thumbnail] = {}
        """Of keyframes that were there before them, until the file has them."""
        self._kept: dict[int, Keyframe] = {}
        self._key_of: dict[KeyframeRef, int] = {}
        self._table = KeyTable()
        self._sessions = {row.session: row for row in self._store.rows(SessionRow)}
        self._cameras = {row.camera: row for row in self._store.rows(CameraRow)}
        self._session_of = {(row.robot, row.name): row.session for row in self._sessions.values()}
        self._camera_of = {row[1:]: row.camera for row in self._cameras.values()}
        for columns in self._store.key_columns():
            self._table.extend(columns)
        self._links = [(row.first, row.second) for row in self._store.rows(LinkRow)]
        self._check_table()
        self._last_key = max([self._store.highest_key(), *self._table.keys[-1:].tolist()])
        self._durable_ids = self._store.highest_ids()
        """The highest of each session, by its number."""
        self._highest_ids: dict[str, int] = {}
        """By robot."""
        for number, id in self._durable_ids.items():
            self._note_id(self._sessions[number].robot, id)
        self._last_session = max(self._sessions, default=0)
        self._last_camera = max(self._cameras, default=0)
        self._drives = self._drives_of_table()
        self._fill_index()

    # --- files ------------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: Path,
        model_id: str,
        dim: int,
        *,
        recording: bool = True,
        durability: str = "power",
        index: str = "auto",
    ) -> PlaceMap:
        """The map in a file. With `recording` it is written as it grows, and made if there is none; without, nothing is written.

        Raises MapError if it is missing, corrupt, foreign, of a newer version, made with another model, or (to record) in use
        by another process or read-only. `index` is one of `index.open.KINDS`; what a large one keeps is in the folder `NAME.index`
        beside the file. An archive of before there were databases becomes one; the archive is kept beside it.
        """
        if not recording:
            if kind_of(path) is Kind.ARCHIVE:
                return cls.load(path, model_id, dim)
            return cls._of_file(path, model_id, dim, writable=False, durability=durability, index=index)
        path = path.resolve()  # a link stays one
        lock = MapLock(path)
        try:
            kind = kind_of(path)
            if kind is Kind.NOTHING:
                _create(path, model_id, dim)
            elif kind is Kind.ARCHIVE:
                _import_archive(path, model_id, dim)
            place_map = cls._of_file(path, model_id, dim, writable=True, durability=durability, index=index)
        except BaseException:
            lock.release()
            raise
        place_map._lock = lock
        place_map._recorder = Recorder(place_map._store, place_map._on_written)
        return place_map

    @classmethod
    def configured(cls, path: Path, model: PlaceModel, config: MapConfig) -> PlaceMap:
        """The map in a file as the parameters `map.*` have it; raises as `open`."""
        return cls.open(
            path,
            model.id,
            model.dim,
            recording=config.mode == "mapping",
            durability=config.durability,
            index=config.index,
        )

    @classmethod
    def load(cls, path: Path, model_id: str, dim: int | None = None) -> PlaceMap:
        """A copy in memory of the map in a file, of descriptors with `dim` numbers (any, if None).

        Raises MapError if it is missing, corrupt, foreign, of a newer version, or made with another model.
        """
        if kind_of(path) is Kind.ARCHIVE:
            archive = read_archive(path)
            _check_model(path, archive.model_id, archive.dim, model_id, dim)
            place_map = cls(archive.dim)
            place_map._add_all(path, archive)
            return place_map
        _require(path)
        store = Store(path, writable=False)
        try:
            stored_dim = _checked_facts(path, store, model_id, dim)
            return cls(stored_dim, store=store.copy_in_memory())
        finally:
            store.close()

    @classmethod
    def _of_file(cls, path: Path, model_id: str, dim: int, *, writable: bool, durability: str, index: str) -> PlaceMap:
        _require(path)
        store = Store(path, writable=writable, durability=durability)
        with ExitStack() as on_error:
            on_error.callback(store.close)
            _checked_facts(path, store, model_id, dim)
            opened = _index_of(path, store, dim, index)
            on_error.callback(opened.close)
            place_map = cls(dim, opened, store)
            on_error.pop_all()
        return place_map

    @property
    def model_id(self) -> str:
        """Of the model that made its descriptors; empty for a map in memory."""
        return self._store.facts().get("model_id", "")

    @property
    def path(self) -> Path | None:
        """Of its file, None where it is in memory."""
        return self._store.path

    @property
    def _where(self) -> str:
        return "the map in memory" if self.path is None else str(self.path)

    @property
    def used_bytes(self) -> int:
        """Of its file (or tables in memory): without room that what was removed has left for what comes."""
        return self._store.used_bytes()

    @property
    def recording_fault(self) -> str:
        """Why keyframes wait to be written; empty where all is well."""
        return "" if self._recorder is None else self._recorder.fault

    @property
    def waiting(self) -> int:
        """Keyframes that are not durable yet."""
        return len(self._pending)

    def flush(self) -> None:
        """Wait until every keyframe that was added is durable. Raises MapError where the disk refuses."""
        if self._recorder is not None:
            self._recorder.flush()

    def save(self, path: Path, model_id: str) -> int:
        """Write a copy, which may take long, while the map grows; how many keyframes it holds. Raises MapError."""
        path, own = path.resolve(), self.path  # a link stays one
        if own is not None and path.exists() and path.samefile(own):
            self.flush()
            return len(self)
        waiting: Sequence[Change] = ()
        try:
            self.flush()
        except MapError:  # its own disk is full: the copy may be on another
            waiting = self._recorder.waiting if self._recorder is not None else ()
        with MapLock(path):
            return self._store.copy_to(path, _facts(model_id, self.dim), waiting)

    def __enter__(self) -> PlaceMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Raises MapError where keyframes could not be written."""
        try:
            if self._recorder is not None:
                self._recorder.close()
        finally:
            self._index.close()
            self._store.close()
            if self._lock is not None:
                self._lock.release()
            self._recorder = self._lock = None

    # --- keyframes --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Keyframe]:
        """In the order in which they were added."""
        return map(self._keyframe, self._table.keys.tolist())

    def __getitem__(self, ref: KeyframeRef) -> Keyframe:
        """Raises KeyError."""
        return self._keyframe(self._key(ref))

    def __contains__(self, ref: KeyframeRef) -> bool:
        return self._find(ref) is not None

    def next_id(self, robot: str) -> int:
        """Of the next keyframe that a robot makes; grows, and is kept with the map. What other robots number is their affair."""
        return max(self._last_key, self._highest_ids.get(robot, -1) + 1)

    @property
    def names(self) -> list[KeyframeRef]:
        """Of all keyframes, in the order in which they were added."""
        return [self._ref(key) for key in self._table.keys.tolist()]

    def add(self, keyframe: Keyframe) -> None:
        """Raises ValueError for a name that is taken."""
        ref = keyframe.ref
        if keyframe.descriptor.shape != (self.dim,):
            raise ValueError(f"a descriptor of shape {keyframe.descriptor.shape}, not of {self.dim} numbers")
        if ref in self:
            raise ValueError(f"keyframe {ref.id} of session {ref.session!r} is in the map already")
        rows: list[Row] = []
        session = self._session_number(ref, rows)
        camera = self._camera_number(session, keyframe, rows)
        key = self._last_key + 1
        rows += keyframe_rows(key, session, camera, self._moment_of(session, ref), keyframe)
        self._index.add(np.array([key], np.int64), keyframe.descriptor[None])
        self._last_key = key
        self._table.add(next(row for row in rows if isinstance(row, KeyframeRow)))
        self._note_id(ref.robot, ref.id)
        self._note_key(ref, key)
        self._keep(key, keyframe)
        self._write(rows, key, keyframe)

    def add_thumbnail(self, ref: KeyframeRef, thumbnail: Thumbnail) -> None:
        """The picture of a keyframe that came without, from another robot. Raises KeyError, and ValueError where it has one."""
        key = self._key(ref)
        keyframe = self._keyframe(key)
        if keyframe.thumbnail is not None:
            raise ValueError(f"keyframe {ref.id} of session {ref.session!r} has a picture already")
        session, camera, moment = self._table.values(key, "session", "camera", "moment")
        rows = keyframe_rows(key, session, camera, moment, replace(keyframe, thumbnail=thumbnail))
        changes = [Update(row) if isinstance(row, KeyframeRow) else row for row in rows]
        self._late_thumbnails[key] = thumbnail
        self._kept.pop(key, None)
        self._table.set("thumbnail_bytes", key, len(thumbnail.jpeg))
        self._write([change for change in changes if not isinstance(change, DescriptorRow)])

    def link(self, first: KeyframeRef, second: KeyframeRef, found: Verification | None = None) -> None:
        """Note that two keyframes show one place, and what local geometry found of the second one's frame and the first."""
        link = link_row(self._key(first), self._key(second), found)
        self._links.append((link.first, link.second))
        self._write([link])

    def remove(self, refs: Collection[KeyframeRef]) -> None:
        """Forget keyframes, and the links with them. Raises KeyError for a name that is not there."""
        self._remove([self._key(ref) for ref in refs])

    def _remove(self, keys: Sequence[int]) -> None:
        self._write([Removal(key) for key in keys])
        self._index.remove(np.array(keys, np.int64))
        self._table.remove(keys)
        gone = set(keys)
        self._links = [link for link in self._links if gone.isdisjoint(link)]
        self._kept.clear()
        self._key_of.clear()

    def redundant(self, keep: int, gap: int, spared: Collection[KeyframeRef] = ()) -> Plan:
        """What `merge` needs to be left with `keep` keyframes, or as near as that comes without the loss of a place.

        `gap` is the number of moments within which keyframes are of one place; those in `spared` stay. May run in another thread
        than what adds and searches; waits for the disk. Raises MapError.
        """
        self.flush()
        links, keys = list(self._links), self._table.keys
        moments = self._table.column("moment")[: len(keys)]
        rows = [row for chunk in self._store.descriptors() for row in chunk]
        stored = np.isin(keys, [row.key for row in rows])
        keys, moments, known = keys[stored], moments[stored], set(keys[stored].tolist())
        descriptors = descriptors_of([row for row in rows if row.key in known], self.dim)
        links = [link for link in links if known.issuperset(link)]
        spared_keys = {key for ref in spared if (key := self._find(ref)) is not None}
        excess = len(self) - keep
        return redundant(
            keys,
            moments,
            descriptors,
            links,
            excess=excess,
            gap=gap,
            released=[row.moment for row in self._store.rows(ReleasedRow)],
            spared=spared_keys,
        )

    def merge(self, plan: Plan) -> None:
        """Forget keyframes; their loop closures become those of the keyframes that stand for them (`redundant`)."""
        links = [(plan.final(a), plan.final(b)) for a, b in self._links]
        new = sorted({link for link in links if link[0] != link[1]} - set(self._links))
        self._remove([key for key in plan.removed if key in self._table])
        self._links += new
        self._write([*(ReleasedRow(moment) for moment in plan.released), *(LinkRow(*link) for link in new)])

    def shrink(self) -> None:
        """Give the room of what was removed back to the disk. Raises MapError."""
        self.flush()
        self._store.shrink()

    # --- sessions ---------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> list[tuple[str, str]]:
        """(robot, session) of each, oldest first."""
        return [(row.robot, row.name) for row in self._sessions.values()]

    def unused_session(self, robot: str, session: str) -> str:
        """That name, or one with a number where it is taken: another drive is another session."""
        names = (session if number == 1 else f"{session}-{number}" for number in count(1))
        return next(name for name in names if not self._is_taken(robot, name))

    def _is_taken(self, robot: str, session: str) -> bool:
        return any(drive_of(*known) == drive_of(robot, session) for known in self._session_of)

    @property
    def durable_ids(self) -> dict[tuple[str, str], int]:
        """By (robot, session): the highest id of a keyframe that is durable. May be read in another thread than the one that adds."""
        durable = self._durable_ids.copy()
        return {
            (row.robot, row.name): durable[number] for number, row in self._sessions.copy().items() if number in durable
        }

    def names_after(self, robot: str, session: str, after: int, up_to: int, limit: int) -> list[KeyframeRef]:
        """Of the keyframes of a session with after < id <= up_to in the order of their ids, `limit` at most."""
        is_wanted = self._table.column("session") == self._session_of.get((robot, session))
        ids = self._table.column("id")
        is_wanted &= (ids > after) & (ids <= up_to)
        keys, ids = self._table.keys[is_wanted], ids[is_wanted]
        return [self._ref(key) for key in keys[np.argsort(ids, kind="stable")[:limit]].tolist()]

    def without_picture(self, ref: KeyframeRef) -> Keyframe:
        """A keyframe but for its picture, which is not read. Raises KeyError."""
        key = self._key(ref)
        pending = self._pending.get(key)
        return self._stored(key, with_picture=False) if pending is None else replace(pending, thumbnail=None)

    def count_of(self, robot: str) -> int:
        """How many keyframes are a robot's."""
        numbers = [number for number, row in self._sessions.copy().items() if row.robot == robot]
        return int(np.isin(self._table.column("session"), numbers).sum())

    def names_of(self, robot: str, session: str) -> list[KeyframeRef]:
        """Of the keyframes of a session, in the order in which they were added."""
        return [self._ref(key) for key in self._keys_of(self._session_of.get((robot, session)))]

    def _keys_of(self, session: int | None) -> list[int]:
        return self._table.keys[self._table.column("session") == session].tolist()

    def odometry_of(self, robot: str, session: str) -> dict[KeyframeRef, Pose]:
        """`odom_from_body` of the session's keyframes that have one, in the order in which they were added."""
        number = self._session_of.get((robot, session))
        if number is None:
            return {}
        waiting = {key: keyframe.odom_from_body for key, keyframe in list(self._pending.items())}
        known = self._store.odometry(number) | waiting
        return {self._ref(key): pose for key in self._keys_of(number) if (pose := known.get(key)) is not None}

    def origin(self, robot: str) -> Keyframe | None:
        """The oldest durable keyframe with a pose, of this robot if it has any: the odometry of its drive and segment is the frame of the map."""
        found = [self._store.first_with_odometry(robot), self._store.first_with_odometry()]
        key = next((each for each in found if each is not None and each in self._table), None)
        return None if key is None else self._keyframe(key)

    def remove_session(self, robot: str, session: str) -> int:
        """Forget a session and its keyframes; how many those were. Raises MapError where there is none of that name."""
        number = self._session_number_of(robot, session)
        keys = self._keys_of(number)
        self._remove(keys)
        self.flush()
        self._store.delete_session(number)
        del self._sessions[number], self._session_of[robot, session]
        self._durable_ids.pop(number, None)
        self._cameras = {row.camera: row for row in self._cameras.values() if row.session != number}
        self._camera_of = {row[1:]: row.camera for row in self._cameras.values()}
        return len(keys)

    def rename_session(self, robot: str, session: str, new_robot: str, new_session: str) -> None:
        """Raises MapError where there is none of that name, or one of the new name."""
        number = self._session_number_of(robot, session)
        if (new_robot, new_session) in self._session_of:
            raise MapError(f"there is a session {new_session!r} of robot {new_robot!r} already")
        self.flush()
        row = SessionRow(number, new_robot, new_session)
        self._store.rename_session(row)
        del self._session_of[robot, session]
        self._sessions[number], self._session_of[new_robot, new_session] = row, number
        self._note_id(new_robot, self._durable_ids.get(number, -1))
        self._kept.clear()
        self._key_of.clear()

    def _session_number_of(self, robot: str, session: str) -> int:
        try:
            return self._session_of[robot, session]
        except KeyError:
            known = ", ".join(sorted(repr(name) for _, name in self.sessions)) or "none"
            raise MapError(f"there is no session {session!r} of robot {robot!r}; sessions: {known}") from None

    # --- search -----------------------------------------------------------------------------------------------------

    def search(self, descriptor: Descriptor, k: int, without: Collection[KeyframeRef] = ()) -> tuple[Candidate, ...]:
        """At most k keyframes, none of those in `without` (which may have been removed meanwhile), most similar first."""
        excluded = [key for ref in without if (key := self._find(ref)) is not None]
        hits = self._index.search(descriptor, k, Selection(without=np.array(excluded, np.int64)))
        return tuple(Candidate(self._ref(hit.key), hit.similarity) for hit in hits)

    def moment(self, ref: KeyframeRef) -> int:
        """Which moment a keyframe belongs to; within a drive they are consecutive, in the order in which keyframes were added."""
        return self._table.get("moment", self._key(ref))

    def matches_of(self, refs: Iterable[KeyframeRef]) -> list[tuple[KeyframeRef, KeyframeRef]]:
        """Of those of the keyframes that were the query of an accepted closure: the keyframe, and the one that it was matched with."""
        keys = {self._find(ref) for ref in refs}
        return [(self._ref(second), self._ref(first)) for first, second in self._links if second in keys]

    @property
    def links(self) -> list[tuple[KeyframeRef, KeyframeRef]]:
        """Pairs of keyframes that an accepted loop closure found to be one place."""
        return [(self._ref(first), self._ref(second)) for first, second in self._links]

    def closures(self) -> Iterator[Link]:
        """`links` with what is known of their poses, as far as they are durable. Raises MapError."""
        for row in self._store.rows(LinkRow):
            if row.first in self._table and row.second in self._table:
                try:
                    pose, covariance = relative_pose_of(row) or (None, None)
                except ValueError as error:
                    raise MapError(f"{self._where} is corrupt: {error}") from error
                yield Link(self._ref(row.first), self._ref(row.second), pose, covariance, bool(row.scale_known))

    def linked_moments(self) -> Iterator[tuple[int, int]]:
        """The moments of each pair of `links`."""
        return ((self._table.get("moment", a), self._table.get("moment", b)) for a, b in self._links)

    def faults(
        self,
        *,
        is_verified: bool,
        calibrated: Collection[str] = (),
        without: Collection[KeyframeRef] = (),
        of_robot: str | None = None,
    ) -> list[str]:
        """What the map cannot do that is asked of it, a sentence each; empty if it can do all.

        `of_robot`: only what this robot made is judged: what others sent has their cameras, and pictures of it come on demand.

        - `is_verified`: matches are verified by local features, which are found in a keyframe's thumbnail;
        - `calibrated`: names of the cameras whose intrinsics are known now, so that the keyframes that they took should have
          some, too; but for those in `without`.
        """
        found = []
        judged = {number for number, row in self._sessions.items() if of_robot in (None, row.robot)}
        is_blind = (self._table.column("thumbnail_bytes") == 0) & np.isin(self._table.column("session"), list(judged))
        blind = int(np.count_nonzero(is_blind)) if is_verified else 0
        if blind:
            found.append(
                f"{_share(blind, len(self))} no picture to verify with (recorded while verification.enabled was false) and "
                "can never match: record the map again, or set verification.enabled to false"
            )
        cameras = [row.camera for row in self._cameras.values() if row.name in calibrated and row.session in judged]
        if bare := self._bare(cameras, without):
            found.append(
                f"{_share(bare, len(self))} no intrinsics, though the camera is calibrated now: closures with them come "
                "without a relative pose; record the map again"
            )
        return found

    def add_all(self, other: PlaceMap, progress: Callable[[Iterator[Keyframe]], Iterable[Keyframe]] = iter) -> int:
        """Add what this map does not have of another one of the same model; how many keyframes.

        Raises MapError, and stops there, where the two have different keyframes of one name.
        """
        added = 0
        for keyframe in progress(iter(other)):
            ref = keyframe.ref
            if ref not in self:
                self.add(keyframe)
                added += 1
                continue
            known = self[ref]
            if float(known.descriptor @ keyframe.descriptor) < SAME_COSINE:
                raise MapError(
                    f"session {ref.session!r} of robot {ref.robot!r} is in both maps, but not the same: rename it in one (vpr map rename)"
                )
            if known.thumbnail is None and keyframe.thumbnail is not None:
                self.add_thumbnail(ref, keyframe.thumbnail)
        self.add_links(other)
        return added

    def add_links(self, other: PlaceMap) -> None:
        """Those of another map between keyframes that this one has, too, and that are new here."""
        known = set(self.links)
        for link in other.closures():
            if (link.first, link.second) not in known and link.first in self and link.second in self:
                self.link(link.first, link.second, link.verification)

    @property
    def without_intrinsics(self) -> int:
        """How many keyframes have none."""
        return self._bare(self._cameras)

    def _bare(self, cameras: Collection[int], without: Collection[KeyframeRef] = ()) -> int:
        bare = {camera for camera in cameras if self._cameras[camera].intrinsics is None}
        if not bare:
            return 0
        excluded = sum(self._table.get("camera", self._key(ref)) in bare for ref in without)
        return int(np.isin(self._table.column("camera"), list(bare)).sum()) - excluded

    # --- keys and numbers of the file -------------------------------------------------------------------------------

    def _key(self, ref: KeyframeRef) -> int:
        """Raises KeyError."""
        key = self._find(ref)
        if key is None:
            raise KeyError(ref)
        return key

    def _find(self, ref: KeyframeRef) -> int | None:
        key = self._key_of.get(ref)
        if key is None:
            session = self._session_of.get((ref.robot, ref.session))
            key = None if session is None else self._store.key_of(session, ref.id)
            if key is None or key not in self._table:
                return None
            self._note_key(ref, key)
        return key

    def _note_key(self, ref: KeyframeRef, key: int) -> None:
        if len(self._key_of) >= KEPT_KEYS:
            for old in list(self._key_of)[: KEPT_KEYS // 2]:
                if self._key_of.get(old) not in self._pending:
                    self._key_of.pop(old, None)
        self._key_of[ref] = key

    def _ref(self, key: int) -> KeyframeRef:
        session, camera, id, stamp_ns = self._table.values(key, "session", "camera", "id", "stamp_ns")
        of_session, of_camera = self._sessions[session], self._cameras[camera]
        ref = KeyframeRef(of_session.robot, of_session.name, id, stamp_ns, of_camera.name, of_camera.frame_id)
        self._note_key(ref, key)
        return ref

    def _keyframe(self, key: int) -> Keyframe:
        found = self._kept.get(key)
        if found is None:
            late = self._late_thumbnails.get(key)  # before the file is read: once it is no more here, it is there
            found = self._pending.get(key) or self._stored(key)
            if late is not None:
                found = replace(found, thumbnail=late)
            self._keep(key, found)
        return found

    def _stored(self, key: int, with_picture: bool = True) -> Keyframe:
        session, camera = self._table.values(key, "session", "camera")
        return self._store.keyframe(key, self._sessions[session], self._cameras[camera], with_picture)

    def _note_id(self, robot: str, id: int) -> None:
        self._highest_ids[robot] = max(self._highest_ids.get(robot, -1), id)

    def _keep(self, key: int, keyframe: Keyframe) -> None:
        if len(self._kept) >= KEPT_KEYFRAMES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = keyframe

    def _session_number(self, ref: KeyframeRef, rows: list[Row]) -> int:
        """Of a keyframe's session; a row for a new one is appended."""
        name = (ref.robot, ref.session)
        if name not in self._session_of:
            self._last_session += 1
            row = SessionRow(self._last_session, *name)
            self._sessions[row.session], self._session_of[name] = row, row.session
            rows.append(row)
        return self._session_of[name]

    def _camera_number(self, session: int, keyframe: Keyframe, rows: list[Row]) -> int:
        """Of a keyframe's camera as it was then; a row for a new one is appended."""
        row = camera_row(self._last_camera + 1, session, keyframe)
        if row[1:] not in self._camera_of:
            self._last_camera += 1
            self._cameras[row.camera], self._camera_of[row[1:]] = row, row.camera
            rows.append(row)
        return self._camera_of[row[1:]]

    def _moment_of(self, session: int, ref: KeyframeRef) -> int:
        drive = self._drives.setdefault(ref.drive, _Drive(session * DRIVE_MOMENTS - 1))
        if drive.session != ref.session or not drive.cameras or ref.camera_name in drive.cameras:
            drive.moment += 1
            drive.cameras = set()
        drive.session = ref.session
        drive.cameras.add(ref.camera_name)
        return drive.moment

    def _drives_of_table(self) -> dict[tuple[str, str], _Drive]:
        """As the file left them; whatever comes is a new moment."""
        sessions, moments = self._table.column("session"), self._table.column("moment")
        drives: dict[tuple[str, str], _Drive] = {}
        for number, row in self._sessions.items():
            last = int(moments[sessions == number].max(initial=-1))
            if last >= 0:
                drive = drives.setdefault(drive_of(row.robot, row.name), _Drive(last))
                drive.moment = max(drive.moment, last)
        return drives

    def _check_table(self) -> None:
        """Raises MapError where the file's rows do not refer to one another."""
        known = {"session": set(self._sessions), "camera": set(self._cameras)}
        for name, numbers in known.items():
            if strangers := set(np.unique(self._table.column(name)).tolist()) - numbers:
                raise MapError(
                    f"{self._where} is corrupt: keyframes of {name} {min(strangers)}, which it does not have"
                )
        try:
            for camera in self._cameras.values():
                head = header_of(
                    self._sessions[camera.session], camera, KeyframeRow(0, 0, 0, 0, 0, 0, 0, 0, None, None, 0)
                )
                _ = head.ref, head.camera
        except (KeyError, ValueError) as error:
            raise MapError(f"{self._where} is corrupt: {error}") from error
        for name, least, most in (
            ("stamp_ns", -LARGEST_STAMP_NS, LARGEST_STAMP_NS),
            ("id", 0, 2**63),
            ("moment", 0, 2**63),
        ):
            column = self._table.column(name)
            if len(column) and not (column.min() >= least and column.max() < most):
                raise MapError(f"{self._where} is corrupt: keyframes of a {name} that cannot be")
        if any(key not in self._table for link in self._links for key in link):
            raise MapError(f"{self._where} is corrupt: loop closures with keyframes that it does not have")

    def _fill_index(self) -> None:
        """What a snapshot of the index has not is read from the file."""
        keys = self._table.keys
        known = self._index.keys()
        self._index.remove(np.setdiff1d(known, keys))
        missing, count = np.setdiff1d(keys, known), 0
        for rows in self._store.descriptors(above=int(missing[0]) - 1 if len(missing) else self._last_key):
            chunk = np.array([row.key for row in rows], np.int64)
            is_missing = _are_in(chunk, missing)
            found = [row for row, each in zip(rows, is_missing.tolist(), strict=True) if each]
            try:
                self._index.add(chunk[is_missing], descriptors_of(found, self.dim))
            except ValueError as error:
                raise MapError(f"{self._where} is corrupt: {error}") from error
            count += len(found)
        if count != len(missing):
            raise MapError(
                f"{self._where} is corrupt: {len(self)} keyframes and {len(self) - len(missing) + count} descriptors"
            )

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, rows: Sequence[Change], key: int | None = None, keyframe: Keyframe | None = None) -> None:
        if key is not None and keyframe is not None:
            self._pending[key] = keyframe
        if self._recorder is not None:
            self._recorder.add(rows)
            return
        self._store.write(rows)
        self._on_written(rows)

    def _on_written(self, rows: Sequence[Change]) -> None:
        """In the recorder's thread, if there is one."""
        for row in rows:
            if isinstance(row, KeyframeRow):
                self._durable_ids[row.session] = max(self._durable_ids.get(row.session, -1), row.id)
                self.on_durable(self._pending.pop(row.key))
            elif isinstance(row, ThumbnailRow):
                self._late_thumbnails.pop(row.key, None)

    def _add_all(self, path: Path, archive: Archive) -> None:
        try:
            for keyframe in archive.keyframes:
                self.add(keyframe)
        except ValueError as error:
            raise MapError(f"{path} is corrupt or no map: {error}") from error
        for first, second in archive.links:
            self.link(archive.keyframes[first].ref, archive.keyframes[second].ref)


def _require(path: Path) -> None:
    if kind_of(path) is Kind.NOTHING:
        raise MapError(f"there is no map {path}")


@dataclass(frozen=True, slots=True)
class MapFacts:
    """With what model a map was made, and how many numbers its descriptors have."""

    model_id: str
    dim: int


def facts_of(path: Path) -> MapFacts:
    """Of a map file. Raises MapError for what is none."""
    _require(path)
    if kind_of(path) is Kind.ARCHIVE:
        archive = read_archive(path)
        return MapFacts(archive.model_id, archive.dim)
    store = Store(path, writable=False)
    try:
        return _facts_of_store(path, store)
    finally:
        store.close()


def _facts_of_store(path: Path, store: Store) -> MapFacts:
    facts = store.facts()
    try:
        return MapFacts(facts["model_id"], int(facts["dim"]))
    except (KeyError, ValueError) as error:
        raise MapError(f"{path} is corrupt or no map: it does not tell its model") from error


def _checked_facts(path: Path, store: Store, model_id: str, dim: int | None) -> int:
    """How many numbers its descriptors have. Raises MapError for a map of another model."""
    facts = _facts_of_store(path, store)
    _check_model(path, facts.model_id, facts.dim, model_id, dim)
    return facts.dim


def _check_model(path: Path, made_with: str, found: int, model_id: str, dim: int | None) -> None:
    if made_with != model_id:
        raise MapError(
            f"{path} was made with another model ({made_with[:12]}, now {model_id[:12]}): descriptors of two models do not "
            f"compare; set model.path to that model, or describe its pictures anew: vpr map reembed {path} NEW"
        )
    if dim not in (None, found):
        raise MapError(f"{path} is corrupt or no map: its descriptors have {found} numbers, the model's {dim}")


def _facts(model_id: str, dim: int) -> dict[str, str]:
    """Of a new file; a copy is another map from then on."""
    return {"map_id": secrets.token_hex(16), "model_id": model_id, "dim": str(dim)}


def _create(path: Path, model_id: str, dim: int) -> None:
    with new_database(path) as database:
        schema.create(database)
        database.executemany("INSERT INTO map VALUES (?, ?)", _facts(model_id, dim).items())


def _import_archive(path: Path, model_id: str, dim: int) -> None:
    """Once: the archive stays beside the map, with another name."""
    archived = PlaceMap.load(path, model_id, dim)
    kept = path.with_name(path.name + ".npz")
    try:
        if not kept.exists():  # it does where an import was cut short
            os.link(path, kept)
    except OSError as error:
        raise MapError(f"cannot keep {path} as {kept.name}: {error.strerror or error}") from error
    archived._store.copy_to(path, _facts(model_id, dim))
    logging.getLogger(__name__).info("%s is a database now; the archive that it was is kept as %s", path, kept.name)


def _index_of(path: Path, store: Store, dim: int, kind: str) -> LocalIndex:
    """With what its snapshot has. A snapshot that has more than the file is that of another past of it, and starts anew."""
    folder, token = path.with_name(path.name.removesuffix(".vprmap") + ".index"), store.facts().get("map_id", "")
    index = open_index(dim, kind, folder, token)
    if not _is_of(index, store):
        index.close()
        shutil.rmtree(folder, ignore_errors=True)
        index = open_index(dim, kind, folder, token)
    return index


def _is_of(index: LocalIndex, store: Store) -> bool:
    """Whether the newest of what both have is the same. Keys are given once, so that older ones are the same then."""
    keys = index.keys()
    if not len(keys):
        return True
    if keys[-1] > store.highest_key():
        return False  # the file is a backup of before, or the disk never had the last keyframes
    found, rows = index.descriptors(keys[-COMPARED:])
    stored = {row.key: row.vector for row in store.rows(DescriptorRow, "key >= ?", (int(found.min()),))}
    return all(stored.get(key, row.tobytes()) == row.tobytes() for key, row in zip(found.tolist(), rows, strict=True))


def _are_in(keys: Keys, ascending: Keys) -> NDArray[np.bool_]:
    """Which of `keys` are among others, which are sorted."""
    if not len(ascending):
        return np.zeros(len(keys), bool)
    positions = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return ascending[positions] == keys


def _share(count: int, total: int) -> str:
    return (
        f"all {total} keyframes of the map have" if count == total else f"{count} of the map's {total} keyframes have"
    )
