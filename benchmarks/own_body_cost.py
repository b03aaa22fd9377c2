"""What it costs a frame to tell the robot's own body from the place, as ratios to extracting and verifying one candidate without it.

    python benchmarks/own_body_cost.py [--frames 40] [--size 640x480]

Verification with and without, and each new step alone, take turns on each frame, so all meet the same machine; medians of CPU time on one thread.
Stretching is paid by each verified frame and each keyframe, the test of still matches by each candidate, learning by each
keyframe and its mask by the next verified frame. Pictures are of the rendered world.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # demo_world is no installed package
from demo_world import DemoWorld, loop_trajectory
from vpr_ros.config import VerificationConfig
from vpr_ros.recognition.grey import stretched
from vpr_ros.recognition.static_region import MIN_VIEWS, StaticRegion
from vpr_ros.recognition.verification import GeometricVerifier


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT of the pictures (default %(default)s)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, options.size.split("x"))
    route = loop_trajectory(laps=1)
    chosen = np.linspace(0, len(route) - 1, options.frames + MIN_VIEWS).astype(int)
    with DemoWorld(3) as world:
        images = [cv2.resize(world.render(route[i][1]).image, (width, height)) for i in tqdm(chosen, disable=None)]

    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(label: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[label].append(time.process_time() - start)
        return result

    without, with_test = (GeometricVerifier(VerificationConfig(min_motion_px=least)) for least in (0.0, 2.0))
    region = StaticRegion()
    for image in images[:MIN_VIEWS]:
        region.observe(stretched(without.shrink(image)[0]))
    before = without.extract(images[MIN_VIEWS - 1])
    for image in tqdm(images[MIN_VIEWS:], desc="measure", unit="frame", disable=None):
        grey, scale = without.shrink(image)
        dark = (grey / 10).astype(np.uint8)

        now = timed("extract", lambda image=image: without.extract(image))
        timed("extract, with a mask", lambda image=image: with_test.extract(image, region.mask))
        timed("verify one candidate", lambda now=now, before=before: without.verify(now, None, before, None))
        timed(
            "verify one candidate, body told", lambda now=now, before=before: with_test.verify(now, None, before, None)
        )
        timed("  stretch: picture of full contrast", lambda grey=grey: stretched(grey))
        timed("  stretch: dark picture", lambda dark=dark: stretched(dark))
        timed("per keyframe: thumbnail", lambda grey=grey, scale=scale: without.encode(grey, scale))
        timed("per keyframe: learn", lambda grey=grey: region.observe(stretched(grey)))
        timed("per keyframe: mask", lambda: region.mask)
        before = now
    unit = np.median(seconds["extract"]) + np.median(seconds["verify one candidate"])
    print(f"{options.size}, {options.frames} frames")
    print(f"{'':<46}{'CPU ms':>10}{'ratio':>8}")
    for label, values in seconds.items():
        print(f"{label:<46}{np.median(values) * 1e3:>10.2f}{np.median(values) / unit:>8.3f}")


if __name__ == "__main__":
    main()
