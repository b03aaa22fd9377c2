from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from small_batches import random_psi, source_of

from training.data.augment import Crop
from training.data.sampling import (
    NEGATIVES,
    POSITIVES,
    SOFT_NEGATIVES,
    UNRELATED,
    AnySampling,
    Draw,
    Groups,
    Mined,
    MinedTriplets,
    Pairs,
    Places,
    Pool,
    View,
    queries_with,
    targets,
)
from training.data.source import Source
from vpr_ros.errors import ConfigError

laws = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)
WHOLE = Crop(0.0, 0.0, 1.0, 1.0)
KINDS = {
    POSITIVES: lambda psi: psi >= 0.5,
    SOFT_NEGATIVES: lambda psi: 0 < psi < 0.5,
    UNRELATED: lambda psi: psi == 0,
    NEGATIVES: lambda psi: psi < 0.5,
}
every_pool = pytest.mark.parametrize("pool", KINDS, ids=lambda pool: pool.name.split(" (")[0])


def street(count: int = 60, name: str = "street", share: float = 1.0, smallest_crop: float = 0.85) -> Source:
    """A camera along a line: psi falls by 0.2 per frame."""
    frames = np.arange(count)
    psi = np.clip(1 - 0.2 * np.abs(frames[:, None] - frames), 0, 1)
    return source_of(np.where(psi < 1e-9, 0.0, psi), name, share, smallest_crop)


def clip(count: int = 10, name: str = "clip", smallest_crop: float = 0.85) -> Source:
    """Nobody knows what two frames share."""
    return source_of(np.full((count, count), np.nan), name, smallest_crop=smallest_crop)


def named(sizes: list[int], lone: int = 0, name: str = "named") -> Source:
    """Places of so many images each, shuffled, and images of no known place."""
    places = np.concatenate([np.repeat(np.arange(len(sizes)) * 7, sizes), np.full(lone, -1)])
    places = np.random.default_rng(0).permutation(places)
    return source_of((places[:, None] == places) & (places >= 0), name, places=places)


def psi_of(draw: Draw, sources: list[Source], i: int, j: int) -> float:
    a, b = draw.views[i], draw.views[j]
    return float(sources[a.source].psi(np.array([a.index, b.index]))[0, 1])


# What can be drawn for a query


@every_pool
@laws
@given(seed=seeds, count=st.integers(2, 9), least=st.integers(1, 3))
def test_queries_that_have_a_match_against_the_dense_matrix(pool: Pool, seed: int, count: int, least: int) -> None:
    psi = random_psi(np.random.default_rng(seed), count)
    sizes = [sum(KINDS[pool](psi[i, j]) for j in range(count) if j != i) for i in range(count)]
    expected = [i for i in range(count) if sizes[i] >= least]
    if expected:
        assert queries_with(source_of(psi), pool, least).tolist() == expected
    else:
        with pytest.raises(ConfigError, match="small: no image has"):
            queries_with(source_of(psi), pool, least)


@every_pool
def test_every_match_of_a_pool_is_as_likely(pool: Pool) -> None:
    psi = random_psi(np.random.default_rng(3), 16)
    source, rng = source_of(psi), np.random.default_rng(0)
    for query in queries_with(source, pool)[:4].tolist():
        matches = [i for i in range(16) if i != query and KINDS[pool](psi[query, i])]
        drawn = Counter(pool.pick(rng, source, query) for _ in range(200 * len(matches)))
        assert sorted(drawn) == matches
        assert all(120 < times < 300 for times in drawn.values())


# Targets


@laws
@given(seeds)
def test_targets_against_a_loop_over_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = [source_of(random_psi(rng, 5)), source_of(random_psi(rng, 4))]
    batch = Groups(groups=4, group_size=3).draw(rng, sources)
    asked = rng.random((12, 12)) < 0.8
    asked |= asked.T
    found, triplets = targets(Draw(batch.views, asked), sources)
    for i, a in enumerate(batch.views):
        for j, b in enumerate(batch.views):
            if i == j:
                expected = 1.0
            elif not asked[i, j]:
                expected = np.nan
            elif a.source != b.source:
                expected = 0.0
            elif a.index == b.index:
                expected = a.crop.overlap(b.crop)
            else:
                expected = psi_of(batch, sources, i, j)
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    assert found.dtype == np.float32
    assert triplets.shape == (0, 3)


def test_two_views_of_one_image_share_what_their_crops_share() -> None:
    views = (View(0, 3, Crop(0.0, 0.0, 0.5, 1.0)), View(0, 3, Crop(0.25, 0.0, 0.5, 1.0)), View(0, 4, WHOLE))
    similarity, _ = targets(Draw(views), [street()])
    np.testing.assert_allclose(similarity, [[1, 0.5, 0.8], [0.5, 1, 0.8], [0.8, 0.8, 1]], rtol=1e-6)


# Samplers


@pytest.mark.parametrize("sampling", [Groups(), Pairs(), Places(places=6)], ids=lambda s: s.kind)
def test_a_draw_is_a_pure_function_of_the_generator(sampling: AnySampling) -> None:
    sources = [street(name="a"), street(name="b", share=3.0)]
    first, again, other = (sampling.draw(np.random.default_rng(seed), sources) for seed in (5, 5, 6))
    assert first.views == again.views
    assert first.views != other.views
    assert all(min(view.crop.width, view.crop.height) >= 0.85 for view in first.views)


def test_sources_are_drawn_by_share() -> None:
    sources = [street(name="a"), street(name="b", share=3.0)]
    for sampling in (Groups(groups=400), Pairs(queries=400), Places(places=50, images=2)):
        drawn = [view.source for view in sampling.draw(np.random.default_rng(0), sources).views]
        assert 0.6 < np.mean(drawn) < 0.9


def test_a_group_is_a_query_a_positive_and_soft_negatives() -> None:
    sources = [street()]
    draw = Groups(groups=20, group_size=4).draw(np.random.default_rng(0), sources)
    assert draw.asked is None
    assert len(draw.views) == 80
    for query in range(0, 80, 4):
        assert 0.5 <= psi_of(draw, sources, query, query + 1) < 1
        assert draw.views[query + 2] != draw.views[query + 3]
        for soft in (query + 2, query + 3):
            assert 0 < psi_of(draw, sources, query, soft) < 0.5


def test_a_group_without_positives_is_two_crops_of_one_image() -> None:
    draw = Groups(groups=20).draw(np.random.default_rng(0), [clip()])
    for query, second in zip(draw.views[::3], draw.views[1::3], strict=True):
        assert query.index == second.index
        assert query.crop != second.crop
    assert len({view.index for view in draw.views[2::3]}) > 1  # no soft negatives either: random images


def test_groups_of_whole_images_need_positives() -> None:
    psi = np.eye(10)
    psi[2, 7] = psi[7, 2] = 0.6
    draw = Groups().draw(np.random.default_rng(0), [source_of(psi, smallest_crop=1.0)])
    assert all({a.index, b.index} == {2, 7} for a, b in zip(draw.views[::3], draw.views[1::3], strict=True))
    assert {view.crop for view in draw.views} == {WHOLE}
    with pytest.raises(
        ConfigError, match=r"clip: no image has 1 or more positives \(psi >= 0.5\).*leave this source out"
    ):
        Groups().draw(np.random.default_rng(0), [street(), clip(smallest_crop=1.0)])


def test_pairs_have_the_shares_of_the_paper() -> None:
    sources = [street()]
    draw = Pairs(queries=800).draw(np.random.default_rng(0), sources)
    psi = np.array([psi_of(draw, sources, i, i + 1) for i in range(0, 1600, 2)])
    assert np.mean(psi >= 0.5) == pytest.approx(0.5, abs=0.06)
    assert np.mean((psi > 0) & (psi < 0.5)) == pytest.approx(0.25, abs=0.05)
    assert np.mean(psi == 0) == pytest.approx(0.25, abs=0.05)


def test_only_the_drawn_pairs_are_asked() -> None:
    sources = [street()]
    draw = Pairs(queries=5).draw(np.random.default_rng(0), sources)
    similarity, _ = targets(draw, sources)
    known = np.isfinite(similarity)
    np.testing.assert_array_equal(known, np.kron(np.eye(5), np.ones((2, 2))).astype(bool))


def test_the_shares_hold_where_few_images_have_a_match() -> None:
    psi = np.eye(40)
    psi[2, 7] = psi[7, 2] = 0.6
    draw = Pairs(queries=200, shares=(0.5, 0.0, 0.5)).draw(np.random.default_rng(0), [source_of(psi)])
    positives = sum({a.index, b.index} == {2, 7} for a, b in zip(draw.views[::2], draw.views[1::2], strict=True))
    assert 75 <= positives <= 125


def test_binary_pairs_are_positives_and_all_negatives() -> None:
    sources = [street(12)]
    draw = Pairs(queries=400, shares=(0.5, 0.5)).draw(np.random.default_rng(0), sources)
    psi = np.array([psi_of(draw, sources, i, i + 1) for i in range(0, 800, 2)])
    assert np.mean(psi >= 0.5) == pytest.approx(0.5, abs=0.08)
    assert np.any((psi > 0) & (psi < 0.5))
    assert np.any(psi == 0)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        (clip(), r"clip: no image has 1 or more positives \(psi >= 0.5\)"),
        (named([3, 3]), r"named: no image has 1 or more soft negatives \(0 < psi < 0.5\)"),
        (
            source_of([[1, 0.6, 0.3], [0.6, 1, 0.3], [0.3, 0.3, 1]]),
            r"small: no image has 1 or more unrelated images \(psi = 0\)",
        ),
    ],
    ids=["clip", "named", "all alike"],
)
def test_pairs_that_a_source_does_not_have(source: Source, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        Pairs().draw(np.random.default_rng(0), [street(), source])


def test_a_batch_of_places() -> None:
    source = named([4, 5, 3, 6, 4, 2], lone=5)
    draw = Places(places=4, images=4).draw(np.random.default_rng(0), [source])
    drawn = source.images.places[[view.index for view in draw.views]].reshape(4, 4)
    assert all(len(set(place)) == 1 for place in drawn.tolist())
    assert set(drawn[:, 0].tolist()) == {0, 7, 21, 28}  # those of at least four images, each once
    assert len({view.index for view in draw.views}) == 16


def test_places_of_a_set_that_has_none_are_a_query_and_its_positives() -> None:
    sources = [street()]
    draw = Places(places=10, images=3).draw(np.random.default_rng(0), sources)
    assert len({view.index for view in draw.views[::3]}) == 10
    for query in range(0, 30, 3):
        assert len({view.index for view in draw.views[query : query + 3]}) == 3
        assert min(psi_of(draw, sources, query, query + 1), psi_of(draw, sources, query, query + 2)) >= 0.5


def test_too_few_places() -> None:
    with pytest.raises(ConfigError, match=r"named: 2 places have 4 images, fewer than the 3 of a batch; lower"):
        Places(places=3).draw(np.random.default_rng(0), [named([4, 4, 3])])
    with pytest.raises(ConfigError, match=r"clip: no image has 3 or more positives"):
        Places(places=3).draw(np.random.default_rng(0), [clip()])


TABLE = Mined(np.array([0, 1, 0]), np.array([[3, 4, 20, 30], [5, 6, 40, -1], [7, 8, 50, -1]]), dropped=2)


def test_mined_tuples_are_drawn_as_triplets() -> None:
    sources = [street(name="a"), street(name="b")]
    draw = MinedTriplets(tuples=2).with_table(TABLE).draw(np.random.default_rng(0), sources)
    drawn = {tuple((draw.views[i].source, draw.views[i].index) for i in row) for row in draw.triplets}
    of_tuple = [{((0, 3), (0, 4), (0, 20)), ((0, 3), (0, 4), (0, 30))}, {((1, 5), (1, 6), (1, 40))}]
    of_tuple.append({((0, 7), (0, 8), (0, 50))})
    assert sum(rows <= drawn for rows in of_tuple) == 2
    assert len(draw.views) == 6 + len(drawn) - 2
    assert draw.asked is None
    np.testing.assert_array_equal(targets(draw, sources)[1], draw.triplets)


def test_a_short_table_gives_all_it_has() -> None:
    draw = MinedTriplets(tuples=8).with_table(TABLE).draw(np.random.default_rng(0), [street(), street()])
    assert len(draw.triplets) == 4


def test_nothing_can_be_drawn_before_the_first_round() -> None:
    sampling = MinedTriplets()
    sampling.with_table(TABLE)
    with pytest.raises(ValueError, match="nothing is mined yet"):
        sampling.draw(np.random.default_rng(0), [street()])


def test_a_table_survives_a_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("state") / "checkpoint.pt"
    torch.save(TABLE.to_state(), path)
    again = Mined.from_state(torch.load(path, weights_only=True))
    np.testing.assert_array_equal(again.source, TABLE.source)
    np.testing.assert_array_equal(again.indices, TABLE.indices)
    assert again.dropped == 2


@pytest.mark.parametrize("sampling", [Groups(), Pairs(shares=(0.5, 0.5)), Places(), MinedTriplets()])
def test_a_recipe_chooses_a_sampling_by_its_kind(sampling: AnySampling) -> None:
    assert TypeAdapter(AnySampling).validate_python(sampling.model_dump(mode="json")) == sampling


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.3], [0.5, 0.4]])
def test_shares_that_are_not_all(shares: list[float]) -> None:
    with pytest.raises(ValidationError, match=rf"shares sum to {sum(shares):g}, not to 1"):
        TypeAdapter(AnySampling).validate_python({"kind": "pairs", "shares": shares})
