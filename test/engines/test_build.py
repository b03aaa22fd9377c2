from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_backends import FakeBackend

from vpr_ros.engines.backend import BuildOptions, Engine
from vpr_ros.engines.build import Builder
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.facts import RECALL_LOSS, Recall
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import EngineError
from vpr_ros.model import PlaceModel

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
FP32, BF16 = BuildOptions("fp32"), BuildOptions("bf16")


class Told:
    """What a build said of its progress."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, share: float | None) -> None:
        self.texts.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def builder(grid_model: PlaceModel, tmp_path: Path) -> Builder:
    return Builder(grid_model, open_reference(grid_model, 1), IMAGES, EngineCache(tmp_path))


def test_an_engine_is_built_once_and_loaded_ever_after(builder: Builder, told: Told) -> None:
    backend = FakeBackend()
    first, facts = builder.engine(backend, FP32, told)
    assert told.texts == [
        "building fake fp32: there is none yet",
        "turning beads",
        "comparing fake fp32 with the reference",
    ]
    assert (facts.parity.images, facts.parity.bar) == (4, 0.9999)
    assert facts.parity.cosine_min == pytest.approx(1.0, abs=1e-6)
    assert facts.milliseconds > 0
    assert facts.speed > 0
    second, again = builder.engine(backend, FP32, told)
    assert again == facts
    assert len(backend.built) == 1
    np.testing.assert_array_equal(first.describe(IMAGES), second.describe(IMAGES))


def test_what_changes_the_engine_builds_it_again_and_says_why(builder: Builder, told: Told) -> None:
    builder.engine(FakeBackend(), FP32, told)
    updated = FakeBackend(version="Fake 2.0")
    builder.engine(updated, FP32, told)
    assert told.texts[3] == (
        "building fake fp32: the one at hand is for another machine or use: identity Fake 1.0, Abacus -> Fake 2.0, Abacus"
    )
    builder.engine(updated, BuildOptions("fp32", batch=3), told)
    assert "batch 1 -> 3" in told.texts[6]
    assert [options.batch for options in updated.built] == [1, 3]


def test_a_damaged_file_is_built_again(builder: Builder, told: Told) -> None:
    backend = FakeBackend()
    builder.engine(backend, FP32, told)
    [file] = builder.cache.folder.glob("*/*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    builder.engine(backend, FP32, told)
    assert "is damaged" in told.texts[3]
    assert len(backend.built) == 2


def test_a_file_that_the_library_refuses_is_built_again(builder: Builder, told: Told) -> None:
    builder.engine(FakeBackend(), FP32, told)
    builder.cache.keep(builder.key(FakeBackend(), FP32), b"foreign", {"parity": facts_of_a_twin()})
    backend = FakeBackend()
    builder.engine(backend, FP32, told)
    assert told.texts[3] == "building fake fp32: the one at hand cannot be loaded: not a file of mine"
    assert len(backend.built) == 1


def facts_of_a_twin() -> dict[str, float]:
    return {"images": 4, "cosine_min": 1.0, "cosine_median": 1.0, "bar": 0.9999}


def test_damaged_facts_build_again(builder: Builder, told: Told) -> None:
    builder.cache.keep(builder.key(FakeBackend(), FP32), b"compiled", {"parity": {"images": "many"}})
    builder.engine(FakeBackend(), FP32, told)
    assert told.texts[0] == "building fake fp32: what was measured of the engine is damaged"


def test_an_engine_that_describes_too_differently_is_refused_and_not_built_again(builder: Builder, told: Told) -> None:
    backend = FakeBackend(turned=0.3)
    with pytest.raises(EngineError, match=r"fake fp32 describes images too differently: cosine .* \(bar 0.9999\).*use"):
        builder.engine(backend, FP32, told)
    assert backend.engines[0].is_closed
    with pytest.raises(EngineError, match="too differently"):
        builder.engine(backend, FP32, told)
    assert len(backend.built) == 1


def test_a_lower_bar_builds_what_was_refused_and_a_higher_one_refuses_what_was_built(
    builder: Builder, told: Told
) -> None:
    backend = FakeBackend(turned=0.1)
    with pytest.raises(EngineError, match="too differently"):
        builder.engine(backend, FP32, told)
    tolerant = Builder(builder.model, builder.reference, IMAGES, builder.cache, min_cosine=0.5)
    _, facts = tolerant.engine(backend, FP32, told)
    assert 0.5 < facts.parity.cosine_min < 0.9999
    assert "it was refused for a higher bar" in told.texts[3]
    with pytest.raises(EngineError, match="too differently"):
        builder.engine(backend, FP32, told)


def test_each_precision_has_its_bar(builder: Builder, told: Told) -> None:
    backend = FakeBackend(turned=0.1)  # a cosine of about 0.995
    _, facts = builder.engine(backend, BF16, told)
    assert facts.parity.bar == 0.9
    with pytest.raises(EngineError, match=r"bar 0\.9999"):
        builder.engine(backend, FP32, told)


def test_what_cannot_run_says_why(builder: Builder, told: Told) -> None:
    with pytest.raises(EngineError, match="fake cannot run here: it is not installed"):
        builder.engine(FakeBackend(why_missing="it is not installed"), FP32, told)
    with pytest.raises(EngineError, match="fake has no int8, only fp32, bf16"):
        builder.engine(FakeBackend(), BuildOptions("int8"), told)
    with pytest.raises(EngineError, match="operator Bead is not known"):
        builder.engine(FakeBackend(builds=False), FP32, told)
    assert list(builder.cache.entries()) == []


def test_an_engine_that_fails_when_it_is_compared_is_closed_and_not_kept(builder: Builder, told: Told) -> None:
    backend = FakeBackend(has_lost_its_device=True)
    with pytest.raises(EngineError, match="the device is lost"):
        builder.engine(backend, FP32, told)
    assert backend.engines[0].is_closed
    assert list(builder.cache.entries()) == []


def test_an_interrupted_build_leaves_nothing(builder: Builder) -> None:
    def interrupt(text: str, share: float | None) -> None:
        if share is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.engine(FakeBackend(), FP32, interrupt)
    assert list(builder.cache.folder.rglob("*")) == []


def test_a_not_a_number_is_no_parity(builder: Builder, told: Told) -> None:
    backend = FakeBackend(turned=float("nan"))
    for _ in range(2):
        with pytest.raises(EngineError, match="at least nan"):
            builder.engine(backend, FP32, told)
    assert len(backend.built) == 1


def test_int8_depends_on_what_it_was_calibrated_on(builder: Builder) -> None:
    other = Builder(builder.model, builder.reference, IMAGES[:2], builder.cache)
    int8 = BuildOptions("int8")
    assert builder.key(FakeBackend(), int8) != other.key(FakeBackend(), int8)
    assert builder.key(FakeBackend(), FP32) == other.key(FakeBackend(), FP32)


def test_an_engine_that_finds_fewer_places_is_refused_from_then_on(builder: Builder, told: Told) -> None:
    backend = FakeBackend()
    assert builder.engine(backend, FP32, told)[1].recall is None

    def recall_of(engine: Engine) -> float:
        return 0.9 if engine is builder.reference else 0.9 - loss

    loss = RECALL_LOSS
    facts = builder.judged(backend, FP32, "a drive", recall_of, told)
    assert facts.recall == Recall("a drive", 0.9 - loss, 0.9)
    assert builder.engine(backend, FP32, told)[1] == facts
    loss = 2 * RECALL_LOSS
    with pytest.raises(EngineError, match=r"recall@1 0.880, the reference's 0.900 on a drive"):
        builder.judged(backend, FP32, "a drive", recall_of, told)
    with pytest.raises(EngineError, match=r"recall@1 0.880"):
        builder.engine(backend, FP32, told)
    assert all(engine.is_closed for engine in backend.engines[1:2])
