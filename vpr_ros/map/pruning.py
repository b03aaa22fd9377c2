"""Which keyframes a map can do without: those that another one of the same place stands for.

A map that grows with every visit of the same streets ends in a full disk; one that forgets the oldest forgets places. So what goes
first is what adds least: the keyframe that is most similar to another one of its place that stays. Views of a place in another light,
or from another side, are not similar and stay; so does the last keyframe of a place, however small the budget.

A place is seen again where loop closures link two visits; moments of a visit that are given up to another one are *released*. Every
other moment of a drive keeps a keyframe within the gap, over any number of prunings.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import Keys
from vpr_ros.map.rows import DRIVE_MOMENTS


@dataclass(slots=True)
class Plan:
    """What to remove: each key with the key that stands for it, in order, and the moments that are released with that.

    A key that stands for others may go later; then what stands for it stands for them.
    """

    removed: dict[int, int] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)

    def final(self, key: int) -> int:
        """The key that stands for `key` in the end; itself if it is not removed."""
        while key in self.removed:
            key = self.removed[key]
        return key


def redundant(
    keys: Keys,
    moments: NDArray[np.int64],
    descriptors: NDArray[np.float32],
    links: Iterable[tuple[int, int]],
    *,
    excess: int,
    gap: int,
    released: Collection[int] = (),
    spared: Collection[int] = (),
) -> Plan:
    """At most `excess` keys to remove, the most redundant first.

    `keys` (N,), `moments` (N,) and unit `descriptors` (N, D) are of the keyframes, in ascending order of key; `links` are pairs of keys
    that loop closures joined; `spared` keys stay. Keyframes are of one place if they are at most `gap` moments apart, or near the two
    ends of a link. `released` moments are those of earlier plans.
    """
    visit, spots = _Visit(moments, gap), _spots_by_position(keys, moments, links, gap)
    state = _Coverage(moments, gap, set(released))
    plan = Plan()

    def best(i: int) -> tuple[float, int, bool] | None:
        """Similarity and position of what would stand for i, and whether that is of another visit; None if i must stay."""
        near = [spot[state.alive[spot] & (np.abs(moments[spot] - moments[i]) > 2 * gap)] for spot in spots.get(i, ())]
        here = visit(i) if state.is_dispensable(i) else visit(i)[:0]
        others = np.concatenate([*near, here[state.alive[here] & (here != i)]])
        if not len(others):
            return None
        similarities = descriptors[others] @ descriptors[i]
        k = int(np.argmax(similarities))
        return float(similarities[k]), int(others[k]), k < sum(map(len, near))

    first = ((i, best(i)) for i, key in enumerate(keys.tolist()) if key not in spared)
    heap = [(-found[0], i) for i, found in first if found is not None]
    heapq.heapify(heap)
    while heap and len(plan.removed) < excess:
        similarity, i = heapq.heappop(heap)
        found = best(i)
        if found is None:
            continue
        if -found[0] > similarity:  # what would have stood for it is gone: it is less redundant by now
            heapq.heappush(heap, (-found[0], i))
            continue
        _, j, is_elsewhere = found
        plan.removed[int(keys[i])] = int(keys[j])
        plan.released += state.remove(i, release=is_elsewhere)
    return plan


class _Coverage:
    """Which moments need a keyframe within the gap, and which keyframes that hangs on."""

    def __init__(self, moments: NDArray[np.int64], gap: int, released: set[int]) -> None:
        self.alive = np.ones(len(moments), bool)
        self._moments, self._gap, self._released = moments.tolist(), gap, released
        self._count = Counter(self._moments)
        """Keyframes that stay, by moment."""
        drives: dict[int, list[int]] = defaultdict(list)
        for moment in self._moments:
            drives[moment // DRIVE_MOMENTS].append(moment)
        self._ends = {drive: (min(of_drive), max(of_drive)) for drive, of_drive in drives.items()}

    def is_dispensable(self, i: int) -> bool:
        """Whether every moment that i covers has another keyframe of its own visit."""
        moment = self._moments[i]
        if moment in self._ends[moment // DRIVE_MOMENTS] and self._count[moment] == 1:
            return False  # nothing but its ends tells where a drive went
        return not any(self._near(empty) == 1 for empty in self._empty_near(moment))

    def remove(self, i: int, release: bool) -> list[int]:
        """The moments that are released, if that is wished: that of i, and those that hung on i alone."""
        moment = self._moments[i]
        self.alive[i] = False
        self._count[moment] -= 1
        if not release:
            return []
        left = [moment] if self._count[moment] == 0 else []
        left += [empty for empty in self._empty_near(moment) if empty != moment and self._near(empty) == 0]
        self._released.update(left)
        return left

    def _empty_near(self, moment: int) -> list[int]:
        """Moments within the gap that have no keyframe any more, though the drive passed them, and were not released."""
        first, last = self._ends[moment // DRIVE_MOMENTS]
        window = range(max(moment - self._gap, first), min(moment + self._gap, last) + 1)
        return [m for m in window if self._count[m] == 0 and m not in self._released]

    def _near(self, moment: int) -> int:
        """How many keyframes that stay are within the gap."""
        return sum(self._count[m] for m in range(moment - self._gap, moment + self._gap + 1))


def _spots_by_position(
    keys: Keys, moments: NDArray[np.int64], links: Iterable[tuple[int, int]], gap: int
) -> dict[int, list[NDArray[np.intp]]]:
    """The spots that each position is near, each as all positions that are near it."""
    visit = _Visit(moments, gap)
    spots: dict[int, list[NDArray[np.intp]]] = defaultdict(list)
    for spot in _spots((int(np.searchsorted(keys, a)), int(np.searchsorted(keys, b))) for a, b in links):
        near = np.unique(np.concatenate([visit(i) for i in spot]))
        for i in near.tolist():
            spots[i].append(near)
    return spots


class _Visit:
    """Called with a position: those of the keyframes that are at most the gap away, itself included."""

    def __init__(self, moments: NDArray[np.int64], gap: int) -> None:
        self._moments, self._gap = moments, gap
        self._order = np.argsort(moments, kind="stable")
        self._sorted = moments[self._order]

    def __call__(self, i: int) -> NDArray[np.intp]:
        moment = self._moments[i]
        start, stop = np.searchsorted(self._sorted, [moment - self._gap, moment + self._gap + 1])
        return self._order[start:stop]


def _spots(links: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Positions that links join, directly or by way of others: visits of one spot."""
    spot_of: dict[int, set[int]] = {}
    for a, b in links:
        one, other = (spot_of.get(i, {i}) for i in (a, b))
        joined = one | other
        for i in joined:
            spot_of[i] = joined
    return list({id(spot): spot for spot in spot_of.values()}.values())
