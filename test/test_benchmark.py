from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_backends import FakeBackend, FakeEngine
from small_worlds import texture

from vpr_ros import benchmark
from vpr_ros.benchmark import (
    Benchmark,
    Case,
    Measured,
    Row,
    Settings,
    cases,
    in_process,
    in_turns,
    measure,
    this_machine,
)
from vpr_ros.config import Config
from vpr_ros.engines.backend import BuildOptions, Progress
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.errors import EngineError, SourceError
from vpr_ros.evaluation.ground_truth import Protocol
from vpr_ros.model import PlaceModel

# processes that start here import what follows by its plain name: `test` is a package of Python's own
sys.modules["test_benchmark"] = sys.modules[__name__]
__name__ = "test_benchmark"

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)


class Told:
    """What was said of the progress, in this process."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, share: float | None) -> None:
        self.texts.append(text)


@dataclass
class AbortingBackend(FakeBackend):
    name: str = "aborting"
    precisions: tuple[str, ...] = ("fp32",)

    def build(self, model: PlaceModel, graph: bytes, options: BuildOptions, progress: Progress) -> bytes:
        progress("dividing by zero: why not", None)
        os.abort()


@dataclass
class MadBackend(FakeBackend):
    """Right in the first descriptor of a call, no number in the others."""

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> FakeEngine:
        engine = super().load(model, content, options)
        describe = engine.describe

        def mad(images: np.ndarray) -> np.ndarray:
            descriptors = describe(images)
            if len(images) == 2:
                descriptors[1:] = np.nan
            return descriptors

        engine.describe = mad  # type: ignore[method-assign]
        return engine


@dataclass
class BlindBackend(FakeBackend):
    """All images look the same to it."""

    def load(self, model: PlaceModel, content: bytes, options: BuildOptions) -> FakeEngine:
        engine = super().load(model, content, options)
        same = np.full(model.dim, model.dim**-0.5, np.float32)
        engine.describe = lambda images: np.tile(same, (len(images), 1))  # type: ignore[method-assign]
        return engine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Config().with_values({"engine.threads": 1}), tmp_path / "engines", rounds=7)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without processes: what they do is under test, not that they are."""
    monkeypatch.setattr(benchmark, "in_process", lambda tell, work, *arguments: work(tell, *arguments))


def only(model: PlaceModel, backend: Any, precision: str = "fp32", batch: int = 1) -> list[Case]:
    return [Case(model, IMAGES, backend, precision, batch)]


def check(row: Row) -> Measured:
    """What holds for every measured row, however fast the machine was."""
    m = row.measured
    assert m is not None, row.reason
    percentiles = list(m.percentiles_ms.values())
    assert list(m.percentiles_ms) == ["p0", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "p100"]
    assert percentiles[0] > 0
    assert percentiles == sorted(percentiles)
    assert (m.median_ms, m.p99_ms) == (m.percentiles_ms["p50"], m.percentiles_ms["p99"])
    assert m.images_per_s == pytest.approx(1e3 * row.batch / m.median_ms)
    assert m.reference_ms > 0
    assert 0 < m.speed_quartiles[0] <= m.speed <= m.speed_quartiles[1]
    assert -1 <= m.cosine_min <= m.cosine_median <= 1 + 1e-6
    assert m.load_s > 0
    assert m.build_s is None or m.build_s > 0
    return m


def test_in_processes_of_their_own_one_may_crash(grid_model: PlaceModel, settings: Settings) -> None:
    told = Told()
    aborting = AbortingBackend()
    crashed, measured = measure(
        [*only(grid_model, aborting), *only(grid_model, OnnxRuntimeBackend(), batch=2)], settings, told
    )
    assert crashed == Row(
        "grid", grid_model.id, "64x48", "aborting", "fp32", 1,
        reason="the process crashed (SIGABRT) while dividing by zero",
    )  # fmt: skip
    m = check(measured)
    assert (measured.backend, measured.batch, m.rounds, m.images) == ("onnxruntime", 2, 7, 3)
    assert m.cosine_min == pytest.approx(1, abs=1e-6)
    assert not m.is_refused
    assert m.memory_mb > 0
    assert m.device_memory_mb is None
    assert m.build_s > 0
    assert "measuring engine and reference in turns" in told.texts
    assert aborting.engines == []


def _fail(tell: Progress, error: Exception) -> None:
    tell("going wrong", 0.5)
    raise error


def test_what_a_process_tells_and_raises_comes_back() -> None:
    ours, theirs = multiprocessing.Pipe()
    for error in (SourceError("no poses"), ZeroDivisionError("by zero")):
        ours.send((_fail, (error,)))
        benchmark._work(theirs)
    (told, failed), (_, other) = [(ours.recv(), ours.recv()) for _ in range(2)]
    assert told == ("told", ("going wrong", 0.5))
    assert (failed[0], type(failed[1]), str(failed[1])) == ("failed", SourceError, "no poses")
    assert (type(other[1]), str(other[1])) == (EngineError, "ZeroDivisionError: by zero")


def test_a_process_without_work_ends() -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.close()  # as an interrupt does before anything was sent
    benchmark._work(theirs)


def test_how_a_process_ended() -> None:
    assert benchmark._end(-signal.SIGSEGV) == "crashed (SIGSEGV)"
    assert benchmark._end(-signal.SIGKILL) == "was killed (SIGKILL: most likely memory ran out)"
    assert benchmark._end(3) == "ended (status 3)"


def _wait_for_ever(tell: Progress) -> None:
    tell(str(os.getpid()), None)
    threading.Event().wait()


def test_an_interrupt_ends_the_process() -> None:
    pids: list[int] = []

    def interrupt(text: str, share: float | None) -> None:
        pids.append(int(text))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_process(interrupt, _wait_for_ever)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.usefixtures("here")
def test_an_engine_below_the_bar_is_measured_and_marked(grid_model: PlaceModel, settings: Settings) -> None:
    [row] = measure(only(grid_model, FakeBackend(turned=0.3)), settings, Told())
    m = check(row)
    assert m.bar == 0.9999
    assert m.is_refused
    lower = replace(settings, config=settings.config.with_values({"engine.min_cosine": 0.5}))
    [row] = measure(only(grid_model, FakeBackend(turned=0.3)), lower, Told())
    assert check(row).bar == 0.5
    assert not row.measured.is_refused


@pytest.mark.usefixtures("here")
def test_the_cosine_is_that_of_the_batch_that_was_measured(grid_model: PlaceModel, settings: Settings) -> None:
    [one] = measure(only(grid_model, MadBackend()), settings, Told())
    assert check(one).cosine_min == pytest.approx(1, abs=1e-6)
    [two] = measure(only(grid_model, MadBackend(), batch=2), settings, Told())
    assert two.reason == "its descriptors are not all numbers"


@pytest.mark.usefixtures("here")
def test_what_is_in_the_cache_is_not_built(grid_model: PlaceModel, settings: Settings) -> None:
    backend = FakeBackend()
    [first] = measure(only(grid_model, backend), settings, Told())
    [second] = measure(only(grid_model, backend), settings, Told())
    assert check(first).build_s > 0
    assert check(second).build_s is None
    assert len(backend.built) == 1


@pytest.mark.usefixtures("here")
def test_options_reach_the_engine(grid_model: PlaceModel, settings: Settings) -> None:
    backend = FakeBackend()
    config = settings.config.with_values({"engine.threads": 3, "engine.cores": "0"})
    list(measure(only(grid_model, backend, "bf16", 4), replace(settings, config=config), Told()))
    assert backend.built == [BuildOptions("bf16", batch=4, threads=3, cores=(0,))]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        (FakeBackend(why_missing="it is not installed"), "fp32", "it is not installed"),
        (FakeBackend(), "int8", "fake has fp32, bf16 only"),
        (FakeBackend(builds=False), "fp32", "operator Bead is not known"),
        (FakeBackend(loads=False), "fp32", "not a file of mine"),
        (FakeBackend(has_lost_its_device=True), "fp32", "the device is lost"),
    ],
)
def test_what_cannot_run_is_a_row_with_its_reason(
    grid_model: PlaceModel, settings: Settings, backend: FakeBackend, precision: str, reason: str
) -> None:
    [row] = measure(only(grid_model, backend, precision), settings, Told())
    assert (row.measured, row.reason) == (None, reason)


# --- recall -----------------------------------------------------------------------------------------------------------


def write_drive(root: Path, places: list[int]) -> Path:
    """A TUM recording with an image a second; place k is 20 k metres away."""
    root.mkdir()
    names, poses = [], []
    for second, place in enumerate(places):
        cv2.imwrite(str(root / f"{second}.png"), texture(place, 64, 48))
        names.append(f"{second} {second}.png\n")
        poses.append(f"{second} {20 * place} 0 0 0 0 0 1\n")
    (root / "rgb.txt").write_text("".join(names))
    (root / "groundtruth.txt").write_text("".join(poses))
    return root


@pytest.fixture
def judged(settings: Settings, tmp_path: Path) -> Settings:
    """Eight places, then the first four again."""
    values = {"keyframe.min_interval_s": 0.0, "exclusion.time_s": 4.0, "exclusion.count": 0, "engine.threads": 1}
    places = write_drive(tmp_path / "drive", [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])
    config = Config().with_values(values)
    return replace(settings, config=config, places=places, protocol=Protocol(exclusion_s=4.0))


@pytest.mark.usefixtures("here")
def test_recall_and_its_change(grid_model: PlaceModel, judged: Settings) -> None:
    told = Told()
    all_cases = cases([(grid_model, IMAGES)], {"fake": FakeBackend()}, precisions=["fp32"])
    rows = list(measure(all_cases, judged, told))
    assert [(check(row).recall, row.measured.reference_recall) for row in rows] == [(1.0, 1.0)] * 2
    assert told.texts[0] == "recall@1 of the reference"
    assert told.texts.count("recall@1 of the engine") == 1  # the same for all batches
    described = benchmark.text(table(*rows, places="drive"))
    assert "R@1" in described
    assert "+0.000" in described


@pytest.mark.usefixtures("here")
def test_an_engine_that_finds_fewer_places(grid_model: PlaceModel, judged: Settings) -> None:
    [row] = measure(only(grid_model, BlindBackend()), judged, Told())
    m = check(row)
    assert m.is_refused
    assert (m.recall, m.reference_recall) == (0.25, 1.0)  # always the same keyframe: right for one place of four
    assert "-0.750" in benchmark.text(table(row))


@pytest.mark.usefixtures("here")
def test_places_that_never_come_back_are_a_users_mistake(
    grid_model: PlaceModel, judged: Settings, tmp_path: Path
) -> None:
    backend = FakeBackend()
    one_way = replace(judged, places=write_drive(tmp_path / "one_way", [0, 1, 2, 3]))
    with pytest.raises(SourceError, match="never comes back"):
        list(measure(only(grid_model, backend), one_way, Told()))
    assert backend.built == []


# --- which -------------------------------------------------------------------------------------------------------------


def test_cases_are_what_can_run_or_what_is_asked_for(grid_model: PlaceModel) -> None:
    known = {"fake": FakeBackend(), "none": FakeBackend("none", ("fp16",), why_missing="it is not installed")}

    def names(*arguments: Any) -> list[str]:
        return [str(case) for case in cases([(grid_model, IMAGES)], known, *arguments)]

    assert names() == [f"grid fake {precision} batch {batch}" for precision in ("fp32", "bf16") for batch in (1, 4)]
    assert names((), ("int8",), (2,)) == ["grid fake int8 batch 2"]
    assert names(("none", "fake"), (), (1,)) == [
        "grid none fp16 batch 1", "grid fake fp32 batch 1", "grid fake bf16 batch 1",
    ]  # fmt: skip


@dataclass
class Sleepy:
    """Says who was called."""

    name: str
    calls: list[str]
    seconds: float = 0.0

    def describe(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(self.name)
        time.sleep(self.seconds)
        return images


def test_turns_alternate_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    seconds = in_turns([Sleepy("a", calls), Sleepy("b", calls)], IMAGES, 4)  # type: ignore[list-item]
    assert [len(times) for times in seconds] == [4, 4]
    assert calls == ["a"] * benchmark.WARM_UP + ["b"] * benchmark.WARM_UP + ["a", "b", "b", "a"] * 2


def test_slow_engines_get_fewer_rounds() -> None:
    [seconds] = in_turns([Sleepy("a", [], 0.001)], IMAGES, 100, limit_s=0.0)  # type: ignore[list-item]
    assert len(seconds) == benchmark.LEAST_ROUNDS
    assert (seconds >= 0.001).all()


# --- the table ---------------------------------------------------------------------------------------------------------


def measured(**changes: Any) -> Measured:
    percentiles = {f"p{p}": 10.0 + p / 100 for p in benchmark.PERCENTILES}
    return replace(
        Measured(7, percentiles, 12.5, 13.25, 80.0, 25.0, 2.0, (1.75, 2.25), 64.0, None, 3, 0.99989, 0.99999, 0.999, 4.5, 0.25),
        **changes,
    )  # fmt: skip


def row(backend: str = "fake", precision: str = "fp16", batch: int = 1, **rest: Any) -> Row:
    return Row("grid", "0123456789abcdef", "64x48", backend, precision, batch, **rest)


def table(*rows: Row, planned: int = 0, places: str = "") -> Benchmark:
    return Benchmark("2026-01-02 03:04", this_machine(), 2, "3 images", places, planned or len(rows), rows)


def test_text_is_aligned_and_leaves_out_what_nobody_has() -> None:
    lines = benchmark.text(
        table(
            row(measured=measured()),
            row("tensorrt", "int8", 16, measured=measured(cosine_min=0.5, build_s=None, median_ms=1.25)),
            row("openvino", "fp32", 1, reason="it is not installed"),
            row("openvino", "fp32", 4, reason="it is not installed"),
            row("openvino", "int8", 1, reason="it is not installed"),
        )
    ).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("engine"))
    assert lines[start : start + 3] == [
        "engine    precision  batch  median ms  p99 ms  images/s  x reference  quartiles  memory MB  cosine min   median  "
        "build s  load s",
        "fake      fp16           1       12.5    13.2      80.0         2.00  1.75-2.25         64     0.99989  0.99999  "
        "    4.5    0.25",
        "tensorrt  int8          16       1.25    13.2      80.0         2.00  1.75-2.25         64     0.50000  0.99999  "
        " cached    0.25  refused: below 0.999",
    ]
    assert lines[-2:] == ["not measured:", "  openvino fp32 (batch 1 4), int8 (batch 1): it is not installed"]
    assert any(line.startswith("CPU ") and "2 threads" in line for line in lines)


def test_columns_appear_with_what_they_show() -> None:
    one = row(measured=measured(device_memory_mb=123.4, recall=0.75, reference_recall=0.875))
    text = benchmark.text(table(one, replace(one, model="other", model_id="fedcba"), planned=9, places="KITTI 00"))
    for said in ("GPU MB", " 123 ", "0.750  -0.125", "other  fake", "places", "2 of 9 combinations were done"):
        assert said in text


def test_nothing_measured_is_still_a_text() -> None:
    text = benchmark.text(table(row(reason="no GPU"), planned=2))
    assert "  fake fp16 (batch 1): no GPU" in text
    assert "median ms" not in text


def test_cosines_are_not_rounded_up_to_one() -> None:
    assert "0.99999  1.00000" in benchmark.text(
        table(row(measured=measured(cosine_min=0.999996, cosine_median=0.99999990)))
    )


def test_markdown_has_the_same_cells() -> None:
    page = benchmark.markdown(table(row(measured=measured()), row("bad", reason="a | b")))
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| engine"))
    assert lines[start].count("|") == lines[start + 1].count("|") == lines[start + 2].count("|")
    assert lines[start + 2].startswith("| fake | fp16 | 1 | 12.5 | 13.2 | 80.0 | 2.00 |")
    assert lines[-1] == "- bad fp16 (batch 1): a \\| b"


def test_json_round_trip() -> None:
    whole = table(row(measured=measured(recall=0.5)), row(reason="no GPU"), planned=5)
    plain = json.loads(whole.to_json())
    assert plain["rows"][0]["measured"]["percentiles_ms"]["p99"] == 10.99
    assert Benchmark.from_json(whole.to_json()) == whole


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "vpr_ros.benchmark.1"}', '{"format": "other"}'])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="benchmark"):
        Benchmark.from_json(text)


@pytest.mark.filterwarnings("error")  # matplotlib warns where it finds no room
@pytest.mark.parametrize("count", [1, 40])
def test_plot(count: int, tmp_path: Path) -> None:
    rows = [
        row(
            f"engine{i // 4}",
            ("fp32", "int8")[i % 2],
            1 + i % 4,
            measured=measured(speed=1 + i, speed_quartiles=(0.5 + i, 1.2 + i), cosine_min=1 - i / 50),
        )
        for i in range(count)
    ]
    benchmark.plot(table(*rows, row(reason="no GPU")), tmp_path / "plot.png")
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture.shape[0] > 20 * count
    blue = np.array([0xD8, 0x7D, 0x3B])  # of the bar in fp32
    assert (np.abs(picture.astype(int) - blue).max(axis=2) < 3).any()


# --- the machine -------------------------------------------------------------------------------------------------------


def test_a_jetson_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.shutil, "which", lambda name: None)
    for path, content in {
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.5\n",
        "proc/meminfo": "MemTotal:        7802520 kB\n",
        "proc/loadavg": "0.25 0.5 0.5 1/100 1\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    machine = this_machine(tmp_path)
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.jetpack == "R36.4.3 (JetPack 6)"
    assert machine.power == "governor schedutil"
    assert machine.system.startswith("Ubuntu 22.04.5 LTS, ")
    assert (machine.memory_gb, machine.load, machine.cpu_limit) == (8.0, 0.25, 1.5)
    assert machine.cpu  # the architecture, for want of a name


def test_a_machine_without_linux_files(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert (machine.board, machine.jetpack, machine.load, machine.cpu_limit) == ("", "", None, None)
    assert machine.versions["onnxruntime"]


def test_peak_memory_is_what_came_since() -> None:
    before = np.ones(80 * 2**20, np.uint8)
    del before
    memory = benchmark._PeakMemory()
    block = np.ones(40 * 2**20, np.uint8)
    del block
    assert memory.megabytes() == pytest.approx(40 * 2**20 / 1e6, abs=8)


class FakeDriver:
    """A GPU whose memory shrinks from one question to the next."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.free = [8_000_000_000, 7_500_000_000]

    def call(self, function: str, *arguments: Any) -> None:
        self.calls.append(function)
        if function == "cuMemGetInfo_v2":
            arguments[0]._obj.value = self.free.pop(0)


def test_device_memory_is_what_the_gpu_has_less_of(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    monkeypatch.setattr(benchmark, "NvidiaDriver", lambda: driver)
    assert benchmark._device_memory(FakeBackend("openvino"))() is None
    assert driver.calls == []
    assert benchmark._device_memory(FakeBackend("onnxruntime_cuda"))() == 500.0
    assert driver.calls.count("cuCtxPushCurrent_v2") == driver.calls.count("cuCtxPopCurrent_v2") == 2
