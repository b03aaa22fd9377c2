"""A day's drive at full speed: memory, latency and the size of the file, while the map stays within its budget.

    python benchmarks/map_soak.py                           # 172,800 keyframes: 24 hours at 2 a second; budget 20,000
    python benchmarks/map_soak.py --keyframes 20000 --budget 5000

Tours through the same streets, each seen a little differently, with a new street now and then (`index_world`). The map is a file that waits for
the disk (map.durability: power); pruning runs beside the drive as in the node. Pictures and verification are left out: descriptors alone.
One row for each tenth of the drive.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from index_world import STREET, IndexWorld
from tqdm import tqdm

from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.memory import return_large_blocks
from vpr_ros.recognition.loop_detector import LoopDetector
from vpr_ros.ros.pruning import Pruning
from vpr_ros.types import Descriptor, Frame, PlaceMatch

DIM = 512
TOUR = 30
"""Streets that are driven again and again."""
NEW = 0.05
"""Share of the streets that are new ones."""


def drive(count: int) -> Iterator[tuple[Descriptor, int]]:
    """Descriptors, and the street that each is in."""
    world, rng, made, new = IndexWorld(DIM), np.random.default_rng(0), 0, TOUR
    while made < count:
        is_new = rng.random() < NEW
        street = new if is_new else (made // STREET) % TOUR
        new += is_new
        for descriptor in world.visit(street, int(rng.integers(1, 2**31))):
            yield descriptor, street
        made += STREET


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--keyframes", type=int, default=172_800, help="default %(default)s")
    parser.add_argument("--budget", type=int, default=20_000, help="map.max_keyframes (default %(default)s)")
    options = parser.parse_args()
    return_large_blocks()  # as the node does
    config = Config().with_values(
        {"map.max_keyframes": options.budget, "match.min_similarity": 0.6, "verification.enabled": False}
    )
    engine = cast(Engine, SimpleNamespace(model=SimpleNamespace(dim=DIM, id="soak")))
    image = np.zeros((8, 8, 3), np.uint8)
    lock, said = threading.Lock(), []
    print("frames | keyframes | streets | RSS (MB) | files (MB) | median (ms) | p99 | max | matches | right street")
    with tempfile.TemporaryDirectory() as folder, PlaceMap.open(Path(folder, "day.vprmap"), "soak", DIM) as place_map:
        detector = LoopDetector(config, engine, place_map, session="day")
        pruning = Pruning(lock, said.append, said.append)
        seconds: list[float] = []
        streets: dict[int, int] = {}
        right = accepted = 0
        for i, (descriptor, street) in enumerate(tqdm(drive(options.keyframes), total=options.keyframes, disable=None)):
            if i == options.keyframes:
                break
            start = time.perf_counter()
            with lock:
                (answer,) = detector.answer([Frame(i * 5 * 10**8, image)], [(descriptor, None)])
                pruning.start_if_due(detector)
            seconds.append(time.perf_counter() - start)
            assert isinstance(answer, PlaceMatch)
            if answer.keyframe_id is not None:
                streets[answer.keyframe_id] = street
            if answer.accepted and answer.match is not None:
                accepted += 1
                right += streets[answer.match.id] == street
            if (i + 1) % max(1, options.keyframes // 10) == 0:
                size_mb = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
                median, high = np.percentile(seconds, [50, 99]) * 1e3
                known = len({streets[ref.id] for ref in detector.map.names})
                row = (
                    i + 1,
                    len(place_map),
                    known,
                    resident_mb(),
                    size_mb,
                    median,
                    high,
                    max(seconds) * 1e3,
                    accepted,
                    right,
                )
                print(
                    "{:,} | {:,} | {} | {:.0f} | {:.0f} | {:.2f} | {:.2f} | {:.0f} | {:,} | {:,}".format(*row),
                    flush=True,
                )
                seconds, accepted, right = [], 0, 0
        pruning.close()
        streets_driven = len(set(streets.values()))
    print(f"{streets_driven} streets were driven; pruned {sum('pruned' in text for text in said)} times")


if __name__ == "__main__":
    main()
