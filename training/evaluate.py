"""Recall of a model on two passes along one path, beside a thumbnail as the baseline.

    python -m training.evaluate models/vpr_mobilenetv2_gem_256.onnx \\
        gardenspoint=../shared/data/gardenspoint/day_left,../shared/data/gardenspoint/day_right,2 \\
        stromovka=../shared/data/stromovka/autumn,../shared/data/stromovka/winter,1

Each set is NAME=MAP_FOLDER,QUERY_FOLDER,TOLERANCE: image i of one pass was taken where image i of the other was, and an
answer within TOLERANCE images is right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vpr_ros.config import EngineConfig
from vpr_ros.engines import describe_image, open_engine
from vpr_ros.errors import SourceError, VprError
from vpr_ros.index import FaissIndex
from vpr_ros.model import PlaceModel
from vpr_ros.sources import FolderSource
from vpr_ros.types import Descriptor, Image

Describe = Callable[[Image], Descriptor]
RANKS = (1, 5)


@dataclass(frozen=True, slots=True)
class AlignedSet:
    """Two passes along one path; image i <-> image i within `tolerance` images."""

    name: str
    map_folder: Path
    query_folder: Path
    tolerance: int

    @classmethod
    def parse(cls, text: str) -> AlignedSet:
        """From `NAME=MAP,QUERY,TOLERANCE`. Raises SourceError."""
        name, _, rest = text.partition("=")
        parts = rest.rsplit(",", 2)
        if len(parts) != 3 or not parts[2].isdigit():
            raise SourceError(f"{text!r} is not NAME=MAP_FOLDER,QUERY_FOLDER,TOLERANCE")
        return cls(name, Path(parts[0]), Path(parts[1]), int(parts[2]))


def thumbnail(image: Image) -> Descriptor:
    """(2048,) unit length: a 64 x 32 grey thumbnail, each 8 x 8 patch normalised to zero mean and unit deviation (SeqSLAM)."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 32), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    patches = small.reshape(4, 8, 8, 8).transpose(0, 2, 1, 3).reshape(32, 64)
    patches = (patches - patches.mean(1, keepdims=True)) / (patches.std(1, keepdims=True) + 1e-6)
    flat = patches.ravel()
    return (flat / np.linalg.norm(flat)).astype(np.float32)


def recall(found: NDArray[np.int64], tolerance: int) -> dict[int, float]:
    """Share of queries with a right answer among the first k, by k. `found` (Q, K): indices of the map, best first."""
    right = np.abs(found - np.arange(len(found))[:, None]) <= tolerance
    return {k: float(right[:, :k].any(axis=1).mean()) for k in RANKS}


def evaluate(describe: Describe, aligned: AlignedSet, label: str) -> dict[int, float]:
    """Recall@1 and @5. Raises SourceError for a missing or unreadable folder."""
    described = {}
    for folder in (aligned.map_folder, aligned.query_folder):
        source = FolderSource(folder)
        frames = tqdm(source, total=len(source), desc=f"{label} {folder.name}", unit="image", leave=False)
        described[folder] = np.stack([describe(frame.image) for frame in frames])
        if source.skipped:
            raise SourceError(f"{folder} holds {source.skipped} unreadable images: the two passes no longer correspond")
    database, queries = described[aligned.map_folder], described[aligned.query_folder]
    index = FaissIndex(database.shape[1])
    index.add(database)
    found = [[c.keyframe_id for c in index.search(q, max(RANKS), stop=len(index))] for q in queries]
    return recall(np.array(found), aligned.tolerance)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file made by training.export")
    parser.add_argument("sets", nargs="+", metavar="NAME=MAP,QUERY,TOLERANCE")
    options = parser.parse_args(arguments)
    try:
        engine = open_engine(PlaceModel.open(options.model), EngineConfig())
        methods: dict[str, Describe] = {
            "patch-normalised thumbnail 64x32": thumbnail,
            f"{engine.model.name} ({engine.model.id[:12]})": lambda image: describe_image(engine, image),
        }
        for aligned in map(AlignedSet.parse, options.sets):
            print(
                f"\n{aligned.name}: map {aligned.map_folder}, queries {aligned.query_folder}, +-{aligned.tolerance} images"
            )
            for label, describe in methods.items():
                shares = evaluate(describe, aligned, label)
                print(f"  {label:<45}" + "".join(f"  recall@{k} {share:.3f}" for k, share in shares.items()))
    except VprError as error:
        raise SystemExit(f"evaluate: {error}") from error


if __name__ == "__main__":
    main()
