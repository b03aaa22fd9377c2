"""How fast, how large and how faithful each engine is on this machine: one table, to be shared.

Every row is measured in processes of its own: peak memory is then that row's alone, and a library that crashes costs one row.
Rows run one after the other, minutes apart on a machine that may be busy, so each also runs the reference (ONNX Runtime on the
CPU in fp32) in turns with its engine: milliseconds say what a user will see, the ratio to the reference is what compares.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_void_p
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import Config
from vpr_ros.engines import open_reference
from vpr_ros.engines.backend import Backend, BuildOptions, Engine, Progress
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.cores import parse_cores
from vpr_ros.engines.nvidia_driver import NvidiaDriver
from vpr_ros.engines.parity import BARS
from vpr_ros.errors import EngineError, VprError
from vpr_ros.evaluation.ground_truth import Protocol
from vpr_ros.model import PlaceModel

FORMAT = "vpr_ros.benchmark.1"
WARM_UP, LEAST_ROUNDS, TURNS = 3, 5, 50
LIMIT_S = 60.0
"""A slow engine gets fewer rounds than were asked for, but at least LEAST_ROUNDS."""
PERCENTILES = (0, 5, 25, 50, 75, 90, 95, 99, 100)
MB = 1e6
T = TypeVar("T")


# --- what is told -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a table was measured; nothing that names its owner. Empty or None is what it has not."""

    cpu: str
    cores: int
    """That this process may use."""
    cpu_limit: float | None
    """Cores' worth of time that a container may use."""
    memory_gb: float
    gpu: str
    board: str
    jetpack: str
    power: str
    """Power mode of a Jetson and the governor of the CPU: both change every figure."""
    system: str
    python: str
    load: float | None
    """Processes that wanted to run in the minute before: near 0 on a machine that was free."""
    versions: Mapping[str, str]
    """Of what computes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine did with calls of one batch size."""

    rounds: int
    percentiles_ms: Mapping[str, float]
    """Of one call, by "p0" to "p100"."""
    median_ms: float
    p99_ms: float
    images_per_s: float
    """Batch over the median."""
    reference_ms: float
    """Median of the reference for the same call, in turns with the engine."""
    speed: float
    """How many times as fast as the reference: median over the turns, so that a busy machine is busy for both."""
    speed_quartiles: tuple[float, float]
    """Of the same ratios: far apart on a busy machine."""
    memory_mb: float | None
    """Peak of the process above what it had before the engine was opened: the engine, and its library if nobody else needs it."""
    device_memory_mb: float | None
    """What the GPU had less of after the engine had run; on a Jetson that is the same memory as the CPU's."""
    images: int
    cosine_min: float
    cosine_median: float
    bar: float
    """Least cosine with the reference that the node accepts."""
    build_s: float | None
    """Until a new engine was built, compared and timed, as the node does once; None if it came from the cache."""
    load_s: float
    """From the engine file to its first descriptors, as at every start of the node."""
    recall: float | None = None
    reference_recall: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the node would not use it."""
        return not self.cosine_min >= self.bar  # NaN is refused


@dataclass(frozen=True, slots=True)
class Row:
    """One combination: measured, or the reason why not in one clause."""

    model: str
    model_id: str
    size: str
    """Of the model's images, `320x240`."""
    backend: str
    precision: str
    batch: int
    measured: Measured | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A table and all that has to be known to read it. Fewer rows than `planned`: it was interrupted."""

    created: str
    machine: Machine
    threads: int
    images: str
    places: str
    """Recording and protocol of recall@1, empty without."""
    planned: int
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Benchmark:
        """Raises EngineError for a text that is no benchmark."""
        try:
            plain = json.loads(text)
            if plain.pop("format") != FORMAT:
                raise EngineError("this benchmark was written by another version of vpr_ros")
            rows = tuple(_read_row(row) for row in plain.pop("rows"))
            return cls(machine=Machine(**plain.pop("machine")), rows=rows, **plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"this is no benchmark of vpr_ros: {error!r}") from error


def _read_row(plain: dict[str, Any]) -> Row:
    """Raises KeyError and TypeError for what is no row."""
    measured = plain.pop("measured")
    if measured is not None:
        quartiles = tuple(measured.pop("speed_quartiles"))
        measured = Measured(**measured, speed_quartiles=quartiles)
    return Row(**plain, measured=measured)


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A combination to be measured, on `images` (N, H, W, 3) of the model's size."""

    model: PlaceModel
    images: NDArray[np.uint8]
    backend: Backend
    precision: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model.name} {self.backend.name} {self.precision} batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure. Of `config` the threads, cores and bar of the engine count, and what recall is found with."""

    config: Config
    cache: Path
    rounds: int = 100
    places: Path | None = None
    sequence: str | None = None
    protocol: Protocol = field(default_factory=Protocol)


def cases(
    models: Iterable[tuple[PlaceModel, NDArray[np.uint8]]],
    backends: Mapping[str, Backend],
    names: Sequence[str] = (),
    precisions: Sequence[str] = (),
    batches: Sequence[int] = (1, 4),
) -> list[Case]:
    """Every combination of models (with their images), backends `names` (by default those that can run here), `precisions` (by
    default those that a backend has) and `batches`."""
    chosen = [backends[name] for name in names] or [b for b in backends.values() if not b.missing()]
    return [
        Case(model, images, backend, precision, batch)
        for model, images in models
        for backend in chosen
        for precision in precisions or backend.precisions
        for batch in batches
    ]


def measure(cases: Iterable[Case], settings: Settings, tell: Progress) -> Iterator[Row]:
    """A row for each case, as soon as it is known; `tell` hears what is being done.

    What a library does wrong is a row with its reason. Raises SourceError for places that recall cannot be judged on.
    """
    recalls: dict[tuple[str, ...], float] = {}
    for case in cases:
        reference = (case.model.id,)
        if settings.places and reference not in recalls:  # before anything else: mistakes shall show at once
            recalls[reference] = in_process(tell, _recall_of_reference, case.model, settings)
        if missing := case.backend.missing():
            yield _row(case, reason=missing)
            continue
        if case.precision not in case.backend.precisions:
            yield _row(case, reason=f"{case.backend.name} has {', '.join(case.backend.precisions)} only")
            continue
        try:
            file, build_s = in_process(tell, _build, case, settings)
            measured = in_process(tell, _measure, case, settings, file, build_s)
            if settings.places:
                # images of a recording come one by one, whatever the batch: once for all batches
                engine = (case.model.id, case.backend.name, case.precision)
                if engine not in recalls:
                    recalls[engine] = in_process(tell, _recall, case, settings, file)
                measured = replace(measured, recall=recalls[engine], reference_recall=recalls[reference])
        except EngineError as error:
            yield _row(case, reason=" ".join(str(error).split()))
        else:
            yield _row(case, measured)


def _row(case: Case, measured: Measured | None = None, reason: str = "") -> Row:
    model = case.model
    size = f"{model.width}x{model.height}"
    return Row(model.name, model.id, size, case.backend.name, case.precision, case.batch, measured, reason)


def _options(case: Case, settings: Settings) -> BuildOptions:
    engine = settings.config.engine
    return BuildOptions(case.precision, case.batch, engine.threads, parse_cores(engine.cores))


def _build(tell: Progress, case: Case, settings: Settings) -> tuple[Path, float | None]:
    """The file of an engine, and the seconds until it was ready, None if it was there. Raises EngineError."""
    told: list[str] = []

    def progress(text: str, share: float | None) -> None:
        told.append(text)
        tell(text, share)

    cache, options = EngineCache(settings.cache), _options(case, settings)
    reference = open_reference(case.model, options.threads)
    # the bar is not for the builder to hold: what the node would refuse is measured too, and marked
    builder = Builder(case.model, reference, case.images, cache, min_cosine=-1.0)
    start = time.perf_counter()
    builder.engine(case.backend, options, progress)[0].close()
    seconds = time.perf_counter() - start
    file = cache.folder / builder.key(case.backend, options).file
    # what is in the cache comes without a word
    return file.with_name(f"{file.name}.bin"), seconds if told else None


def _measure(tell: Progress, case: Case, settings: Settings, file: Path, build_s: float | None) -> Measured:
    tell("measuring the engine", None)
    options, batch = _options(case, settings), case.batch
    content = file.read_bytes()
    call = case.images[np.arange(batch) % len(case.images)]
    memory, device = _PeakMemory(), _device_memory(case.backend)
    start = time.perf_counter()
    engine = case.backend.load(case.model, content, options)
    engine.describe(call)
    load_s = time.perf_counter() - start
    [seconds] = in_turns([engine], call, settings.rounds)
    memory_mb, device_memory_mb = memory.megabytes(), device()

    reference = open_reference(case.model, options.threads)
    tell("measuring engine and reference in turns", None)
    of_engine, of_reference = in_turns([engine, reference], call, min(settings.rounds, TURNS))
    low, speed, high = np.percentile(of_reference / of_engine, (25, 50, 75)).tolist()
    tell("comparing the engine with the reference", None)
    cosines = np.concatenate(
        [
            np.sum(engine.describe(images) * reference.describe(images), axis=1)
            for images in (case.images[i : i + batch] for i in range(0, len(case.images), batch))
        ]
    )
    engine.close()
    if not np.isfinite(cosines).all():
        raise EngineError("its descriptors are not all numbers")
    milliseconds = {f"p{p}": float(1e3 * np.percentile(seconds, p)) for p in PERCENTILES}
    return Measured(
        rounds=len(seconds),
        percentiles_ms=milliseconds,
        median_ms=milliseconds["p50"],
        p99_ms=milliseconds["p99"],
        images_per_s=1e3 * batch / milliseconds["p50"],
        reference_ms=float(1e3 * np.median(of_reference)),
        speed=speed,
        speed_quartiles=(low, high),
        memory_mb=memory_mb,
        device_memory_mb=device_memory_mb,
        images=len(cosines),
        cosine_min=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
        bar=settings.config.engine.min_cosine or BARS[case.precision],
        build_s=build_s,
        load_s=load_s,
    )


def in_turns(
    engines: Sequence[Engine], images: NDArray[np.uint8], rounds: int, limit_s: float = LIMIT_S
) -> list[NDArray[np.float64]]:
    """Seconds of each call of each engine with the same images, after a warm-up: `rounds` of them, fewer if time is up.

    Every other round is in reverse order, so that none gains from who ran before it.
    """
    for engine in engines:
        for _ in range(WARM_UP):
            engine.describe(images)
    seconds: list[list[float]] = [[] for _ in engines]
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - begin > limit_s:
            break
        for engine, times in list(zip(engines, seconds, strict=True))[:: -1 if done % 2 else 1]:
            start = time.perf_counter()
            engine.describe(images)
            times.append(time.perf_counter() - start)
    return [np.array(times) for times in seconds]


def _recall(tell: Progress, case: Case, settings: Settings, file: Path) -> float:
    tell("recall@1 of the engine", None)
    engine = case.backend.load(case.model, file.read_bytes(), _options(case, settings))
    return _recall_of(engine, settings)


def _recall_of_reference(tell: Progress, model: PlaceModel, settings: Settings) -> float:
    tell("recall@1 of the reference", None)
    return _recall_of(open_reference(model, settings.config.engine.threads), settings)


def _recall_of(engine: Engine, settings: Settings) -> float:
    # here: a process that only measures starts in half the time without them
    from vpr_ros.replay import recall_at_1
    from vpr_ros.sources import open_source

    assert settings.places
    recall = recall_at_1(open_source(settings.places, settings.sequence), engine, settings.config, settings.protocol)
    engine.close()
    return recall


class _PeakMemory:
    """Most that this process has held since, above what it held before."""

    def __init__(self) -> None:
        self._before = _memory_of_process()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            self._peak = _memory_of_process().get("VmHWM", 0)
        except OSError:
            self._peak = self._before.get("VmHWM", 0)

    def megabytes(self) -> float | None:
        """None where the system does not say, or has seen a higher peak before."""
        peak = _memory_of_process().get("VmHWM", 0)
        return (peak - self._before["VmRSS"]) * 1024 / MB if peak > self._peak else None


def _memory_of_process() -> dict[str, int]:
    """VmRSS and VmHWM in KiB; empty where there is no Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    return {name: int(size) for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE)}


def _device_memory(backend: Backend) -> Callable[[], float | None]:
    """Returns what tells how many megabytes the first NVIDIA GPU has less of since now; None for other devices.

    The driver is asked in its primary context, which is there before the engine is: what a context itself takes is not counted.
    """
    if not re.search("cuda|tensorrt", backend.name):
        return lambda: None
    driver = NvidiaDriver()
    device, context = c_int(), c_void_p()
    driver.call("cuDeviceGet", byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", byref(context), device)

    def free() -> int:
        available, total = c_size_t(), c_size_t()
        driver.call("cuCtxPushCurrent_v2", context)
        driver.call("cuMemGetInfo_v2", byref(available), byref(total))
        driver.call("cuCtxPopCurrent_v2", byref(c_void_p()))
        return available.value

    before = free()
    return lambda: (before - free()) / MB


# --- processes --------------------------------------------------------------------------------------------------------


def in_process(tell: Progress, work: Callable[..., T], *arguments: Any) -> T:
    """What `work(tell, *arguments)` returns in a process of its own, which is ended if this is interrupted.

    Raises the VprError that it raises, and EngineError for what else ends it: a crash, or no memory.
    """
    context = multiprocessing.get_context("spawn")  # threads of libraries do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    last = "before it had begun"
    try:
        # Ctrl-C reaches the whole group: it is for us to end the process, without its traceback on the screen
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        ours.send((work, arguments))  # not with the start: a process whose start is interrupted has nothing to do
        while True:
            kind, value = ours.recv()
            if kind == "told":
                last = f"while {value[0].partition(':')[0]}"
                tell(*value)
            elif kind == "failed":
                raise value
            else:
                return value
    except (EOFError, ConnectionError):
        process.join()
        raise EngineError(f"the process {_end(process.exitcode)} {last}") from None
    finally:
        theirs.close()
        ours.close()
        if process.pid is not None:
            process.terminate()
            process.join()


def _work(theirs: Connection) -> None:
    """In the process: do what is sent, and send what is told and what came of it."""

    def tell(text: str, share: float | None) -> None:
        theirs.send(("told", (text, share)))

    try:
        work, arguments = theirs.recv()
    except EOFError:  # interrupted
        return
    try:
        answer = ("done", work(tell, *arguments))
    except VprError as error:
        answer = ("failed", error)
    except Exception as error:
        answer = ("failed", EngineError(f"{type(error).__name__}: {error}"))
    theirs.send(answer)


def _end(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "was killed (SIGKILL: most likely memory ran out)"
    if exitcode is not None and exitcode < 0:
        return f"crashed ({signal.Signals(-exitcode).name})"
    return f"ended (status {exitcode})"


# --- the machine ------------------------------------------------------------------------------------------------------

_PACKAGES = (
    "vpr_ros numpy onnx onnxruntime onnxruntime-gpu openvino tensorrt tensorrt-cu12 tensorrt-cu13 pycuda"
    " opencv-python opencv-python-headless"
)


def this_machine(root: Path = Path("/")) -> Machine:
    """What computes here. `root` is where `proc`, `sys` and `etc` are."""

    def read(path: str) -> str:
        try:
            return (root / path).read_text(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def found(pattern: str, path: str) -> str:
        match = re.search(pattern, read(path), re.MULTILINE)
        return match[1].strip() if match else ""

    quota = read("sys/fs/cgroup/cpu.max").split()
    has_limit = len(quota) == 2 and quota[0].isdecimal()
    name = found(r'^PRETTY_NAME="?([^"\n]+)', "etc/os-release") or platform.system()
    governor = read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    power = [_power_mode(), f"governor {governor}" if governor else ""]
    return Machine(
        cpu=found(r"^(?:model name|Model)\s*:(.*)", "proc/cpuinfo") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        cpu_limit=int(quota[0]) / int(quota[1]) if has_limit else None,
        memory_gb=round(int(found(r"^MemTotal:\s+(\d+) kB", "proc/meminfo") or 0) * 1024 / 1e9, 1),
        gpu=_gpu(),
        board=read("proc/device-tree/model"),
        jetpack=_jetpack(read("etc/nv_tegra_release")),
        power=", ".join(part for part in power if part),
        system=f"{name}, {platform.release()}, {platform.machine()}",
        python=platform.python_version(),
        load=float(load.partition(" ")[0]) if (load := read("proc/loadavg")) else None,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES.split():
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _gpu() -> str:
    try:
        driver = NvidiaDriver()
        return f"{driver.device()}, driver for {driver.version()}"
    except EngineError:
        return ""


def _jetpack(release: str) -> str:
    """`R36.4.3 (JetPack 6)` of a line like `# R36 (release), REVISION: 4.3, GCID: ...`."""
    found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release)
    if not found:
        return release
    jetpack = {"32": " (JetPack 4)", "35": " (JetPack 5)", "36": " (JetPack 6)", "38": " (JetPack 7)"}
    return f"R{found[1]}.{found[2]}{jetpack.get(found[1], '')}"


def _power_mode() -> str:
    """Of a Jetson: `15W`."""
    command = shutil.which("nvpmodel")
    if not command:
        return ""
    try:
        said = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"NV Power Mode:\s*(.+)", said)
    return f"power mode {found[1].strip()}" if found else ""


# --- text and Markdown ------------------------------------------------------------------------------------------------


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _change(m: Measured) -> str:
    both = m.recall is not None and m.reference_recall is not None
    return f"{m.recall - m.reference_recall:+.3f}" if both else "-"  # type: ignore[operator]


_COLUMNS: tuple[tuple[str, Callable[[Row, Measured], str]], ...] = (
    ("model", lambda row, m: row.model),
    ("engine", lambda row, m: row.backend),
    ("precision", lambda row, m: row.precision),
    ("batch", lambda row, m: str(row.batch)),
    ("median ms", lambda row, m: _milliseconds(m.median_ms)),
    ("p99 ms", lambda row, m: _milliseconds(m.p99_ms)),
    ("images/s", lambda row, m: f"{m.images_per_s:.1f}"),
    ("x reference", lambda row, m: f"{m.speed:.2f}"),
    ("quartiles", lambda row, m: "-".join(f"{ratio:.2f}" for ratio in m.speed_quartiles)),
    ("memory MB", lambda row, m: _number(m.memory_mb, ".0f")),
    ("GPU MB", lambda row, m: _number(m.device_memory_mb, ".0f")),
    ("cosine min", lambda row, m: _cosine(m.cosine_min)),
    ("median", lambda row, m: _cosine(m.cosine_median)),
    ("R@1", lambda row, m: _number(m.recall, ".3f")),
    ("change", lambda row, m: _change(m)),
    ("build s", lambda row, m: "cached" if m.build_s is None else f"{m.build_s:.1f}"),
    ("load s", lambda row, m: f"{m.load_s:.2f}"),
    ("", lambda row, m: f"refused: below {m.bar:g}" if m.is_refused else ""),
)
_LEFT = ("model", "engine", "precision", "")
"""Columns of words; numbers stand on the right."""


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cosine(value: float) -> str:
    # rounded down, so that 1 means 1 within rounding of float32
    return f"{np.floor(min(value + 5e-7, 1.0) * 1e5) / 1e5:.5f}"


def _table(benchmark: Benchmark) -> list[list[str]]:
    """Header and cells of what was measured, without the columns that say nothing."""
    measured = [(row, row.measured) for row in benchmark.rows if row.measured]
    columns = [[header, *(cell(row, m) for row, m in measured)] for header, cell in _COLUMNS]
    several = len({row.model_id for row in benchmark.rows}) > 1
    kept = [c for c in columns if any(cell not in ("", "-") for cell in c[1:]) and (several or c[0] != "model")]
    return [list(cells) for cells in zip(*kept, strict=True)]


def _not_measured(benchmark: Benchmark) -> list[str]:
    """A line for each reason, with what it applies to."""
    groups: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for row in benchmark.rows:
        if row.measured is None:
            of_precision = groups.setdefault((row.model, row.backend, row.reason), {})
            of_precision.setdefault(row.precision, []).append(row.batch)
    several = len({row.model_id for row in benchmark.rows}) > 1
    return [
        f"{f'{model} ' if several else ''}{backend} "
        + ", ".join(f"{precision} (batch {' '.join(map(str, batches))})" for precision, batches in which.items())
        + f": {reason}"
        for (model, backend, reason), which in groups.items()
    ]


def _facts(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """What has to be known to read the table, by name."""
    machine = benchmark.machine
    limit = "" if machine.cpu_limit is None else f", of which the container may use {machine.cpu_limit:g}"
    threads = f"{benchmark.threads} threads" if benchmark.threads else "threads as the library chooses"
    yield "measured", benchmark.created
    for name, text in (
        ("board", machine.board),
        ("CPU", f"{machine.cpu}, {machine.cores} cores{limit}; {threads}"),
        ("memory", f"{machine.memory_gb:g} GB"),
        ("GPU", machine.gpu or "none by NVIDIA"),
        ("JetPack", machine.jetpack),
        ("power", machine.power),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
    ):
        if text:
            yield name, text
    if machine.load is not None:
        busy = " before: busy, compare only `x reference`" if machine.load > 0.5 * machine.cores else " before"
        yield "load average", f"{machine.load:g} on {machine.cores} cores{busy}"
    for model in dict.fromkeys(f"{row.model} {row.size}, {row.model_id[:12]}" for row in benchmark.rows):
        yield "model", model
    yield "images", benchmark.images
    if benchmark.places:
        yield "places", benchmark.places
    if len(benchmark.rows) < benchmark.planned:
        yield "interrupted", f"{len(benchmark.rows)} of {benchmark.planned} combinations were done"


def legend(benchmark: Benchmark) -> list[str]:
    """What the columns mean, for those that the table has."""
    several_rounds = sorted({row.measured.rounds for row in benchmark.rows if row.measured})
    rounds = (
        " to ".join(dict.fromkeys(str(n) for n in (several_rounds[0], several_rounds[-1]))) if several_rounds else ""
    )
    lines = [
        f"median, p99: of one call with a whole batch, over {rounds} calls; images/s: batch over median",
        "x reference: how many times as fast as ONNX Runtime fp32 on this CPU, in turns in the same process: compare this;",
        "  the quartiles of the turns, and the reference's own row, say how much of it is chance",
        "memory: peak of the process above what it had before the engine was opened, with its library",
        "cosine: of descriptors with the reference's; refused: the node would not use this engine",
        "build: until a new engine was ready, built, compared and timed; load: until its first descriptors",
    ]
    if any(row.measured and row.measured.device_memory_mb is not None for row in benchmark.rows):
        lines.insert(4, "GPU: what the GPU had less of afterwards, without the context")
    if benchmark.places:
        lines.insert(-1, "R@1: of descriptors alone, image by image; change: against the reference")
    return lines


def text(benchmark: Benchmark) -> str:
    """Machine and table as plain aligned text, to be pasted into an issue."""
    facts = list(_facts(benchmark))
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    if table := _table(benchmark):
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines.append("")
        for cells in table:
            aligned = [
                cell.ljust(w) if header in _LEFT else cell.rjust(w)
                for header, cell, w in zip(table[0], cells, widths, strict=True)
            ]
            lines.append("  ".join(aligned).rstrip())
        lines += ["", *legend(benchmark)]
    if reasons := _not_measured(benchmark):
        lines += ["", "not measured:", *(f"  {reason}" for reason in reasons)]
    return "\n".join(lines)


def markdown(benchmark: Benchmark) -> str:
    """The same as a page to be shared."""
    lines = ["# vpr benchmark", "", *(f"- {name}: {_escaped(value)}" for name, value in _facts(benchmark))]
    if table := _table(benchmark):
        rule = ["---" if header in _LEFT else "---:" for header in table[0]]
        lines.append("")
        lines += [f"| {' | '.join(map(_escaped, cells))} |" for cells in (table[0], rule, *table[1:])]
        lines += ["", *(f"- {line}" for line in legend(benchmark))]
    if reasons := _not_measured(benchmark):
        lines += ["", "Not measured:", "", *(f"- {_escaped(reason)}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# --- the plot ---------------------------------------------------------------------------------------------------------

_COLOURS = {"fp32": "#3b7dd8", "fp16": "#7d5bc4", "bf16": "#2a9d9a", "int8": "#e09a1f"}
_NEAREST = 1e-7
"""Cosines that differ less from 1 are drawn here: float32 knows no better."""


def plot(benchmark: Benchmark, path: Path) -> None:
    """A PNG: bars of speed, and beside each how far the descriptors are from the reference's and from the bar."""
    import matplotlib  # here, as in `_recall_of`
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from vpr_ros.evaluation.figures import INK, RED, STYLE

    rows = [(row, row.measured) for row in benchmark.rows if row.measured]
    several = len({row.model_id for row in benchmark.rows}) > 1
    places, headings = _layout([row for row, _ in rows], several)
    names = [f"{row.backend} {row.precision}, batch {row.batch}" for row, _ in rows]
    with matplotlib.rc_context({**STYLE, "axes.axisbelow": True}):
        figure = Figure(figsize=(11, 1.6 + 0.3 * (max(places) + 1.4)), layout="constrained", dpi=110)
        speed, cosine = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        colours = [_COLOURS.get(row.precision, INK) for row, _ in rows]
        ratios = [m.speed for _, m in rows]
        # a median lies between its quartiles, but for rounding
        spread = [
            [max(0.0, sign * (m.speed - m.speed_quartiles[side])) for _, m in rows] for side, sign in ((0, 1), (1, -1))
        ]
        bars = {"ecolor": INK, "elinewidth": 1, "capsize": 2, "alpha": 0.6}
        speed.barh(places, ratios, color=colours, height=0.72, xerr=spread, error_kw=bars)
        speed.axvline(1.0, color=INK, linewidth=1, linestyle=":")
        most = max([m.speed_quartiles[1] for _, m in rows], default=1.0)
        for at, (_, m) in zip(places, rows, strict=True):
            speed.text(
                max(m.speed, m.speed_quartiles[1]) + 0.012 * most, at, f"{_milliseconds(m.median_ms)} ms, {m.images_per_s:.0f}/s",
                va="center", fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        for at, heading in headings:
            speed.text(0.01, at, heading, transform=speed.get_yaxis_transform(), va="center", weight="bold")
        speed.set(xlabel="times as fast as ONNX Runtime fp32 on this CPU", xlim=(0, 1.28 * most))
        speed.set_yticks(places, names)
        speed.set_ylim(max(places) + 0.7, -0.7)
        speed.grid(axis="y", visible=False)
        for at, colour, (_, m) in zip(places, colours, rows, strict=True):
            distance = max(1.0 - m.cosine_min, _NEAREST)
            cosine.plot(distance, at, "X" if m.is_refused else "o", color=RED if m.is_refused else colour, markersize=8)
            cosine.plot([1.0 - m.bar] * 2, [at - 0.36, at + 0.36], color=INK, linewidth=1.5)
        cosine.set_xscale("log")
        cosine.set(xlabel="1 - least cosine (left is better)")
        cosine.set_xlim(_NEAREST / 2, max(0.2, *(2.0 * (1.0 - m.cosine_min) for _, m in rows)))
        cosine.tick_params(axis="y", length=0)
        machine = benchmark.machine
        title = " · ".join(part for part in (machine.board or machine.cpu, machine.gpu, benchmark.created) if part)
        model = "" if several else f"{rows[0][0].model} {rows[0][0].size} on "
        figure.suptitle(f"{model}{title}", fontsize=11)
        used = [p for p in _COLOURS if any(row.precision == p for row, _ in rows)]
        keys: list[Any] = [Patch(color=_COLOURS[p], label=p) for p in used]
        keys += cosine.plot([], [], "|", color=INK, markersize=10, markeredgewidth=1.5, label="bar of the node")
        if any(m.is_refused for _, m in rows):
            keys += cosine.plot([], [], "X", color=RED, linestyle="", markersize=8, label="refused")
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9)
        figure.savefig(path, format="png", facecolor="white")


def _layout(rows: Sequence[Row], several: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each row's bar goes, and the names of `several` models above theirs: engines and models stand apart."""
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    at = -1.0
    for i, row in enumerate(rows):
        before = rows[i - 1] if i else None
        at += 1.0 if before and row.backend == before.backend else 1.5 if before else 1.0
        if several and (before is None or row.model_id != before.model_id):
            at += 0.7 if before is None else 1.2
            headings.append((at - 1.0, f"{row.model} {row.size}"))
        places.append(at)
    return places, headings
