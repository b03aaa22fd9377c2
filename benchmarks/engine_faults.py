"""What a user sees when an engine, its cache, its library or its model breaks, and whether frames are still answered.

    python benchmarks/engine_faults.py

Each row breaks one thing for real (a file is cut, a folder made read-only) or, where only a library or a device could break,
makes a stand-in backend do what such a library does. Then an engine is opened as the node opens it and a loop detector gets
eight frames. `answers` counts the frames that got one, and whether their descriptors are the reference's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from vpr_ros.config import Config, EngineConfig
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.describe import describe_image
from vpr_ros.engines.open import open_engine, open_reference
from vpr_ros.errors import EngineError, ModelError, VprError
from vpr_ros.images import read_image
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.share import shared_files
from vpr_ros.types import Frame, Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "support"))
from fake_backends import FakeBackend

FRAMES = 8


@dataclass
class Bench:
    """A folder with a model and a cache, and a library that runs models until a fault tells it otherwise."""

    folder: Path
    frames: list[Image]
    library: FakeBackend = field(default_factory=lambda: FakeBackend("tensorrt"))
    said: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)
    while_running: Callable[[], None] = lambda: None

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def config(self) -> EngineConfig:
        return EngineConfig(backend="tensorrt", cache=str(self.folder / "engines"), threads=1)

    def hear(self, text: str, share: float | None = None) -> None:
        if share is None and not text.startswith("comparing"):
            self.said.append(text)

    def open(self):
        with mock.patch("vpr_ros.engines.backends.backends", return_value={"tensorrt": self.library}):
            return open_engine(PlaceModel.open(self.model), self.config, lambda: self.frames, self.hear, self.hear)

    def file(self, suffix: str) -> Path:
        [path] = (self.folder / "engines").glob(f"*/*{suffix}")
        return path


Fault = Callable[[Bench], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


@fault("engine file cut short")
def cut(bench: Bench) -> None:
    content = bench.file(".bin").read_bytes()
    bench.file(".bin").write_bytes(content[: len(content) // 2])


@fault("one bit of the engine file flipped")
def flip(bench: Bench) -> None:
    content = bytearray(bench.file(".bin").read_bytes())
    content[len(content) // 2] ^= 1
    bench.file(".bin").write_bytes(content)


@fault("engine file deleted, its JSON left")
def deleted(bench: Bench) -> None:
    bench.file(".bin").unlink()


@fault("garbage in the engine's JSON")
def garbage(bench: Bench) -> None:
    bench.file(".json").write_text('{"format": "vpr_ros.engine.2", "key": 7')


@fault("JSON of another vpr_ros")
def foreign_version(bench: Bench) -> None:
    bench.file(".json").write_text(
        json.dumps({**json.loads(bench.file(".json").read_text()), "format": "vpr_ros.engine.9"})
    )


@fault("library updated")
def updated(bench: Bench) -> None:
    bench.library.version = "Fake 2.0"


@fault("a whole file that the library refuses")
def refused(bench: Bench) -> None:
    cache = EngineCache(bench.folder / "engines")
    [(_, entry)] = cache.entries()
    cache.keep(entry.key, b"an engine of another machine", entry.facts)


@fault("cache folder cannot be written")
def unwritable(bench: Bench) -> None:
    EngineCache(bench.folder / "engines").remove(bench.file(".json"))
    (bench.folder / "engines").rmdir()
    (bench.folder / "engines").write_text("a file where a folder should be")


@fault("disk full while the engine is written")
def disk_full(bench: Bench) -> None:
    updated(bench)
    full = OSError(28, "No space left on device")
    bench.stack.enter_context(mock.patch("vpr_ros.engines.cache.whole_file", mock.Mock(side_effect=full)))


@fault("library not installed, or no GPU")
def missing(bench: Bench) -> None:
    bench.library.why_missing = "there is no NVIDIA GPU, or no driver for it"


@fault("operator that the library does not know")
def unknown_operator(bench: Bench) -> None:
    updated(bench)
    bench.library.builds = False


@fault("half precision that quietly breaks")
def different(bench: Bench) -> None:
    updated(bench)
    bench.library.turned = 0.5


@fault("library fails while it runs")
def fails(bench: Bench) -> None:
    def lose() -> None:
        bench.library.has_lost_its_device = True

    bench.while_running = lose


@fault("build interrupted, then started again")
def interrupted(bench: Bench) -> None:
    updated(bench)

    def stop(text: str, share: float | None = None) -> None:
        if share is not None:
            raise KeyboardInterrupt

    with mock.patch.object(bench, "hear", stop):
        try:
            bench.open()
        except KeyboardInterrupt:
            bench.said.append("(interrupted)")


@fault("model file replaced while the node runs")
def replaced(bench: Bench) -> None:
    bench.while_running = lambda: bench.model.write_bytes(b"")


@fault("model file cut short")
def model_cut(bench: Bench) -> None:
    content = bench.model.read_bytes()
    bench.model.write_bytes(content[: len(content) // 2])


@dataclass(frozen=True)
class Outcome:
    fault: str
    said: tuple[str, ...]
    answered: int
    is_reference: bool


@contextmanager
def prepared(folder: Path, model: Path, frames: list[Image]) -> Iterator[Bench]:
    bench = Bench(folder, frames)
    bench.model.write_bytes(model.read_bytes())
    bench.open().close()
    bench.said.clear()
    with bench.stack:
        yield bench


def run(name: str, bench: Bench, expected: np.ndarray) -> Outcome:
    FAULTS[name](bench)
    try:
        engine = bench.open()
    except (ModelError, EngineError) as error:
        return Outcome(name, (*bench.said, str(error)), 0, False)
    detector = LoopDetector(Config().with_values({"verification.enabled": False}), engine)
    answered, same = 0, True
    for i, image in enumerate(bench.frames):
        if i == len(bench.frames) // 2:
            bench.while_running()
        try:
            detector.process(Frame(i * 10**9, image))
            same = same and float(describe_image(engine, image) @ expected[i]) > 0.9999
            answered += 1
        except VprError as error:
            bench.said.append(str(error))
    return Outcome(name, tuple(bench.said), answered, same and answered > 0)


def table(model: Path, frames: list[Image]) -> list[Outcome]:
    """One row for each fault, each in a folder of its own."""
    reference = open_reference(PlaceModel.open(model), 1)
    expected = np.stack([describe_image(reference, image) for image in frames])
    rows = []
    for name in FAULTS:
        with tempfile.TemporaryDirectory() as folder, prepared(Path(folder), model, frames) as bench:
            row = run(name, bench, expected)
            said = tuple(text.replace(folder, "~") for text in row.said)
            rows.append(Outcome(row.fault, said, row.answered, row.is_reference))
    return rows


def main() -> None:
    frames = [read_image(path) for path in shared_files("models/parity_images/*.jpg")[:FRAMES]]
    for row in table(shipped_model(), frames):
        right = "" if not row.answered else ", as the reference" if row.is_reference else ", WRONG"
        print(f"{row.fault:<42}answers {row.answered} of {len(frames)}{right}")
        for text in row.said or ("nothing: the user need not know",):
            print(textwrap.fill(text, 118, initial_indent="    ", subsequent_indent="      "))


if __name__ == "__main__":
    main()
