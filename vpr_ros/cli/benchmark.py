"""`vpr benchmark`: every engine of this machine in one table."""

from __future__ import annotations

import argparse
import logging
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.cli.places import Places
from vpr_ros.config import BACKENDS, PRECISIONS
from vpr_ros.engines.backends import backends_of
from vpr_ros.engines.benchmark import run
from vpr_ros.engines.benchmark.case import Settings, cases
from vpr_ros.engines.benchmark.plot import write_plot
from vpr_ros.engines.benchmark.table import Table
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.open import fitted
from vpr_ros.evaluation.run_folder import new_folder
from vpr_ros.files import whole_file
from vpr_ros.machine import Machine
from vpr_ros.model import PlaceModel
from vpr_ros.printable import on_one_line
from vpr_ros.sources.sample import images_of

logger = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  vpr benchmark                                           # the shipped model, all that can run here, batches 1 and 4
  vpr benchmark mine.onnx theirs.onnx --batches 1         # models first, options behind them
  vpr benchmark --backends tensorrt onnxruntime_cuda --batches 1 4 16 --images my_bag/
  vpr benchmark --check                                   # also whether each engine is right; send us the table of your GPU
  vpr benchmark --precisions fp32 int8 --places /data/kitti --sequence 00

Each row runs in a process of its own: a library that crashes costs one row, and Ctrl-C keeps the rows that are done.
Engines are built anew, so that build times are complete, in the run folder, and removed at the end; the node's are not
touched. With --cache FOLDER they stay there, and the next benchmark takes them from there. An engine below the node's bar
is measured and marked as refused. --check runs each engine in other batches and threads, interrupts a build, and loads a cut
file; exit status 1 if anything of it fails.
"""
_BAR = "{n_fmt}/{total_fmt} |{bar:20}| {elapsed}  {desc}"
"""The text last: it is what a narrow terminal cuts."""


def add(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Measure model x engine x precision x batch: latency, throughput, memory, likeness to the reference, "
        "recall. Writes a table to share (text, Markdown, JSON) and a plot."
    )
    command.epilog = EXAMPLES
    command.set_defaults(run=_benchmark)
    command.add_argument("models", nargs="*", metavar="MODEL.onnx", help="default: model.path, or the shipped one")
    command.add_argument(
        "--backends", nargs="+", choices=BACKENDS, metavar="B", help=f"of {', '.join(BACKENDS)} (default: what can run)"
    )
    command.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, metavar="P", help="of %(choices)s (default: what the engine has)"
    )
    command.add_argument(
        "--batches", nargs="+", type=int, default=[1, 4], metavar="N", help="images in one call (default 1 4)"
    )
    command.add_argument("--threads", type=int, help="of the CPU; 0 lets the library choose (default: engine.threads)")
    command.add_argument("--images", help="folder, bag or video of your camera (default: engine.images, or ours)")
    command.add_argument("--places", type=Path, help="recording with poses: recall@1 on it, and its change")
    command.add_argument("--sequence", help="KITTI: which sequence of --places")
    command.add_argument(
        "--rounds",
        type=_count,
        default=100,
        help="timed calls, fewer where they take over a minute (default %(default)s)",
    )
    command.add_argument("--check", action="store_true", help="also check that each engine keeps its contract")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="keep engines there and take them from there")
    add_config(command)
    command.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder is made (default runs/)")


def _benchmark(options: argparse.Namespace) -> int:
    named = {f"engine.{name}": getattr(options, name) for name in ("threads", "images")}
    config = config_of(options).with_values({name: value for name, value in named.items() if value is not None})
    for batch in options.batches:
        config.with_values({"engine.batch": batch})  # raises for what is no batch
    places = Places.open(options.places, options.sequence, config) if options.places else None
    load = images_of(config.engine)
    sample = load() if load else []
    models = [PlaceModel.open(path) for path in options.models or [config.model.path]]
    images = [(model, fitted(model, sample)) for model in models]
    now = datetime.now()
    folder = new_folder(options.out, f"{now:%Y%m%d-%H%M%S}-benchmark")
    settings = Settings(
        config.engine,
        options.cache or folder / "engines",
        options.rounds,
        places.recall_of if places else None,
        options.check,
    )
    known = backends_of(EngineCache(settings.cache), config.engine)
    names = _once(options.backends) or (tuple(known) if options.check else ())  # to check names what is missing, too
    planned = cases(images, known, names, _once(options.precisions), _once(options.batches))
    table = Table(
        created=f"{now:%Y-%m-%d %H:%M}",
        machine=Machine().description(),
        threads=config.engine.threads,
        images=f"{len(images[0][1])} {f'of {Path(config.engine.images).name}' if load else 'that come with vpr_ros'}",
        places=f"{places.name}; {places.protocol.describe()}" if places else "",
        planned=len(planned),
        rows=(),
    )
    status = 0
    try:
        with tqdm(total=len(planned), bar_format=_BAR, disable=None) as bar:

            def progress(text: str, share: float | None) -> None:
                done = "" if share is None else f" {share:.0%}"
                case = str(planned[bar.n])
                if len(models) == 1:
                    case = case.removeprefix(f"{models[0].name} ")
                bar.set_description_str(f"{case}: {text}{done}")

            for row in run.run(planned, settings, progress):
                table = replace(table, rows=(*table.rows, row))
                _write(folder / "benchmark.json", table.to_json())  # now: what was measured for hours is not to be lost
                bar.update()
    except KeyboardInterrupt:
        status = 130
    finally:
        if not options.cache:
            shutil.rmtree(settings.cache, ignore_errors=True)
    finished = _finish(folder, table)
    return status or finished


def _finish(folder: Path, table: Table) -> int:
    """Print and write what there is; 1 if that is nothing, or a check failed."""
    _write(folder / "benchmark.json", table.to_json())
    _write(folder / "benchmark.md", table.markdown())
    print(table.text())
    if not table.measured:
        print(f"\nnothing was measured; {folder}")
        return 1
    files = "benchmark.json, benchmark.md"
    try:
        write_plot(table, folder / "benchmark.png")
        files += ", benchmark.png"
    except Exception as error:  # of a matplotlib that we have not tried: the table is what was measured
        logger.warning("no plot: %s", on_one_line(f"{type(error).__name__}: {error}"))
    print(f"\n{folder}: {files}")
    return int(any(row.failed for row in table.rows))


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


def _once(values: list[Any] | None) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values or ()))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count
