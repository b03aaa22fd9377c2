"""An index for many keyframes: a large sealed part with codes, and a small exact tail of what was added since.

The tail is searched exactly until it is long enough; then a thread encodes it together with the sealed part, and the result takes the
place of both. Queries and additions never wait for that: they see either the state before or the one after.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import faiss
import numpy as np

from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection, best
from vpr_ros.map.index.codes import Codes, Positions, Stopped
from vpr_ros.map.index.faiss_index import FaissIndex
from vpr_ros.map.index.row_file import RowFile
from vpr_ros.map.index.sealed_rows import SealedRows, all_alive, count_of
from vpr_ros.map.index.snapshot import Snapshot
from vpr_ros.types import Descriptor

TAIL = 2048
"""Rows that are added to a sealed part at once: to search so many exactly takes about 0.2 ms."""
GROWTH = 2
"""So many times as many rows as codes were trained for, and they are trained again."""
MOST_DEAD = 0.25
"""Share of removed rows above which the sealed part is made anew without them."""
UNSAVED = 1 / 8
"""Share of rows that are built again at the next start if the process dies; a snapshot is not written for fewer."""
_SLICE = 1024
_CHUNK = 4096
_NICENESS = 10


class TieredIndex:
    """An `Index`. Any number of threads may use it."""

    def __init__(
        self, dim: int, kind: Codes, seal_from: int, snapshot: Snapshot | None = None, tail: int = TAIL
    ) -> None:
        """`seal_from`: so many rows are the first to be sealed. What `snapshot` has is in the index at once."""
        self._dim, self._kind, self._first, self._tail_rows, self._snapshot = dim, kind, seal_from, tail, snapshot
        self._changed = threading.Condition()
        """Holds the lock of all that follows; nothing slow is done under it."""
        self._sealed = snapshot.load() if snapshot else None
        self._tails = [FaissIndex(dim)]
        """In the order of their keys; only the last one changes."""
        self._dead: Keys = np.empty(0, np.int64)
        """Removed keys that tails other than the last one still have."""
        self._removed: list[Keys] = []
        """What was removed since the build began."""
        self._last_key = int(self._sealed.keys[-1]) if self._sealed is not None else -1
        self._builder: threading.Thread | None = None
        self._is_closing = False
        self._fault = ""
        self._patience = 1
        """Times as long a tail is waited for as otherwise, after a build failed."""

    def __len__(self) -> int:
        with self._changed:
            sealed = len(self._sealed) - self._sealed.dead if self._sealed is not None else 0
            return sealed + sum(map(len, self._tails)) - len(self._dead)

    @property
    def sealed_count(self) -> int:
        """Keyframes of the sealed part, with removed ones."""
        with self._changed:
            return len(self._sealed) if self._sealed is not None else 0

    @property
    def is_building(self) -> bool:
        """Whether work is done in the background."""
        with self._changed:
            return self._builder is not None

    def keys(self) -> Keys:
        with self._changed:
            sealed = [self._sealed.keys[self._sealed.living()]] if self._sealed is not None else []
            keys = np.concatenate([*sealed, *(tail.order() for tail in self._tails)])
            return keys[~np.isin(keys, self._dead)] if len(self._dead) else keys

    def descriptors(self, keys: Keys) -> tuple[Keys, Rows]:
        with self._changed:
            alive = np.setdiff1d(keys, self._dead)
            found = [self._sealed.descriptors(alive)] if self._sealed is not None else []
            found += [tail.descriptors(alive) for tail in self._tails]
        return np.concatenate([some for some, _ in found]), np.concatenate([rows for _, rows in found])

    def add(self, keys: Keys, descriptors: Rows) -> None:
        """Raises ValueError where keys do not ascend."""
        if len(keys) and (int(keys[0]) <= self._last_key or np.any(np.diff(keys) <= 0)):
            raise ValueError("keys have to ascend in the order of adding")
        for start in range(0, len(keys), _SLICE):  # between slices, queries have their turn
            some = slice(start, start + _SLICE)
            with self._changed:
                self._tails[-1].add(keys[some], descriptors[some])
                self._last_key = int(keys[some][-1])
                self._build_if_due()

    def remove(self, keys: Keys) -> None:
        keys = np.asarray(keys, np.int64)
        with self._changed:
            if self._sealed is not None:
                self._sealed.remove(keys)
                self._drop_if_empty()
            self._tails[-1].remove(keys)
            frozen = [tail.order() for tail in self._tails[:-1]]
            if frozen:
                self._dead = np.union1d(self._dead, np.intersect1d(keys, np.concatenate(frozen)))
            if self._builder:
                self._removed.append(keys)
            self._build_if_due()

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        descriptor = np.ascontiguousarray(descriptor, np.float32)
        with self._changed:
            sealed, frozen = self._sealed, self._tails[:-1]
            without = np.concatenate([allowed.without, self._dead]) if len(self._dead) else allowed.without
            hits = self._tails[-1].search(descriptor, k, allowed)
        for tail in frozen:
            hits += tail.search(descriptor, k, Selection(without))
        if sealed is not None:
            hits += sealed.search(descriptor, k, without)
        return best(hits, k)

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._builder is None)

    def faults(self) -> list[str]:
        snapshot = self._snapshot.faults() if self._snapshot else []
        return snapshot + ([self._fault] if self._fault else [])

    def close(self) -> None:
        """A build that is under way ends after the step that it is in: a few seconds at most at a million keyframes."""
        with self._changed:
            self._is_closing = True
        self.wait()
        if self._snapshot:
            if self._sealed is not None and len(self._sealed) != self._snapshot.count:
                self._snapshot.save(self._sealed)
            self._snapshot.close()
        if self._sealed is not None:
            self._sealed.file.close()

    def _build_if_due(self) -> None:
        """The lock is held."""
        if self._builder or self._is_closing or not self._is_due():
            return
        self._builder = threading.Thread(target=self._build_in_background, name="vpr_index_builder")
        self._freeze()
        self._builder.start()

    def _drop_if_empty(self, is_building: bool | None = None) -> None:
        """The lock is held. Nothing is made anew of a sealed part that has nothing left."""
        is_building = self._builder is not None if is_building is None else is_building
        if not is_building and self._sealed is not None and self._sealed.dead == len(self._sealed):
            self._sealed.file.close()
            self._sealed = None

    def _is_due(self) -> bool:
        new = sum(map(len, self._tails))
        if self._sealed is None:
            return new >= self._first * self._patience
        is_wasteful = self._is_wasteful(self._sealed)
        return new >= self._tail_rows * self._patience or (is_wasteful and self._patience == 1)

    @staticmethod
    def _is_wasteful(sealed: SealedRows) -> bool:
        return sealed.dead > MOST_DEAD * len(sealed)

    def _freeze(self) -> None:
        """Additions go to a new tail from now on, so that the build may read the others."""
        self._tails = [tail for tail in self._tails if len(tail)] + [FaissIndex(self._dim)]
        self._removed = []

    def _build_in_background(self) -> None:
        faiss.omp_set_num_threads(1)  # of this thread alone
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            try:
                self._build()
                failure = ""
            except Stopped:
                failure = ""
            except Exception as error:  # the disk is full, memory is short: what was there is searched on
                failure = f"the index could not be rebuilt ({error}): new keyframes are compared one by one"
            with self._changed:
                self._fault = failure
                self._patience = self._patience * 2 if failure else 1
                self._drop_if_empty(is_building=False)
                if self._is_closing or not self._is_due():
                    self._builder = None
                    self._changed.notify_all()
                    return
                self._freeze()

    def _check(self) -> None:
        if self._is_closing:
            raise Stopped

    def _build(self) -> None:
        with self._changed:
            old, taken, dead = self._sealed, self._tails[:-1], self._dead
            living = old.living() if old is not None and self._is_wasteful(old) else None
        if old is not None and living is not None and len(living) + sum(map(len, taken)) < self._first // 2:
            self._unseal(old, living)
            return
        new = self._sealed_of(old, living, taken)
        new.remove(dead)
        is_new_file = old is None or new.file is not old.file
        with self._changed:
            for keys in self._removed:
                new.remove(keys)
            self._removed = []
            self._sealed, self._tails, self._dead = new, self._tails[len(taken) :], np.empty(0, np.int64)
        if old is not None and is_new_file:
            old.file.close()
        if self._snapshot and (is_new_file or len(new) - self._snapshot.count > UNSAVED * len(new)):
            self._snapshot.save(new)

    def _unseal(self, old: SealedRows, living: Positions) -> None:
        """So little is left that it is searched exactly again."""
        tail = FaissIndex(self._dim)
        tail.add(old.keys[living], old.file.rows[living])
        with self._changed:
            for keys in self._removed:
                tail.remove(keys)
            self._sealed, self._tails = None, [tail, *self._tails]
        old.file.close()

    def _sealed_of(self, old: SealedRows | None, living: Positions | None, taken: list[FaissIndex]) -> SealedRows:
        """`old` and `taken` in one. The rows of `old` stay where they are, and their codes if they can, unless only the `living` are kept."""
        index = None
        if old is not None and living is None:
            file, keys, alive, index = old.file, old.keys, old.alive, old.index
            file.cut(len(old))
        else:
            file = self._snapshot.new_rows() if self._snapshot else RowFile.in_memory(self._dim)
            keys, alive = np.empty(0, np.int64), all_alive(0)
            if old is not None and living is not None:
                keys, alive = old.keys[living], all_alive(len(living))
                for start in range(0, len(living), _CHUNK):
                    self._check()
                    file.append(old.file.rows[living[start : start + _CHUNK]])
        for tail in taken:
            for start in range(0, len(tail), _CHUNK):
                self._check()
                file.append(tail.rows(start, min(start + _CHUNK, len(tail))))
        count, before = file.count, len(keys)
        keys = np.concatenate([keys, *(tail.order() for tail in taken)])
        bits = all_alive(count)
        bits[: before >> 3] = alive[: before >> 3]
        if before & 7:
            bits[before >> 3] &= alive[before >> 3] | (0xFF << (before & 7) & 0xFF)
        trained_for = count
        if index is not None and old is not None and count < GROWTH * old.trained_for:
            index, trained_for = faiss.clone_index(index), old.trained_for
        else:
            size = self._kind.sample_size(count)
            sampled = np.sort(np.random.default_rng(count).choice(count, size, replace=False))
            index = self._kind.train(np.ascontiguousarray(file.rows[sampled]), count, self._check)
        for start in range(index.ntotal, count, _CHUNK):
            self._check()
            index.add(np.ascontiguousarray(file.rows[start : start + _CHUNK]))
        return SealedRows(self._kind, keys, file, index, bits, count - count_of(bits, count), trained_for)
