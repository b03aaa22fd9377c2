"""A shared index on a server, with the robot's own keyframes in a local one that answers whether the server is there or not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from vpr_ros.map.index.base import ALL, Hit, Index, Keys, LocalIndex, Rows, Selection, best
from vpr_ros.map.index.milvus_index import IndexServerError, TooManyKeysError
from vpr_ros.types import Descriptor

RETRY_S = 5.0
"""Between two tries to reach a server that was away."""
_BATCH = 256


class CachedIndex:
    """An `Index`: `local` has what this process added, the server that and what others added.

    What is added or removed goes to the local index at once and to the server from a thread. Only keys wait for the server, each once; the
    descriptors stay where they are, so that the queue of a week without a server is not larger than the map. When the server is back, what
    it has not is sent: nothing depends on what was queued, or on this process having been there all the time.
    Searches wait for the server no longer than its own limit and, once that has passed, not at all until it is back.
    """

    def __init__(self, local: LocalIndex, connect: Callable[[], Index], retry_s: float = RETRY_S) -> None:
        """`connect`: opens the server's index, or raises IndexServerError; called by the thread, and again after each failure."""
        self._local, self._connect, self._retry_s = local, connect, retry_s
        self._changed = threading.Condition()
        self._remote: Index | None = None
        self._added: set[int] = set()
        self._removed: set[int] = set()
        self._fault = "the server of the shared map has not answered yet"
        self._is_closing = False
        self._tries = 0
        self._sender = threading.Thread(target=self._send, name="vpr_index_sender", daemon=True)
        self._sender.start()

    def __len__(self) -> int:
        """Of the local index, as `keys`."""
        return len(self._local)

    def keys(self) -> Keys:
        return self._local.keys()

    def add(self, keys: Keys, descriptors: Rows) -> None:
        self._local.add(keys, descriptors)
        with self._changed:
            self._added.update(np.asarray(keys).tolist())
            self._changed.notify_all()

    def remove(self, keys: Keys) -> None:
        self._local.remove(keys)
        with self._changed:
            self._added.difference_update(np.asarray(keys).tolist())
            self._removed.update(np.asarray(keys).tolist())
            self._changed.notify_all()

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        found = {hit.key: hit for hit in self._local.search(descriptor, k, allowed)}
        with self._changed:
            remote, removed = self._remote, np.fromiter(self._removed, np.int64, len(self._removed))
        if remote is not None:
            without = np.concatenate([allowed.without, removed]) if len(removed) else allowed.without
            try:
                for hit in remote.search(descriptor, k, Selection(without)):
                    found.setdefault(hit.key, hit)  # our own row is exact, the server's may be a code
            except TooManyKeysError:
                pass  # the local answer has to do for this query
            except IndexServerError as error:
                self._lose(remote, error)
        return best(list(found.values()), k)

    def wait(self) -> None:
        """Until the server has everything, or the next try to reach it has failed."""
        self._local.wait()
        with self._changed:
            tries = self._tries
            self._changed.wait_for(
                lambda: (self._remote is not None and not self._added and not self._removed) or self._tries > tries
            )

    def faults(self) -> list[str]:
        with self._changed:
            waiting = len(self._added) + len(self._removed)
            fault = (
                f"{self._fault}; {waiting} changes wait for it, searches use this robot's own map"
                if self._fault
                else ""
            )
        return self._local.faults() + ([fault] if fault else [])

    def close(self) -> None:
        """What has not been sent is sent after the next start."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._sender.join()
        if self._remote is not None:
            self._remote.close()
        self._local.close()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._remote is None or self._added or self._removed)
                if self._is_closing:
                    return
                remote = self._remote
            try:
                if remote is None:
                    self._reach()
                else:
                    self._send_some(remote)
            except IndexServerError as error:
                self._lose(remote, error)
                with self._changed:
                    self._tries += 1
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._is_closing, timeout=self._retry_s)

    def _reach(self) -> None:
        """Raises IndexServerError."""
        remote = self._connect()
        try:
            theirs = remote.keys()
        except IndexServerError:
            remote.close()
            raise
        with self._changed:
            self._remote, self._fault = remote, ""
            self._added = set(np.setdiff1d(self._local.keys(), theirs).tolist())
            self._changed.notify_all()

    def _send_some(self, remote: Index) -> None:
        """Raises IndexServerError, and then nothing counts as sent."""
        with self._changed:
            added, removed = sorted(self._added)[:_BATCH], sorted(self._removed)[:_BATCH]
        keys, rows = self._local.descriptors(np.array(added, np.int64))
        if len(keys):
            remote.add(keys, rows)
        if removed:
            remote.remove(np.array(removed, np.int64))
        with self._changed:
            self._added.difference_update(added)
            self._removed.difference_update(removed)
            self._changed.notify_all()

    def _lose(self, remote: Index | None, error: IndexServerError) -> None:
        with self._changed:
            if self._remote is not remote:
                return  # another thread was first
            self._remote = None
            self._fault = f"the server of the shared map is away ({error})"
            self._changed.notify_all()
        if remote is not None:
            remote.close()
