"""Recall against the size of a map: what `vpr map prune` keeps, beside random keyframes and the newest ones.

    python benchmarks/map_pruning.py ../shared/data/gardenspoint

The map holds a walk (day_left) and every second image of another one along the same way (day_right), whose true pairs are its loop
closures. The other images of the second walk are the queries; right is a keyframe of at most --right images further, of either walk.
Images are evenly spaced, so that a place is `match.island_gap` images wide for pruning.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.config import Config
from vpr_ros.engines.describe import describe_images
from vpr_ros.engines.open import open_reference
from vpr_ros.files import numeric_order
from vpr_ros.images import read_image
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.types import Keyframe, KeyframeRef


def described(folder: Path) -> NDArray[np.float32]:
    engine = open_reference(PlaceModel.open(), 1)
    return np.concatenate([describe_images(engine, [read_image(path)]) for path in numeric_order(folder.glob("*.jpg"))])


def full_map(first: NDArray[np.float32], second: NDArray[np.float32]) -> PlaceMap:
    place_map = PlaceMap(first.shape[1])
    for session, rows, step in (("first", first, 1), ("second", second, 2)):
        for i in range(0, len(rows), step):
            place_map.add(Keyframe(KeyframeRef("", session, i), rows[i]))
    for ref in place_map.names:
        if ref.session == "second":
            place_map.link(KeyframeRef("", "first", ref.id), ref)
    return place_map


def recall(place_map: PlaceMap, second: NDArray[np.float32], right_within: int) -> float:
    """@1 of the queries, the odd images of the second walk."""
    right = 0
    for i in range(1, len(second), 2):
        (best,) = place_map.search(second[i], 1)
        right += abs(best.keyframe.id - i) <= right_within
    return right / len(range(1, len(second), 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("data", type=Path, help="gardenspoint, with day_left and day_right")
    parser.add_argument("--right", type=int, default=2, metavar="IMAGES", help="default %(default)s")
    options = parser.parse_args()
    first, second = (described(options.data / name) for name in ("day_left", "day_right"))
    whole = len(full_map(first, second))
    gap, rng = Config().match.island_gap, np.random.default_rng(0)
    print(f"{whole} keyframes: recall@1 {recall(full_map(first, second), second, options.right):.3f}")
    print("keep   pruned (kept)   random, mean of 10   the newest")
    for keep in (250, 200, 150, 100, 75, 50, 30):
        pruned = full_map(first, second)
        pruned.merge(pruned.redundant(keep, gap))
        others = []
        for _ in range(10):
            random = full_map(first, second)
            names = random.names
            random.remove([names[i] for i in rng.choice(whole, whole - keep, replace=False)])
            others.append(recall(random, second, options.right))
        newest = full_map(first, second)
        newest.remove(newest.names[: whole - keep])
        print(
            f"{keep:4}   {recall(pruned, second, options.right):.3f} ({len(pruned)})     {np.mean(others):.3f}                {recall(newest, second, options.right):.3f}"
        )


if __name__ == "__main__":
    main()
