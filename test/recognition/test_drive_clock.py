"""Stamps as drivers, networks and recordings get them wrong; what was received when is known or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.config import SessionConfig
from vpr_ros.errors import FrameOrderError
from vpr_ros.recognition.drive_clock import AGREEING_FRAMES, DriveClock, Tick, stamp_or_received
from vpr_ros.types import Frame

S = 10**9
CONFIG = SessionConfig()
PIXEL = np.zeros((1, 1, 3), np.uint8)


def frame(stamp_s: float, received_s: float | None = None, camera_name: str = "") -> Frame:
    received_ns = None if received_s is None else round(received_s * S)
    return Frame(round(stamp_s * S), PIXEL, camera_name=camera_name, received_ns=received_ns)


def follow(clock: DriveClock, frames: Sequence[Frame]) -> list[float | str]:
    """Seconds of the drive; "dropped"; or "new" and the seconds, where a session begins."""
    result: list[float | str] = []
    for one in frames:
        try:
            tick: Tick = clock.follow(one, CONFIG)
        except FrameOrderError:
            result.append("dropped")
        else:
            result.append(f"new {tick.elapsed_ns / S:g}" if tick.restarted else tick.elapsed_ns / S)
    return result


def received_each_half_second(stamps: Sequence[float]) -> list[Frame]:
    return [frame(stamp, 1000 + 0.5 * i) for i, stamp in enumerate(stamps)]


def test_the_drive_begins_at_zero_whatever_the_clock_shows() -> None:
    for start in (0.0, 5.0, 1.7e9):
        assert follow(DriveClock(), [frame(start), frame(start + 0.5), frame(start + 1.0)]) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("odd", [0.0, 97.4, 1100.0, 1.7e9])
@pytest.mark.parametrize("is_received", [True, False])
def test_one_odd_stamp_changes_nothing_for_those_in_order(odd: float, is_received: bool) -> None:
    stamps = [100.0, 100.5, 101.0, odd, 102.0, 102.5, 103.0, 103.5]
    frames = received_each_half_second(stamps) if is_received else [frame(stamp) for stamp in stamps]
    times = follow(DriveClock(), frames)
    assert times[:3] + times[4:] == [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 3.5]
    assert times[3] == "dropped" or (odd > 100 and not is_received)  # without a second clock a far stamp may be a pause


def test_two_odd_stamps_are_not_yet_a_session_and_three_are() -> None:
    for count in (AGREEING_FRAMES - 1, AGREEING_FRAMES):
        clock = DriveClock()
        assert follow(clock, [frame(100.0), frame(100.5)]) == [0.0, 0.5]
        odd = follow(clock, [frame(5.0 + 0.5 * i) for i in range(count)])
        assert odd == (["dropped"] * 2 if count == 2 else ["dropped", "dropped", "new 1.5"])
    assert follow(clock, [frame(6.5)]) == [2.0]


def test_odd_stamps_that_do_not_follow_each_other_are_no_session() -> None:
    assert follow(DriveClock(), [frame(s) for s in (100, 100.5, 5, 4, 3, 2.5, 2, 1.5, 1, 0.5, 101)]) == [
        0.0, 0.5, *["dropped"] * 8, 1.0,
    ]  # fmt: skip


@pytest.mark.parametrize("step", [3600.0, -3600.0, -5.0, 1.7e9])
def test_when_the_clock_is_set_the_drive_goes_on_by_what_has_passed(step: float) -> None:
    """A board without a clock of its own boots in 1970 and learns the time: the robot has not waited for 50 years."""
    stamps = [5000 + 0.5 * i + (step if i >= 10 else 0.0) for i in range(20)]
    times = follow(DriveClock(), received_each_half_second(stamps))
    assert times == [*(0.5 * i for i in range(10)), "dropped", "dropped", "new 6", *(0.5 * i for i in range(13, 20))]


def test_after_a_small_step_back_frames_are_dropped_until_the_clock_has_caught_up() -> None:
    stamps = [5000 + 0.5 * i - (2.0 if i >= 10 else 0.0) for i in range(20)]
    times = follow(DriveClock(), received_each_half_second(stamps))
    assert times == [*(0.5 * i for i in range(10)), *["dropped"] * 4, *(0.5 * i for i in range(10, 16))]


def test_without_a_clock_of_reception_a_jump_back_takes_no_time() -> None:
    times = follow(DriveClock(), [*(frame(50 + i) for i in range(4)), *(frame(i) for i in range(5))])
    assert times == [0.0, 1.0, 2.0, 3.0, "dropped", "dropped", "new 5", 6.0, 7.0]


def test_a_pause_is_no_jump() -> None:
    """The camera was off, and the clock of reception went on; or a recording without one has a gap."""
    for received in (True, False):
        clock = DriveClock()
        for second in (0, 1, 200, 201):
            (time,) = follow(clock, [frame(second, 50 + second if received else None)])
            assert time == second


def test_a_recording_played_faster_than_it_was_made_is_no_jump() -> None:
    assert follow(DriveClock(), [frame(2.0 * i, 0.1 * i) for i in range(30)]) == [2.0 * i for i in range(30)]
    assert follow(DriveClock(), [frame(20.0 * i, 0.1 * i) for i in range(5)]) == [20.0 * i for i in range(5)]


def test_a_stamp_that_is_not_newer_is_dropped() -> None:
    assert follow(DriveClock(), [frame(s) for s in (5, 5, 4.5, 6)]) == [0.0, "dropped", "dropped", 1.0]


def test_the_messages_name_the_reason() -> None:
    clock = DriveClock()
    follow(clock, [frame(100, camera_name="front"), frame(100, camera_name="rear")])
    for late, words in (
        (frame(99.5, camera_name="front"), "not newer"),
        (frame(5, camera_name="front"), r"95\.000 s before the last one; it is dropped unless 3 in a row agree"),
    ):
        with pytest.raises(FrameOrderError, match=words):
            clock.follow(late, CONFIG)
    follow(clock, [frame(110, camera_name="front")])
    with pytest.raises(FrameOrderError, match=r"of camera rear is 5\.000 s behind the other cameras.*clocks agree"):
        clock.follow(frame(105, camera_name="rear"), CONFIG)


def test_a_camera_with_another_clock_is_refused_while_the_others_live() -> None:
    clock = DriveClock()
    both = [one for i in range(40) for one in (frame(100 + 0.1 * i, camera_name="a"), frame(0.1 * i, camera_name="b"))]
    times = follow(clock, both)
    assert times[1::2] == ["dropped"] * 40
    assert times[::2] == pytest.approx([0.1 * i for i in range(40)])


def test_a_rig_whose_clock_jumps_begins_one_session() -> None:
    clock = DriveClock()
    rig = [frame(start + i + jitter, camera_name=name) for start in (100, 5) for i in range(5)
           for name, jitter in (("a", 0.0), ("b", -0.3))]  # fmt: skip
    times = follow(clock, rig)
    assert [isinstance(time, str) and time.startswith("new") for time in times].count(True) == 1
    assert not any(isinstance(time, str) for time in times[14:])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from([1, 2, 5]), st.sampled_from([0, 0, 0, 0, -3, -30, 700, -5000])
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_the_laws(events: list[tuple[str, int, int]], is_received: bool) -> None:
    """Tenths of seconds passed and by how many the stamp is off. Drive time never runs ahead of what has passed since the
    first frame by more than an odd stamp that was just taken for a pause, and within a session stamps and drive time differ by a
    constant."""
    clock, now, offset, last = DriveClock(), 10**5, None, {}
    for camera, passed, off in events:
        now += passed
        one = frame((now + off) / 10, now / 10 if is_received else None, camera)
        try:
            tick = clock.follow(one, CONFIG)
        except FrameOrderError:
            continue
        if tick.restarted:
            offset, last = None, {}
        assert offset in (None, tick.elapsed_ns - one.stamp_ns)
        offset = tick.elapsed_ns - one.stamp_ns
        if is_received:
            assert tick.elapsed_ns <= (now - 10**5) * S // 10 + 70 * S
        last[camera] = one.stamp_ns


def test_a_stamp_of_zero_is_none() -> None:
    assert stamp_or_received(0, 77) == 77
    assert stamp_or_received(5, 77) == 5
