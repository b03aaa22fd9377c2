from __future__ import annotations

import threading

import numpy as np

from vpr_ros.stopwatch import MIN_ROUNDS, WARM_UP, Stopwatch, in_turns


def test_durations_by_stage_oldest_first_and_only_the_last_kept() -> None:
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0])
    watch = Stopwatch(keep=2, clock=lambda: next(ticks))
    for _ in range(3):
        with watch("search"):
            pass
    watch.add("end to end", 0.5)
    assert {stage: list(seconds) for stage, seconds in watch.seconds.items()} == {
        "search": [2.0, 3.0],
        "end to end": [0.5],
    }


def test_one_thread_may_read_while_another_meets_new_stages() -> None:
    """The node's diagnostics read once a second what its worker writes: an error there would end the node."""
    watch = Stopwatch(keep=100)
    writer = threading.Thread(target=lambda: [watch.add(f"stage {i}", 0.1) for i in range(60_000)])
    writer.start()
    while writer.is_alive():
        assert all(isinstance(seconds, np.ndarray) for seconds in watch.seconds.values())
    writer.join()
    assert len(watch.seconds) == 60_000


def test_turns_alternate_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    ticks = iter(range(1000))
    seconds = in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 4, clock=lambda: float(next(ticks)))
    assert [list(times) for times in seconds] == [[1.0] * 4] * 2
    assert calls == ["a"] * WARM_UP + ["b"] * WARM_UP + ["a", "b", "b", "a"] * 2


def test_a_slow_call_sits_out_and_the_others_go_on() -> None:
    now = [0.0]

    def takes(seconds: float) -> None:
        now[0] += seconds

    slow, quick = in_turns([lambda: takes(3.0), lambda: takes(0.25)], 40, limit_s=20.0, clock=lambda: now[0])
    assert list(slow) == [3.0] * 7
    assert list(quick) == [0.25] * 40
    [very_slow] = in_turns([lambda: takes(100.0)], 40, limit_s=20.0, clock=lambda: now[0])
    assert len(very_slow) == MIN_ROUNDS
