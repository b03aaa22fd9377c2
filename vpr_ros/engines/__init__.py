"""Engines run a model. `open_engine` opens what the configuration asks for, or says why not and opens the reference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import Backend, BuildOptions, BuildsAhead, Engine, Progress
from vpr_ros.engines.build import Builder, Facts
from vpr_ros.engines.cache import EngineCache, Entry
from vpr_ros.engines.cores import parse_cores
from vpr_ros.engines.fallback import FallbackEngine
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend, OnnxRuntimeEngine
from vpr_ros.engines.openvino_engine import OpenVinoBackend
from vpr_ros.engines.tensorrt_engine import VERSION_COMPATIBLE, TensorRtBackend
from vpr_ros.engines.tensorrt_rtx_engine import CAPABILITIES, TensorRtRtxBackend, parse_capabilities
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.images import read_image, resize
from vpr_ros.model import PlaceModel
from vpr_ros.share import shared_files
from vpr_ros.types import Descriptor, Image, Mask

_LOG = logging.getLogger(__name__)
REFERENCE = "onnxruntime"
FASTER = 1.05
"""How much faster than the reference an engine has to be for `auto` to prefer it: less may be chance."""


def backends(
    cache: EngineCache, version_compatible: bool = False, capabilities: tuple[str, ...] = ()
) -> Mapping[str, Backend]:
    """Every backend by its name; what they compile on the side goes below the cache's folder.

    `version_compatible`: TensorRT's engines are to run in other versions of it, too. `capabilities`: of the GPUs that
    engines of TensorRT for RTX are for, () is the one here.
    """
    known: tuple[Backend, ...] = (
        OnnxRuntimeBackend("cpu", cache.folder),
        OnnxRuntimeBackend("cuda", cache.folder),
        OnnxRuntimeBackend("tensorrt", cache.folder),
        OpenVinoBackend("CPU"),
        OpenVinoBackend("GPU"),
        TensorRtBackend(cache.folder, version_compatible),
        TensorRtRtxBackend(cache.folder, capabilities=capabilities),
    )
    return {backend.name: backend for backend in known}


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
    progress: Progress = log_progress,
    warn: Callable[[str], None] = _LOG.warning,
) -> Engine:
    """The engine of `config`, built if it has to be; where it cannot run, the reference, and `warn` is told why in one line.

    `images` returns images of the user's camera, to check new engines and calibrate int8; without it ours are used. Raises
    ConfigError for cores and capabilities that are none.
    """
    options = build_options(config)
    if is_reference(config):
        return open_reference(model, config.threads)
    builder = builder_of(model, config, images() if images else ())
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


def backends_of(cache: EngineCache, config: EngineConfig) -> Mapping[str, Backend]:
    """As `config` has them. Raises ConfigError for capabilities that are none."""
    return backends(cache, config.version_compatible, parse_capabilities(config.capabilities))


def build_options(config: EngineConfig) -> BuildOptions:
    """What `config` asks of any backend. Raises ConfigError for cores that are none."""
    return BuildOptions(config.precision, config.batch, config.threads, parse_cores(config.cores))


def builder_of(model: PlaceModel, config: EngineConfig, images: Sequence[Image] = ()) -> Builder:
    """What builds engines of `model`, compared and calibrated on `images` of any size, or on ours if there are none."""
    cache = EngineCache(config.cache)
    return Builder(model, open_reference(model, config.threads), fitted(model, images), cache, config.min_cosine)


def fitted(model: PlaceModel, images: Sequence[Image]) -> NDArray[np.uint8]:
    """(N, H, W, 3) of the model's size: `images`, or those that come with vpr_ros. Raises ModelError if there are none."""
    found = images or [read_image(path) for path in shared_files("models/parity_images/*.jpg")]
    if not found:
        raise ModelError("this installation has no images to check engines with; set engine.images to some of yours")
    return np.stack([resize(image, model.width, model.height) for image in found])


def fastest(
    builder: Builder, known: Mapping[str, Backend], options: BuildOptions, progress: Progress
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


def misfits(cache: EngineCache) -> Iterator[tuple[Path, str]]:
    """Each engine of a cache by its JSON file, with why it would be built again if it were needed; empty if it would not."""
    for path, entry in cache.entries():
        if isinstance(entry, str):
            yield path, entry
        else:
            identity = entry.key.identity
            known = backends(
                cache,
                VERSION_COMPATIBLE in identity.get("library", ""),
                parse_capabilities(identity.get(CAPABILITIES, "")),
            )
            yield path, _misfit(cache, path, entry, known.get(entry.key.backend))


def _misfit(cache: EngineCache, path: Path, entry: Entry, backend: Backend | None) -> str:
    if backend is None:
        return f"there is no backend {entry.key.backend}"
    if damage := cache.check(path, entry):
        return damage
    if not entry.facts and isinstance(backend, BuildsAhead):
        if reason := backend.cannot_build():
            return f"{backend.name} cannot build here now: {reason}"
        now = dict(backend.identity_ahead())
    elif missing := backend.missing():
        return f"{backend.name} cannot run here now: {missing}"
    else:
        now = dict(backend.identity())
    if now != dict(entry.key.identity):
        return f"it was built for {', '.join(entry.key.identity.values())}; here is {', '.join(now.values())}"
    return ""


def describe_image(engine: Engine, image: Image) -> Descriptor:
    """(D,) descriptor of one image of any size."""
    return describe_images(engine, [image])[0]


def describe_image_with_mask(engine: Engine, image: Image) -> tuple[Descriptor, Mask]:
    """(D,) descriptor and (h, w) mask of one image of any size. Raises ModelError for a model without a mask."""
    descriptors, masks = describe_images_with_masks(engine, [image])
    return descriptors[0], masks[0]


def describe_images(engine: Engine, images: Sequence[Image]) -> NDArray[np.float32]:
    """(N, D) descriptors of images of any sizes, in one call of the engine."""
    return engine.describe(_resized(engine.model, images))


def describe_images_with_masks(
    engine: Engine, images: Sequence[Image]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, D) descriptors and (N, h, w) masks of images of any sizes. Raises ModelError for a model without a mask."""
    return engine.describe_with_mask(_resized(engine.model, images))


def _resized(model: PlaceModel, images: Sequence[Image]) -> NDArray[np.uint8]:
    return np.stack([resize(image, model.width, model.height) for image in images])
