"""What may be matched, what is one place, and which queries agree on it.

How far apart keyframes lie is counted in moments (`PlaceMap.moment`), so that a rig of cameras counts as one camera does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vpr_ros.config import ExclusionConfig
from vpr_ros.types import Candidate, Descriptor, Frame, Keyframe, KeyframeRef, OdometryFix, Pose, Thumbnail


@dataclass(frozen=True, slots=True, eq=False)
class Now:
    """Where a query stands in its drive: the time since that began, and what odometry is worth, if anything."""

    elapsed_ns: int
    camera_name: str = ""
    odometry: OdometryFix | None = None

    @property
    def travelled_m(self) -> float | None:
        return None if self.odometry is None else self.odometry.travelled_m

    @property
    def odometry_segment(self) -> int:
        return 0 if self.odometry is None else self.odometry.segment

    @property
    def odom_from_body(self) -> Pose | None:
        return None if self.odometry is None else self.odometry.odom_from_body

    def keyframe(self, ref: KeyframeRef, frame: Frame, descriptor: Descriptor, thumbnail: Thumbnail | None) -> Keyframe:
        """What the map remembers of a frame that was taken now."""
        return Keyframe(
            ref,
            descriptor,
            thumbnail=thumbnail,
            camera=frame.camera,
            body_from_camera=frame.body_from_camera,
            odom_from_body=self.odom_from_body,
            travelled_m=self.travelled_m,
            elapsed_ns=self.elapsed_ns,
            odometry_segment=self.odometry_segment,
        )


def recent(
    drive: Sequence[Keyframe],
    now: Now,
    views: Mapping[str, Descriptor],
    config: ExclusionConfig,
    jitter_s: float = 0.0,
) -> list[KeyframeRef]:
    """Keyframes of the running drive, in time order, that are no revisit for a query: too new, or the robot has not left since.

    `views` has what each camera sees now.
    """
    stop = min(recent_start(drive, now, config, jitter_s), stay_start(drive, views, config.away_similarity))
    return [keyframe.ref for keyframe in drive[stop:]]


def recent_start(drive: Sequence[Keyframe], now: Now, config: ExclusionConfig, jitter_s: float = 0.0) -> int:
    """Keyframes of the drive from this position on are too new by count, time or path to be matched by a query.

    Path length only grows within a segment of odometry, and times never fall more than `jitter_s` behind the newest
    (cameras of a rig do not arrive in order), so what is excluded is a suffix: this is the first keyframe that a rule
    excludes. With jitter a keyframe up to `jitter_s` older than `config.time_s` may lie behind it.
    """
    start, of_camera = len(drive), 0
    for i in range(len(drive) - 1, -1, -1):
        keyframe = drive[i]
        if of_camera < config.count or _is_recent(keyframe, now, config):
            start = i
        elif now.elapsed_ns - keyframe.elapsed_ns >= (config.time_s + jitter_s) * 1e9 and (
            now.travelled_m is None or keyframe.travelled_m is not None
        ):
            break  # and so are all before it, if its path bounds theirs
        of_camera += keyframe.ref.camera_name == now.camera_name
    return start


def _is_recent(keyframe: Keyframe, now: Now, config: ExclusionConfig) -> bool:
    if now.elapsed_ns - keyframe.elapsed_ns < config.time_s * 1e9:
        return True
    if now.travelled_m is None or keyframe.travelled_m is None or now.odometry_segment != keyframe.odometry_segment:
        return False
    return now.travelled_m - keyframe.travelled_m < config.distance_m


AWAY_KEYFRAMES = 2
"""One keyframe may show a passer-by; so many in a row show another place."""


def stay_start(drive: Sequence[Keyframe], views: Mapping[str, Descriptor], away_similarity: float) -> int:
    """Keyframes of the drive from this position on were made since the robot came to where it is now.

    A robot that waits, or creeps, sees for minutes what it has just seen: that is no revisit. It has left once
    `AWAY_KEYFRAMES` in a row of a camera are less similar to that camera's present view (`views`, by name) than
    `away_similarity`; any camera of a rig will do, for they move together.
    """
    if away_similarity >= 1.0:
        return len(drive)
    in_a_row: Counter[str] = Counter()
    for i in range(len(drive) - 1, -1, -1):
        name = drive[i].ref.camera_name
        if name in views:
            is_away = float(drive[i].descriptor @ views[name]) < away_similarity
            in_a_row[name] = in_a_row[name] + 1 if is_away else 0
        if in_a_row[name] == AWAY_KEYFRAMES:
            return i
    return 0


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


def islands(
    candidates: Sequence[Candidate], moment_of: Callable[[KeyframeRef], int], gap: int, links: Links
) -> list[Island]:
    """Group candidates (best first) into places, best place first. `moment_of` a keyframe is its moment.

    A candidate belongs to the place of a better one at most `gap` moments away, or in a part of the map that accepted loop
    closures link with it (or the second visit of a place would make the third ambiguous). Otherwise it is the best of a
    place of its own. Weak candidates between two strong ones do not make them one place.
    """
    places: list[list[Candidate]] = []
    for candidate in candidates:
        moment = moment_of(candidate.keyframe)
        near = (
            place
            for place in places
            if any(_is_same_place(moment, moment_of(other.keyframe), gap, links) for other in place)
        )
        home = next(near, None)
        if home is None:
            places.append([candidate])
        else:
            home.append(candidate)
    return [Island(tuple(place)) for place in places]


def _is_same_place(a: int, b: int, gap: int, links: Links) -> bool:
    return abs(a - b) <= gap or links.join(a, b)


def consistent_count(previous: Iterable[int | None], moment: int, max_gap: int, links: Links) -> int:
    """How many of the last queries' best keyframes (their moments; None: no keyframe) and this one lie at the same place."""
    return 1 + sum(p is not None and _is_same_place(p, moment, max_gap, links) for p in previous)
