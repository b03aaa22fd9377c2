"""From a configuration to an engine: `open_engine` opens what is configured, or reports why not and opens the reference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import Backend, BuildOptions, BuildProgress, Engine
from vpr_ros.engines.backends import REFERENCE, backends_of
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.cores import parse_cores
from vpr_ros.engines.facts import Facts
from vpr_ros.engines.fallback import FallbackEngine
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.images import read_image, resize
from vpr_ros.model import PlaceModel
from vpr_ros.share import shared_files
from vpr_ros.types import Image

_LOG = logging.getLogger(__name__)
FASTER = 1.05
"""How much faster than the reference an engine has to be for `auto` to prefer it: less may be chance."""


def is_reference(config: EngineConfig) -> bool:
    """Whether `config` asks for the reference itself: nothing has to be built or compared then."""
    return config.backend == REFERENCE and config.precision == "fp32" and not config.cores


def open_reference(model: PlaceModel, threads: int = 0) -> Engine:
    """ONNX Runtime on the CPU in fp32: runs everywhere, and every other engine is compared with it."""
    return OnnxRuntimeEngine(model, threads=threads)


def log_progress(text: str, share: float | None) -> None:
    """Progress for those who have no other place for it: each new thing that is done, not how far it is."""
    if share is None:
        _LOG.info(text)


def open_engine(
    model: PlaceModel,
    config: EngineConfig,
    images: Callable[[], Sequence[Image]] | None = None,
    progress: BuildProgress = log_progress,
    warn: Callable[[str], None] = _LOG.warning,
) -> Engine:
    """The engine of `config`, built if it has to be; where it cannot run, the reference, and `warn` is told why in one line.

    `images` returns images of the user's camera, to check new engines and calibrate int8; without it ours are used. Raises
    ConfigError for cores and capabilities that are none.
    """
    options = build_options(config)
    if is_reference(config):
        return open_reference(model, config.threads)
    try:
        builder = builder_of(model, config, images() if images else ())
    except EngineError as error:
        warn(f"{error}; going on with {REFERENCE}")
        return open_reference(model, config.threads)
    known = backends_of(builder.cache, config)
    try:
        if config.backend == "auto":
            engine, _ = fastest(builder, known, options, progress)
        else:
            engine, _ = builder.engine(known[config.backend], options, progress)
    except EngineError as error:
        warn(f"{error}; going on with {builder.reference.name}")
        return builder.reference
    if engine is not builder.reference:
        builder.reference.close()
    return FallbackEngine(engine, partial(open_reference, model, config.threads), warn)


def build_options(config: EngineConfig) -> BuildOptions:
    """What `config` asks of any backend. Raises ConfigError for cores that are none."""
    return BuildOptions(config.precision, config.batch, config.threads, parse_cores(config.cores))


def builder_of(model: PlaceModel, config: EngineConfig, images: Sequence[Image] = ()) -> Builder:
    """What builds engines of `model`, compared and calibrated on `images` of any size, or on ours if there are none.

    Raises EngineError where engines cannot be kept.
    """
    cache = EngineCache(config.cache)
    return Builder(model, open_reference(model, config.threads), fitted(model, images), cache, config.min_cosine)


def fitted(model: PlaceModel, images: Sequence[Image]) -> NDArray[np.uint8]:
    """(N, H, W, 3) of the model's size: `images`, or those that come with vpr_ros. Raises ModelError if there are none."""
    found = images or [read_image(path) for path in shared_files("models/parity_images/*.jpg")]
    if not found:
        raise ModelError("this installation has no images to check engines with; set engine.images to some of yours")
    return np.stack([resize(image, model.width, model.height) for image in found])


def fastest(
    builder: Builder, known: Mapping[str, Backend], options: BuildOptions, progress: BuildProgress
) -> tuple[Engine, Facts | None]:
    """Of all `known` engines that can run here in this precision, the one that was fastest when it was built.

    Those that were never built are built now; of the others only the one that is chosen is loaded. The reference has no facts. Raises EngineError where
    only engines of another precision can run.
    """
    candidates: list[tuple[Backend, Engine | None, Facts]] = []
    for backend in known.values():
        is_reference = backend.name == REFERENCE and options.precision == "fp32"
        if is_reference or backend.missing() or options.precision not in backend.precisions:
            continue
        try:
            facts, engine = builder.remembered(backend, options), None
            if facts is None:
                engine, facts = builder.engine(backend, options, progress)
            candidates.append((backend, engine, facts))
        except EngineError as error:
            progress(str(error), None)
    least = FASTER if options.precision == "fp32" else 0.0
    best = None
    for backend, engine, facts in sorted(candidates, key=lambda candidate: candidate[2].speed or 0.0, reverse=True):
        if best is None and (facts.speed or 0.0) >= least:
            try:
                best = (engine, facts) if engine else builder.engine(backend, options, progress)
            except EngineError as error:
                progress(str(error), None)
        elif engine:
            engine.close()
    if best is not None:
        return best
    if options.precision == "fp32":
        return builder.reference, None
    raise EngineError(f"nothing installed here runs a model in {options.precision}")
