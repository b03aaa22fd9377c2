"""What is written in another thread: all of it, in order, and nothing is lost where the disk refuses."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from vpr_ros.errors import MapError
from vpr_ros.map.recorder import Recorder
from vpr_ros.map.rows import LinkRow, Row


class Disk:
    """Rows that are on it; `is_full` refuses them, `opens` holds writing up."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.batches: list[int] = []
        self.is_full = False
        self.opens = threading.Event()
        self.opens.set()
        self.tried = threading.Event()

    def write(self, rows: Sequence[Row], /) -> None:
        self.opens.wait()
        self.tried.set()
        if self.is_full:
            raise MapError("the disk is full")
        self.rows += rows
        self.batches.append(len(rows))


def row(i: int) -> LinkRow:
    return LinkRow(i, i)


def test_rows_are_written_in_order_and_announced_after_that() -> None:
    disk, announced = Disk(), list[Row]()

    def announce(rows: Sequence[Row]) -> None:
        assert disk.rows[-len(rows) :] == rows
        announced.extend(rows)

    recorder = Recorder(disk, announce)
    for i in range(500):
        recorder.add([row(2 * i), row(2 * i + 1)])
    recorder.flush()
    assert disk.rows == announced == [row(i) for i in range(1000)]
    recorder.close()


def test_what_gathers_while_the_disk_works_is_one_transaction() -> None:
    disk = Disk()
    disk.opens.clear()
    recorder = Recorder(disk, lambda rows: None)
    for i in range(10):
        recorder.add([row(i)])  # returns, though the disk does not
    assert len(recorder.waiting) == 10
    disk.opens.set()
    recorder.flush()
    assert sum(disk.batches) == 10
    assert len(disk.batches) <= 2
    recorder.close()


def test_what_a_full_disk_refuses_waits_and_is_written_once_there_is_room() -> None:
    disk = Disk()
    recorder = Recorder(disk, lambda rows: None)
    disk.is_full = True
    recorder.add([row(0)])
    with pytest.raises(MapError, match="the disk is full"):
        recorder.flush()
    recorder.add([row(1)])
    assert recorder.fault == "the disk is full"
    assert recorder.waiting == [row(0), row(1)]
    disk.is_full = False
    recorder.flush()
    assert disk.rows == [row(0), row(1)]
    assert (recorder.fault, recorder.waiting) == ("", [])
    recorder.close()


def test_closing_tries_once_more() -> None:
    disk = Disk()
    recorder = Recorder(disk, lambda rows: None)
    disk.is_full = True
    recorder.add([row(0)])
    disk.tried.wait()
    disk.is_full = False
    recorder.close()
    assert disk.rows == [row(0)]


def test_closing_reports_what_is_lost() -> None:
    disk = Disk()
    recorder = Recorder(disk, lambda rows: None)
    disk.is_full = True
    recorder.add([row(0)])
    with pytest.raises(MapError, match="the disk is full"):
        recorder.close()
    assert recorder.waiting == [row(0)]


def test_a_listener_that_fails_holds_nothing_up() -> None:
    def announce(rows: Sequence[Row]) -> None:
        raise RuntimeError("nobody listens")

    disk = Disk()
    recorder = Recorder(disk, announce)
    for i in range(3):
        recorder.add([row(i)])
        recorder.flush()
    recorder.close()
    assert disk.rows == [row(0), row(1), row(2)]
