"""Some images of a recording, evenly spread over it: to calibrate and check engines on a user's own camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from vpr_ros.config import EngineConfig
from vpr_ros.errors import SourceError
from vpr_ros.files import expanded
from vpr_ros.sources import open_source
from vpr_ros.types import Image


def images_of(config: EngineConfig) -> Callable[[], list[Image]] | None:
    """What `open_engine` wants to know of `engine.images`."""
    return partial(sample_images, config.images) if config.images else None


def sample_images(path: str | Path, count: int = 64) -> list[Image]:
    """At most `count` images of a folder, video or bag. Raises SourceError for one that has none."""
    source = open_source(expanded(path))
    total = len(source)
    wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int)) if total else None
    images = []
    for i, frame in enumerate(source):
        if wanted is None or i in wanted:
            images.append(frame.image)
        if len(images) == count:
            break
    if not images:
        raise SourceError(f"{path} holds no images to check engines with")
    return images
