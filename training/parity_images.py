"""The images that come with vpr_ros to check engines on: streets of rendered worlds that no model is trained on.

python -m training.parity_images models/parity_images
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

WORLDS, APPEARANCES, STEP_M = (300, 301), 4, 30.0
COUNT = 32
WIDTH, HEIGHT = 320, 240


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("out", type=Path, help="the folder to fill")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    out = parser().parse_args(arguments).out

    import cv2
    import numpy as np

    from training.data.readers.rendered import Rendered
    from vpr_ros.images import read_image, resize

    worlds = Rendered(seeds=WORLDS, appearances=APPEARANCES, step_m=STEP_M).read(Path())
    paths = [path for world in worlds for path in world.paths]
    out.mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(paths[k] for k in np.linspace(0, len(paths) - 1, COUNT).round().astype(int)):
        image = cv2.cvtColor(resize(read_image(path), WIDTH, HEIGHT), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / f"{i:02d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"wrote {COUNT} of {len(paths)} images to {out}")


if __name__ == "__main__":
    main()
