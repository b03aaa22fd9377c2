"""`vpr engine build`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tqdm import tqdm

from vpr_ros.cli.places import Places
from vpr_ros.config import Config
from vpr_ros.engines.backend import Backend, BuildOptions, BuildsAhead
from vpr_ros.engines.backends import backends_of
from vpr_ros.engines.build import Builder
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.open import build_options, builder_of, fastest
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.engines.tensorrt.layers import summary
from vpr_ros.errors import ConfigError
from vpr_ros.model import PlaceModel
from vpr_ros.printable import printable
from vpr_ros.sources.sample import images_of


class Bar:
    """Progress of a build: a line for each thing that is done, with a bar where its share is known."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __call__(self, text: str, share: float | None) -> None:
        if share is None:
            self.close()
            print(printable(text), file=sys.stderr)
            return
        if self._bar is None:
            self._bar = tqdm(total=100, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed}", disable=None)
        self._bar.set_description_str(text)
        self._bar.update(100 * share - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def build(config: Config, options: argparse.Namespace) -> int:
    """Exit status."""
    model = PlaceModel.open(config.model.path)
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
        places = Places.open(options.places, options.sequence, config)
        facts = builder.judged(backend, built_for, places.name, places.recall_of, progress)
    else:
        engine, facts = builder.engine(backend, built_for, progress)
        engine.close()
    progress.close()
    print(f"{backend.name} {built_for.precision}: {facts}")
    is_kept = not isinstance(builder.cache.find(builder.key(backend, built_for)), str)
    return 0 if is_kept else 1  # to keep it is what the command is for; why it is not was said


def _inspect(builder: Builder, backend: Backend, options: BuildOptions, progress: Bar) -> None:
    """What the library makes of the model: layers by kind and type, with the operators that are fused in them."""
    if not isinstance(backend, TensorRtBackend):
        raise ConfigError(f"--inspect: {backend.name} does not show what it makes; tensorrt and tensorrt_rtx do")
    graph = graph_of(builder.model, options.precision, builder.images, symmetric=backend.needs_symmetric_int8)
    plan, layers = backend.inspect(graph, options, progress)
    progress.close()
    print(f"{backend.name} {options.precision}: {len(plan) / 1e6:.1f} MB", *summary(layers), sep="\n")
