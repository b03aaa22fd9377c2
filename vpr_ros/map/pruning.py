"""Which keyframes a map can do without: those that another one of the same place stands for.

A map that grows with every visit of the same streets ends in a full disk; one that forgets the oldest forgets places. So what goes
first is what adds least: the keyframe that is most similar to another one of its place that stays. Views of a place in another light,
or from another side, are not similar and stay; so does the last keyframe of a place, however small the budget.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from vpr_ros.map.index.base import Keys
from vpr_ros.map.rows import DRIVE_MOMENTS


def redundant(
    keys: Keys,
    moments: NDArray[np.int64],
    descriptors: NDArray[np.float32],
    links: Iterable[tuple[int, int]],
    excess: int,
    gap: int,
    spared: Collection[int] = (),
) -> dict[int, int]:
    """At most `excess` keys to remove, the most redundant first, each with the key of the same place that stands for it.

    `keys` (N,), `moments` (N,) and unit `descriptors` (N, D) are of the keyframes, in ascending order of key; `links` are pairs of keys
    that loop closures joined; `spared` keys stay. Keyframes are of one place if they are at most `gap` moments apart, also by way of links. Every
    keyframe that is removed keeps one of its own place, so that nothing is lost step by step; so do moments without a keyframe, which
    an earlier pruning has removed, and the ends of a drive stay. A key that stands for others may go later; then what stands for it stands for them.
    """
    places = _same_place(keys, moments, links, gap)
    alive = np.ones(len(keys), bool)
    witnesses = np.array([len(places[i]) for i in range(len(keys))])
    """How many others of its place each still has."""
    near_gaps = _near_gaps(moments, gap)
    gap_witnesses = Counter(moment for gaps in near_gaps for moment in gaps)

    def best(i: int) -> tuple[float, int] | None:
        """Similarity and position of the keyframe that would stand for i; None if i is the last one of its place or another's."""
        others = [j for j in places[i] if alive[j]]
        if not others or any(not alive[j] and witnesses[j] == 1 for j in places[i]):
            return None
        if any(gap_witnesses[moment] == 1 for moment in near_gaps[i]):
            return None
        similarities = descriptors[others] @ descriptors[i]
        k = int(np.argmax(similarities))
        return float(similarities[k]), others[k]

    stays = {*spared, *keys[_ends(moments)].tolist()}
    heap = [
        (-found[0], i) for i, key in enumerate(keys.tolist()) if key not in stays and (found := best(i)) is not None
    ]
    heapq.heapify(heap)
    removed: dict[int, int] = {}
    while heap and len(removed) < excess:
        similarity, i = heapq.heappop(heap)
        found = best(i)
        if found is None:
            continue
        if -found[0] > similarity:  # what would have stood for it is gone: it is less redundant by now
            heapq.heappush(heap, (-found[0], i))
            continue
        alive[i] = False
        witnesses[places[i]] -= 1
        gap_witnesses.subtract(near_gaps[i])
        removed[int(keys[i])] = int(keys[found[1]])
    return removed


def _ends(moments: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions of the first and the last keyframes of each drive."""
    ends = [end for _, drive in _by_drive(moments) for end in (drive.min(), drive.max())]
    return np.flatnonzero(np.isin(moments, ends))


def _near_gaps(moments: NDArray[np.int64], gap: int) -> list[list[int]]:
    """For each keyframe the moments within `gap` that no keyframe has, though the drive passed them."""
    known = set(moments.tolist())
    ends = {drive: (drive_moments.min(), drive_moments.max()) for drive, drive_moments in _by_drive(moments)}

    def gaps(moment: int) -> list[int]:
        first, last = ends[moment // DRIVE_MOMENTS]
        return [m for m in range(max(moment - gap, first), min(moment + gap, last) + 1) if m not in known]

    return [gaps(moment) for moment in moments.tolist()]


def _by_drive(moments: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    drives = moments // DRIVE_MOMENTS
    for drive in np.unique(drives).tolist():
        yield drive, moments[drives == drive]


def final(removed: Mapping[int, int], key: int) -> int:
    """The key that stands for `key` in the end; itself if it was not removed."""
    while key in removed:
        key = removed[key]
    return key


def _same_place(
    keys: Keys, moments: NDArray[np.int64], links: Iterable[tuple[int, int]], gap: int
) -> dict[int, list[int]]:
    """Positions of the keyframes that show the place of each."""
    order = np.argsort(moments, kind="stable")
    sorted_moments = moments[order]

    def near(i: int) -> NDArray[np.intp]:
        start, stop = np.searchsorted(sorted_moments, [moments[i] - gap, moments[i] + gap + 1])
        return order[start:stop]

    places: dict[int, set[int]] = defaultdict(set)
    for i in range(len(keys)):
        places[i].update(near(i).tolist())
    for spot in _spots((int(np.searchsorted(keys, a)), int(np.searchsorted(keys, b))) for a, b in links):
        visits = {i: set(near(i).tolist()) for i in spot}
        for i, visit in visits.items():
            others = set().union(*(other for j, other in visits.items() if j != i))
            for seen in visit:
                places[seen] |= others
    return {i: sorted(place - {i}) for i, place in places.items()}


def _spots(links: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Positions that links join, directly or by way of others: visits of one spot."""
    spot_of: dict[int, set[int]] = {}
    for a, b in links:
        one, other = (spot_of.get(i, {i}) for i in (a, b))
        joined = one | other
        for i in joined:
            spot_of[i] = joined
    return list({id(spot): spot for spot in spot_of.values()}.values())
