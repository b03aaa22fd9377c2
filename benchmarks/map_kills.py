"""kill -9 at random moments while a map is recorded: is every acknowledged keyframe there, and is the file whole?

python benchmarks/map_kills.py                    # 1000 kills, about 20 minutes
python benchmarks/map_kills.py --kills 50 --durability process
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vpr_ros.errors import MapError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail

DIM = 64


def keyframe(session: str, i: int) -> Keyframe:
    rng = np.random.default_rng(i)
    descriptor = rng.standard_normal(DIM).astype(np.float32)
    thumbnail = Thumbnail(rng.bytes(int(rng.integers(500, 12000))), 0.5)
    return Keyframe(KeyframeRef("robot", session, i, 10**9 * i), descriptor / np.linalg.norm(descriptor), thumbnail)


def record(path: Path, session: str, durability: str) -> None:
    """In a process of its own, without end: acknowledges each keyframe by a line with its id once it is durable."""
    place_map = PlaceMap.open(path, "model", DIM, durability=durability)
    place_map.on_durable = lambda keyframe: print(keyframe.ref.id, flush=True)
    print("open", flush=True)
    previous = None
    while True:
        added = keyframe(session, place_map.next_id("robot"))
        place_map.add(added)
        if previous is not None and added.ref.id % 3 == 0:
            place_map.link(previous, added.ref)
        previous = added.ref


def kill_once(path: Path, session: str, durability: str, rng: random.Random) -> tuple[set[int], bool]:
    """Which ids were acknowledged, and whether the map could be opened."""
    command = [sys.executable, __file__, "--record", str(path), "--session", session, "--durability", durability]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    is_open = process.stdout.readline() == "open\n"
    time.sleep(rng.uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    lines = rest.split("\n")[:-1]  # what was cut while it was written is no acknowledgement
    return {int(line) for line in lines}, is_open


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--session", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record(options.record, options.session, options.durability)
        return
    rng = random.Random(options.seed)
    lost = unreadable = acknowledged = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "town.vprmap"
        for kill in tqdm(range(options.kills), disable=None):
            if kill % 50 == 0:  # a map that never grows old would be recovered from few states
                path.unlink(missing_ok=True)
            known, is_open = kill_once(path, f"drive {kill}", options.durability, rng)
            acknowledged += len(known)
            unreadable += not is_open
            try:
                place_map = PlaceMap.open(path, "model", DIM, recording=False)
                found = {ref.id for ref in place_map.names if ref.session == f"drive {kill}"}
                lost += len(known - found)
                for ref in rng.sample(place_map.names, min(20, len(place_map))):
                    wrong += place_map[ref].thumbnail != keyframe(ref.session, ref.id).thumbnail
                place_map.close()
            except MapError as error:
                unreadable += 1
                print(error)
    print(f"{options.kills} kills, {acknowledged} keyframes acknowledged; lost: {lost}, files unreadable: {unreadable}, "
          f"keyframes changed: {wrong}")  # fmt: skip
    sys.exit(bool(lost or unreadable or wrong))


if __name__ == "__main__":
    main()
