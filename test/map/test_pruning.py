from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.map.pruning import redundant
from vpr_ros.map.rows import DRIVE_MOMENTS

GAP = 2


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def angles(*degrees: float) -> np.ndarray:
    """Descriptors that differ as these angles do."""
    return unit(np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1))


def test_what_another_shows_as_well_goes_first() -> None:
    keys, moments = np.array([1, 2, 3, 4]), np.array([0, 1, 2, 3])
    looks = angles(0, 40, 41, 90)
    assert redundant(keys, moments, looks, [], excess=1, gap=1).removed in ({2: 3}, {3: 2})
    assert redundant(keys, moments, looks, [], excess=0, gap=1).removed == {}


def test_another_place_never_stands_for_it_however_similar() -> None:
    keys, moments = np.arange(1, 22), np.arange(21)
    removed = redundant(keys, moments, angles(*[0.0] * 21), [], excess=21, gap=GAP).removed
    assert removed
    assert all(abs(moments[key - 1] - moments[instead - 1]) <= GAP for key, instead in removed.items())


def test_a_place_at_night_is_not_redundant() -> None:
    """Of a place that was seen four times by day and once by night, two views stay: one of each."""
    looks, moments = [], []
    for drive, degrees in enumerate((0, 2, 4, 6, 80)):
        for step in range(3):  # three places along each drive
            look = np.zeros(6)
            look[2 * step : 2 * step + 2] = angles(degrees)[0]
            looks.append(look)
            moments.append((drive + 1) * DRIVE_MOMENTS + step)
    middle = [1, 4, 7, 10, 13]
    links = [(1, other) for other in middle[1:]]
    arguments = (np.arange(15), np.array(moments), np.array(looks, np.float32), links)
    assert set(redundant(*arguments, excess=3, gap=0).removed) < {1, 4, 7, 10}
    plan = redundant(*arguments, excess=15, gap=0)
    assert len(plan.removed) == len(plan.released) == 4


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int]]]:
    count = draw(st.integers(1, 30))
    keys = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    moments = np.array(draw(st.lists(st.integers(0, 40), min_size=count, max_size=count)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    pairs = st.tuples(st.sampled_from(keys.tolist()), st.sampled_from(keys.tolist()))
    return keys, moments, unit(rng.normal(size=(count, 4))), draw(st.lists(pairs, max_size=5))


@settings(deadline=None)
@given(maps(), st.integers(0, 40))
def test_the_last_keyframe_of_a_place_always_stays(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int]]], excess: int
) -> None:
    keys, moments, looks, links = drawn
    plan = redundant(keys, moments, looks, links, excess=excess, gap=GAP)
    assert len(plan.removed) <= excess
    near = {
        key: set(keys[np.abs(moments - moment) <= GAP].tolist())
        for key, moment in zip(keys.tolist(), moments, strict=True)
    }
    spots = [{key} for key in keys.tolist()]
    for a, b in links:
        joined = set().union(*(spot for spot in spots if spot & {a, b}))
        spots = [spot for spot in spots if not spot & {a, b}] + [joined]

    def is_same_place(one: int, other: int) -> bool:
        return other in near[one] or any(
            one in near[a] and other in near[b] for spot in spots for a in spot for b in spot - {a}
        )

    kept = set(keys.tolist()) - plan.removed.keys()
    for key, instead in plan.removed.items():
        assert is_same_place(key, instead)
        assert plan.final(key) in kept
    for key, moment in zip(keys.tolist(), moments.tolist(), strict=True):
        assert near[key] & kept or moment in plan.released
    smaller = redundant(keys, moments, looks, links, excess=excess // 2, gap=GAP)
    assert list(plan.removed.items())[: len(smaller.removed)] == list(smaller.removed.items())


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_do(count: int) -> None:
    plan = redundant(np.arange(count), np.arange(count), np.ones((count, 1), np.float32), [], excess=5, gap=GAP)
    assert not plan.removed


def test_many_prunings_lose_no_more_places_than_one() -> None:
    """Of a drive of 200 moments, none ends up further than the gap from a keyframe."""
    rng = np.random.default_rng(0)
    keys, moments, looks = (
        np.arange(1, 201),
        np.arange(200) + 10**12,
        unit(np.ones((200, 4)) + 0.1 * rng.normal(size=(200, 4))),
    )
    for _ in range(20):
        removed = redundant(keys, moments, looks, [], excess=15, gap=GAP).removed
        stays = ~np.isin(keys, list(removed))
        keys, moments, looks = keys[stays], moments[stays], looks[stays]
    assert len(keys) < 80
    assert max(np.min(np.abs(moments - moment)) for moment in np.arange(200) + 10**12) <= GAP


def test_endless_laps_fit_into_a_budget_and_no_place_is_lost() -> None:
    """A robot that goes round one block: thirty laps of forty moments in one drive, each linked with the lap before, pruned as it goes."""
    rng = np.random.default_rng(0)
    places = unit(rng.normal(size=(40, 16)))
    keys, moments, looks = np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 16), np.float32)
    links: list[tuple[int, int]] = []
    released: list[int] = []
    place_of: dict[int, int] = {}
    for n in range(1200):
        key, look = n + 1, unit(places[[n % 40]] + 0.05 * rng.normal(size=(1, 16)))
        seen = [other for other in keys.tolist()[:-10] if place_of[other] == n % 40]
        keys, moments = np.append(keys, key), np.append(moments, DRIVE_MOMENTS + n)
        looks, place_of[key] = np.concatenate([looks, look]), n % 40
        links += [(seen[-1], key)] if seen else []
        if len(keys) > 66:
            plan = redundant(
                keys,
                moments,
                looks,
                links,
                excess=len(keys) - 60,
                gap=GAP,
                released=released,
                spared=keys[-15:].tolist(),
            )
            stays = ~np.isin(keys, list(plan.removed))
            keys, moments, looks = keys[stays], moments[stays], looks[stays]
            released += plan.released
            links = [(plan.final(a), plan.final(b)) for a, b in links]
            links = [(a, b) for a, b in dict.fromkeys(links) if a != b]
    assert len(keys) <= 66
    gaps = np.diff(sorted({place_of[key] for key in keys.tolist()}), append=40)
    assert max(gaps) <= 2 * GAP + 1
