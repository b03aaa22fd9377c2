"""A map for another model: its keyframes described anew, from their pictures or from the recording that they come from.

Descriptors of two models do not compare, so that a better model would be the end of every map. What it costs is judged by the map
itself: its loop closures are places that were seen twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from vpr_ros.engines.backend import Engine
from vpr_ros.engines.describe import describe_images
from vpr_ros.errors import MapError
from vpr_ros.images import decode_grey
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Frame, Image, Keyframe, KeyframeRef

BATCH = 16
NEARBY_MOMENTS = 20
"""A query does not compete with what was seen just before and after it: so many moments, or half the way to where it was before."""
Progress = Callable[[Iterable[Keyframe]], Iterable[Keyframe]]


@dataclass(frozen=True, slots=True)
class Reembedded:
    """How many keyframes were described anew, and how many were left out for want of a picture.

    `recall_before` and `recall_after` are recall@1 over `closures` of the map that both maps hold, with the old descriptors and the
    new ones; None where there are none. The closures were found with the old ones, which favours these.
    """

    keyframes: int
    without_picture: int
    closures: int
    recall_before: float | None
    recall_after: float | None


def reembed(
    old: PlaceMap, new: Path, engine: Engine, gap: int, frames: Iterable[Frame] | None = None, progress: Progress = iter
) -> Reembedded:
    """Write the keyframes of `old` to a new map file with the descriptors of the engine's model.

    From `frames`, of the recording that the map was made from, where stamp and camera are a keyframe's; without frames from the small grey
    pictures in the map. Places within `gap` moments of a closure's are right. Raises MapError where `new` exists or nothing can be described.
    """
    if new.exists():
        raise MapError(f"{new} exists: name a file that does not")
    described = _of_frames(old, frames, engine) if frames is not None else _of_pictures(old, engine, progress)
    first = next(described, None)
    if first is None:
        raise MapError(
            "no keyframe can be described: the map has no pictures, or the recording no image of a keyframe's stamp and camera"
        )
    with PlaceMap.open(new, engine.model.id, engine.model.dim) as place_map:
        place_map.add(first)
        for keyframe in described:
            place_map.add(keyframe)
        place_map.add_links(old)
        place_map.flush()
        links = place_map.links
        before, after = (recall_of_closures(each, links, gap) for each in (old, place_map))
        return Reembedded(len(place_map), len(old) - len(place_map), len(links), before, after)


def recall_of_closures(place_map: PlaceMap, links: Iterable[tuple[KeyframeRef, KeyframeRef]], gap: int) -> float | None:
    """Share of closures whose second keyframe finds the place of the first, or another closure's of its own, at rank 1.

    Its neighbours in time are left out of the search (`NEARBY_MOMENTS`). None without closures.
    """
    places: dict[KeyframeRef, list[int]] = {}
    for first, second in links:
        places.setdefault(second, []).append(place_map.moment(first))
    if not places:
        return None
    refs = place_map.names
    moments = np.array([place_map.moment(ref) for ref in refs])
    right = 0
    for query, known in places.items():
        now = place_map.moment(query)
        width = min(NEARBY_MOMENTS, *(abs(now - moment) // 2 for moment in known))
        nearby = np.flatnonzero(np.abs(moments - now) <= width)
        found = place_map.search(place_map[query].descriptor, 1, without=[refs[i] for i in nearby])
        right += bool(found) and any(abs(place_map.moment(found[0].keyframe) - moment) <= gap for moment in known)
    return right / len(places)


def _of_pictures(old: PlaceMap, engine: Engine, progress: Progress) -> Iterator[Keyframe]:
    pictures = ((keyframe, image) for keyframe in progress(old) if (image := _picture(keyframe)) is not None)
    while some := list(islice(pictures, BATCH)):
        yield from _described(some, engine)


def _picture(keyframe: Keyframe) -> Image | None:
    grey = None if keyframe.thumbnail is None else decode_grey(keyframe.thumbnail.jpeg)
    return None if grey is None else np.repeat(grey[:, :, None], 3, axis=2)


def _of_frames(old: PlaceMap, frames: Iterable[Frame], engine: Engine) -> Iterator[Keyframe]:
    """Of each keyframe once, in the order of the recording."""
    wanted: dict[tuple[int, str], list[KeyframeRef]] = {}
    for ref in old.names:
        wanted.setdefault((ref.stamp_ns, ref.camera_name), []).append(ref)
    for frame in frames:
        refs = wanted.pop((frame.stamp_ns, frame.camera_name), [])
        yield from _described([(old[ref], frame.image) for ref in refs], engine)


def _described(some: list[tuple[Keyframe, Image]], engine: Engine) -> list[Keyframe]:
    if not some:
        return []
    descriptors = describe_images(engine, [image for _, image in some])
    return [replace(keyframe, descriptor=row) for (keyframe, _), row in zip(some, descriptors, strict=True)]
