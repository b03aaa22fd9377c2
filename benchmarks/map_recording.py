"""What it costs to record a keyframe: what a frame waits for, and how long until the keyframe is durable.

    python benchmarks/map_recording.py --keyframes 500

The peer is a plain file to which the same bytes are appended, with fsync and without. One run, in turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail

DIM, JPEG_BYTES = 512, 12000


def keyframes(count: int) -> list[Keyframe]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        descriptor = rng.standard_normal(DIM).astype(np.float32)
        thumbnail = Thumbnail(rng.bytes(JPEG_BYTES), 0.5)
        made.append(Keyframe(KeyframeRef("", "s", i), descriptor / np.linalg.norm(descriptor), thumbnail))
    return made


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--keyframes", type=int, default=300)
    parser.add_argument(
        "--folder", type=Path, help="on the disk that the robot records to (default: the temporary folder)"
    )
    options = parser.parse_args()
    waits: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        maps = {
            "in memory": PlaceMap(DIM),
            "process": PlaceMap.open(Path(folder) / "process.vprmap", "m", DIM, durability="process"),
            "power": PlaceMap.open(Path(folder) / "power.vprmap", "m", DIM, durability="power"),
        }
        plain = os.open(Path(folder) / "plain", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for keyframe in keyframes(options.keyframes):
            content = keyframe.descriptor.tobytes() + (keyframe.thumbnail.jpeg if keyframe.thumbnail else b"")
            for name, place_map in maps.items():
                added = timed(lambda place_map=place_map, keyframe=keyframe: place_map.add(keyframe))
                waits.setdefault(f"map, {name}: add (the frame waits)", []).append(added)
                durable = added + timed(place_map.flush)
                waits.setdefault(f"map, {name}: durable", []).append(durable)
            waits.setdefault("plain file: write", []).append(timed(lambda content=content: os.write(plain, content)))
            waits.setdefault("plain file: fsync after it", []).append(timed(lambda: os.fsync(plain)))
        for place_map in maps.values():
            place_map.close()
        os.close(plain)
    print(f"{options.keyframes} keyframes of {DIM} numbers and {JPEG_BYTES} bytes; ms")
    for name, values in waits.items():
        print(f"{name:42} median {np.median(values):7.2f}   p95 {np.percentile(values, 95):7.2f}")


if __name__ == "__main__":
    main()
