"""`vpr engine`: build, list, check and forget engines, and test the GPU's."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.config import BACKENDS, PRECISIONS, Config
from vpr_ros.engines import (
    REFERENCE,
    backends,
    backends_of,
    build_options,
    builder_of,
    fastest,
    fitted,
    misfits,
    open_reference,
)
from vpr_ros.engines.backend import Backend, BuildOptions, BuildsAhead, Engine
from vpr_ros.engines.build import Builder, Facts
from vpr_ros.engines.cache import EngineCache, Entry
from vpr_ros.engines.layers import summary
from vpr_ros.engines.precision import graph_of
from vpr_ros.engines.selftest import selftest
from vpr_ros.engines.selftest import text as table
from vpr_ros.engines.tensorrt_engine import TensorRtBackend
from vpr_ros.errors import ConfigError, EngineError
from vpr_ros.evaluation.ground_truth import Protocol
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.replay import recall_at_1
from vpr_ros.sources import open_source
from vpr_ros.sources.sample import images_of

EXAMPLES = """\
examples:
  vpr engine build                                        # what backend auto would choose, measured
  vpr engine build --backend tensorrt --precision fp16 --images my_bag/
  vpr engine build --backend openvino --precision int8 --images my_bag/ --places /data/kitti --sequence 00
  vpr engine build --backend tensorrt_rtx --capabilities sm86,sm89 --precision fp16 --inspect    # needs no GPU
  vpr engine list
  vpr engine check
  vpr engine clean --all
  vpr engine selftest                                     # builds and compares on this machine's GPU; send us the table
"""


def add(commands: Any) -> None:
    command = commands.add_parser(
        "engine",
        help="build, list, check and clean the engines of this machine",
        description="Engines are models compiled for this machine. The node builds what it needs by itself; this does it "
        "beforehand, and says how fast and how faithful an engine is.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = command.add_subparsers(required=True, metavar="action")
    for name, run, text in (
        ("build", _build, "build an engine, compare it with the reference and keep it"),
        ("list", _list, "the engines that were built"),
        ("check", _check, "are they whole, and for what is installed now?"),
        ("clean", _clean, "delete engines that no longer fit; --all: all of them"),
        ("selftest", _selftest, "build, run and compare every engine of this machine"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(run=run)
        add_config(action)
        if name == "build":
            action.add_argument("--backend", choices=("auto", *BACKENDS), help="default: engine.backend")
            action.add_argument("--precision", choices=PRECISIONS, help="default: engine.precision")
            action.add_argument("--batch", type=int, help="default: engine.batch")
            action.add_argument("--places", type=Path, help="recording with poses: recall@1 must not fall on it")
            action.add_argument("--sequence", help="KITTI: which sequence of --places")
            action.add_argument(
                "--capabilities", help="GPUs that tensorrt_rtx plans for (default: engine.capabilities)"
            )
            action.add_argument("--inspect", action="store_true", help="show the layers that TensorRT makes")
            action.add_argument("--rebuild", action="store_true", help="even if there is one")
        if name in ("build", "selftest"):
            action.add_argument("--images", help="folder, bag or video of your camera (default: engine.images)")
        if name == "clean":
            action.add_argument("--all", action="store_true", help="also engines that fit")


def _config(options: argparse.Namespace) -> Config:
    names = ("backend", "precision", "batch", "images", "capabilities")
    named = {f"engine.{name}": getattr(options, name, None) for name in names}
    return config_of(options).with_values({name: value for name, value in named.items() if value is not None})


class Bar:
    """Progress of a build: a line for each thing that is done, with a bar where its share is known."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __call__(self, text: str, share: float | None) -> None:
        if share is None:
            self.close()
            print(text, file=sys.stderr)
            return
        if self._bar is None:
            self._bar = tqdm(total=100, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed}", disable=None)
        self._bar.set_description_str(text)
        self._bar.update(100 * share - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _build(options: argparse.Namespace) -> int:
    config = _config(options)
    model = PlaceModel.open(config.model.path or shipped_model())
    load = images_of(config.engine)
    builder = builder_of(model, config.engine, load() if load else ())
    built_for, progress = build_options(config.engine), Bar()
    known = backends_of(builder.cache, config.engine)
    if config.engine.backend == "auto":
        if options.places:
            raise ConfigError("--places judges one engine: name it with --backend")
        if options.inspect:
            raise ConfigError("--inspect shows one engine: name it with --backend")
        engine, facts = fastest(builder, known, built_for, progress)
        progress.close()
        print(f"fastest: {engine.name}: {facts or 'the reference itself'}")
        engine.close()
        return 0
    backend = known[config.engine.backend]
    if options.inspect:
        _inspect(builder, backend, built_for, progress)
    if isinstance(backend, BuildsAhead) and backend.missing() and not backend.cannot_build():
        entry = builder.ahead(backend, built_for, progress)
        progress.close()
        print(
            f"{backend.name} {built_for.precision}: {entry.bytes / 1e6:.1f} MB for {config.engine.capabilities}, compared with the"
            f" reference at the first start on such a GPU; it is {builder.cache.folder / entry.key.file}.bin"
        )
        return 0
    if options.rebuild:
        builder.cache.forget(builder.key(backend, built_for))
    if options.places:
        source, protocol = open_source(options.places, options.sequence), Protocol()

        def recall(engine: Engine) -> float:
            return recall_at_1(source, engine, config, protocol)

        facts = builder.judged(backend, built_for, source.name, recall, progress)
    else:
        engine, facts = builder.engine(backend, built_for, progress)
        engine.close()
    progress.close()
    print(f"{backend.name} {built_for.precision}: {facts}")
    return 0


def _inspect(builder: Builder, backend: Backend, options: BuildOptions, progress: Bar) -> None:
    """What the library makes of the model: layers by kind and type, with the operators that are fused in them."""
    if not isinstance(backend, TensorRtBackend):
        raise ConfigError(f"--inspect: {backend.name} does not show what it makes; tensorrt and tensorrt_rtx do")
    graph = graph_of(builder.model, options.precision, builder.images, symmetric=backend.needs_symmetric_int8)
    plan, layers = backend.inspect(graph, options, progress)
    progress.close()
    print(f"{backend.name} {options.precision}: {len(plan) / 1e6:.1f} MB", *summary(layers), sep="\n")


def _list(options: argparse.Namespace) -> int:
    cache = EngineCache(_config(options).engine.cache)
    found = list(cache.entries())
    for path, entry in found:
        print(entry if isinstance(entry, str) else f"{path.stem}  {_describe(entry)}")
    print(f"{len(found)} engines in {cache.folder}")
    return 0


def _describe(entry: Entry) -> str:
    key = entry.key
    what = f"{key.model} {key.shape[1]}x{key.shape[0]}, {', '.join(key.identity.values())}"
    if not entry.facts:
        return f"{what}: {entry.bytes / 1e6:.1f} MB, built ahead, not compared yet"
    try:
        facts = Facts.of(entry)
    except EngineError as error:
        return f"{what}: {error}"
    size = f"{entry.bytes / 1e6:.1f} MB" if facts.holds(facts.parity.bar) else "refused"
    return f"{what}: {size}; {facts}"


def _check(options: argparse.Namespace) -> int:
    bad = 0
    for path, misfit in misfits(EngineCache(_config(options).engine.cache)):
        bad += bool(misfit)
        print(f"{path.stem}: {misfit or 'fits'}")
    print(f"{bad} would be built again when they are needed" if bad else "all fit")
    return 1 if bad else 0


def _clean(options: argparse.Namespace) -> int:
    config = _config(options)
    cache, count = EngineCache(config.engine.cache), 0
    for path, misfit in list(misfits(cache)):
        if misfit or options.all:
            cache.remove(path)
            print(f"removed {path.stem}{f': {misfit}' if misfit else ''}")
            count += 1
    print(f"{count} engines removed")
    return 0


def _selftest(options: argparse.Namespace) -> int:
    config = _config(options)
    model = PlaceModel.open(config.model.path or shipped_model())
    load = images_of(config.engine)
    with tempfile.TemporaryDirectory() as folder:  # what it builds is not for use
        known = [backend for name, backend in backends(EngineCache(folder)).items() if name != REFERENCE]
        reference, progress = open_reference(model, config.engine.threads), Bar()
        images = fitted(model, load() if load else ())
        result = selftest(model, images, known, progress, reference=reference, graph_of=graph_of)
        progress.close()
    print(table(result))
    return 0 if result.passed else 1
