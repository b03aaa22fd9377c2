from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from fake_backends import FakeBackend, FakeEngine
from small_benchmarks import Told, case

from vpr_ros.config import EngineConfig
from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.benchmark.measure import build_engine, measure_engine
from vpr_ros.engines.benchmark.row import Measured
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel


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


def built_and_measured(case: Case, settings: Settings) -> Measured:
    """And checked for what holds however fast the machine was."""
    file, build_s = build_engine(Told(), case, settings)
    m = measure_engine(Told(), case, settings, file, build_s)
    percentiles = list(m.percentiles_ms.values())
    assert list(m.percentiles_ms) == ["p0", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "p100"]
    assert percentiles[0] > 0
    assert percentiles == sorted(percentiles)
    assert (m.median_ms, m.p99_ms) == (m.percentiles_ms["p50"], m.percentiles_ms["p99"])
    assert m.images_per_s == pytest.approx(1e3 * case.batch / m.median_ms)
    assert m.reference_ms > 0
    assert 0 < m.speed_quartiles[0] <= m.speed <= m.speed_quartiles[1]
    assert -1 <= m.cosine_min <= m.cosine_median <= 1 + 1e-6
    assert (m.rounds, m.images) == (settings.rounds, len(case.images))
    assert m.load_s > 0
    assert m.build_s is None or m.build_s > 0
    return m


def test_an_engine_below_the_bar_is_measured_and_marked(grid_model: PlaceModel, settings: Settings) -> None:
    turned = case(grid_model, FakeBackend(turned=0.3))
    m = built_and_measured(turned, settings)
    assert m.bar == 0.9999
    assert m.is_refused
    lower = replace(settings, engine=EngineConfig(threads=1, min_cosine=0.5))
    m = built_and_measured(turned, lower)
    assert m.bar == 0.5
    assert not m.is_refused


def test_the_cosine_is_that_of_the_batch_that_was_measured(grid_model: PlaceModel, settings: Settings) -> None:
    one = built_and_measured(case(grid_model, MadBackend()), settings)
    assert one.cosine_min == pytest.approx(1, abs=1e-6)
    with pytest.raises(EngineError, match="not all numbers"):
        built_and_measured(case(grid_model, MadBackend(), batch=2), settings)


def test_what_is_in_the_cache_is_not_built(grid_model: PlaceModel, settings: Settings) -> None:
    fake = case(grid_model, backend := FakeBackend())
    assert built_and_measured(fake, settings).build_s is not None
    assert built_and_measured(fake, settings).build_s is None
    assert len(backend.built) == 1


def test_options_reach_the_engine(grid_model: PlaceModel, settings: Settings) -> None:
    fake = case(grid_model, backend := FakeBackend(), "bf16", 4)
    built_and_measured(fake, replace(settings, engine=EngineConfig(threads=3, cores="0")))
    assert backend.built == [BuildOptions("bf16", batch=4, threads=3, cores=(0,))]
