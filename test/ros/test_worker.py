"""The worker's thread, held in work by an event while items are offered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Queue
from threading import Event

from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.ros.worker import LatestWorker


class Held:
    """A worker whose thread is busy with a first item until it is released; then `batches` holds what it took."""

    def __init__(self) -> None:
        self.release, self._busy = Event(), Event()
        self.batches: Queue[Mapping[str, int]] = Queue()
        self.errors: Queue[tuple[Mapping[str, int], Exception]] = Queue()
        self.worker: LatestWorker[int] = LatestWorker(self._work, lambda *failure: self.errors.put(failure))
        self.worker.offer("", -1)
        assert self._busy.wait(10)

    def _work(self, batch: Mapping[str, int]) -> None:
        if not self._busy.is_set():
            self._busy.set()
            assert self.release.wait(10)
            return
        if 13 in batch.values():
            raise ValueError("unlucky")
        self.batches.put(batch)


@contextmanager
def held() -> Iterator[Held]:
    held = Held()
    try:
        yield held
    finally:
        held.release.set()
        assert held.worker.stop(120)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(20, 99)), min_size=1))
def test_a_batch_is_the_newest_of_each_source_in_the_order_of_arrival(offers: list[tuple[str, int]]) -> None:
    with held() as it:
        for source, item in offers:
            it.worker.offer(source, item)
        it.release.set()
        batch = it.batches.get(timeout=120)
        newest = {source: i for i, (source, _) in enumerate(offers)}
        assert list(batch.items()) == [offers[i] for i in sorted(newest.values())]
        assert it.worker.dropped == {
            source: dropped for source in newest if (dropped := [s for s, _ in offers].count(source) - 1)
        }
        assert it.worker.dropped["never heard of"] == 0


def test_a_silent_source_holds_nothing_up() -> None:
    with held() as it:
        it.release.set()
        for item in range(3):
            it.worker.offer("front", item)
            assert it.batches.get(timeout=120) == {"front": item}


def test_a_failure_names_its_batch_and_the_next_one_is_worked_on() -> None:
    with held() as it:
        it.worker.offer("front", 13)
        it.worker.offer("rear", 2)
        it.release.set()
        batch, error = it.errors.get(timeout=120)
        assert batch == {"front": 13, "rear": 2}
        assert str(error) == "unlucky"
        it.worker.offer("rear", 3)
        assert it.batches.get(timeout=120) == {"rear": 3}


def test_a_batch_that_never_ends_is_seen_and_not_waited_for() -> None:
    with held() as it:
        assert it.worker.busy_s > 0
        assert not it.worker.stop(timeout_s=0.01)
        it.worker.offer("front", 1)  # comes too late
        it.release.set()
        assert it.worker.stop(timeout_s=120)
        assert it.batches.empty()
        assert it.worker.busy_s == 0
