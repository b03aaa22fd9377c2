"""Pure decisions about candidates: what may be matched, what is one place, what is ambiguous, what is consistent.

How far apart keyframes lie is counted in moments (`PlaceMap.moments`), so that a rig of cameras counts as one camera does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vpr_ros.config import ExclusionConfig
from vpr_ros.types import Candidate, Keyframe


def eligible_stop(
    keyframes: Sequence[Keyframe],
    first_id: int,
    stamp_ns: int,
    travelled_m: float | None,
    config: ExclusionConfig,
    camera_name: str = "",
    jitter_s: float = 0.0,
) -> int:
    """Keyframes with an id below this may be matched by a query of `camera_name`; the newer ones are no revisit.

    `keyframes`: the whole map; those from the id `first_id` on are the running session's, those before it belong to other
    sessions and are never excluded. Path length only grows within a session and stamps never fall more than `jitter_s`
    behind the newest (cameras of a rig do not arrive in order), so what is excluded is a suffix: this is the id of the first
    keyframe that a rule excludes. With jitter a keyframe up to `jitter_s` older than `config.time_s` may lie behind it.
    """
    stop, of_camera = len(keyframes), 0
    for i in range(len(keyframes) - 1, first_id - 1, -1):
        keyframe = keyframes[i]
        if of_camera < config.count or _is_recent(keyframe, stamp_ns, travelled_m, config):
            stop = i
        elif stamp_ns - keyframe.stamp_ns >= (config.time_s + jitter_s) * 1e9:
            break  # and so are all before it
        of_camera += keyframe.camera_name == camera_name
    return stop


def _is_recent(keyframe: Keyframe, stamp_ns: int, travelled_m: float | None, config: ExclusionConfig) -> bool:
    if stamp_ns - keyframe.stamp_ns < config.time_s * 1e9:
        return True
    known = travelled_m is not None and keyframe.travelled_m is not None
    return known and travelled_m - keyframe.travelled_m < config.distance_m  # type: ignore[operator]


class Links:
    """Which parts of the map accepted loop closures have joined, to within about `gap` moments.

    Moments are rounded to cells of `gap`; a link joins its two cells and their neighbours, so a look-up costs the same however
    many links there are.
    """

    def __init__(self, gap: int, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._cell = max(1, gap)
        self._joined: set[tuple[int, int]] = set()
        for first, second in pairs:
            self.add(first, second)

    def add(self, first: int, second: int) -> None:
        a, b = first // self._cell, second // self._cell
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                self._joined.update({(a + i, b + j), (b + j, a + i)})

    def join(self, first: int, second: int) -> bool:
        """Whether a link joins the neighbourhoods of two moments."""
        return (first // self._cell, second // self._cell) in self._joined


@dataclass(frozen=True, slots=True)
class Island:
    """Candidates that are neighbours in the map: one place. Best first."""

    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        return self.candidates[0]


def islands(candidates: Sequence[Candidate], moments: Sequence[int], gap: int, links: Links) -> list[Island]:
    """Group candidates (best first) into places, best place first. `moments` has the moment of each keyframe id.

    A candidate belongs to the place of a better one at most `gap` moments away, or in a part of the map that accepted loop
    closures link with it (or the second visit of a place would make the third ambiguous). Otherwise it is the best of a
    place of its own. Weak candidates between two strong ones do not make them one place.
    """
    places: list[list[Candidate]] = []
    for candidate in candidates:
        moment = moments[candidate.keyframe_id]
        near = (
            place
            for place in places
            if any(_is_same_place(moment, moments[other.keyframe_id], gap, links) for other in place)
        )
        home = next(near, None)
        if home is None:
            places.append([candidate])
        else:
            home.append(candidate)
    return [Island(tuple(place)) for place in places]


def _is_same_place(a: int, b: int, gap: int, links: Links) -> bool:
    return abs(a - b) <= gap or links.join(a, b)


def is_ambiguous(similarity: float, runner_up: float | None, max_ambiguity: float) -> bool:
    """Whether another place is about as similar. Cosines of whitened descriptors may be negative: those never compete."""
    return runner_up is not None and max_ambiguity < 1.0 and runner_up > 0 and runner_up > max_ambiguity * similarity


def consistent_count(previous: Iterable[int | None], moment: int, max_gap: int, links: Links) -> int:
    """How many of the last queries' best keyframes (their moments; None: no keyframe) and this one lie at the same place."""
    return 1 + sum(p is not None and _is_same_place(p, moment, max_gap, links) for p in previous)
