"""A recipe of seconds and the images it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
from small_worlds import texture

PLACES, SESSIONS = 6, 3


def write_places(root: Path) -> Path:
    """`root`/places: six named places in three sessions, each session a little darker than the last."""
    (root / "places").mkdir()
    for session in range(SESSIONS):
        for place in range(PLACES):
            image = cv2.convertScaleAbs(texture(place, 96, 72), alpha=1 - 0.1 * session)
            cv2.imwrite(str(root / "places" / f"{session:02d}{place:02d}.jpg"), image)
    return root


def content(data: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of a few seconds."""
    places = {
        "reader": {
            "kind": "named_places",
            "path": "places",
            "place": r"\d\d(?P<place>\d\d)",
            "pattern": "*.jpg",
        },
        "labels": {"kind": "same_place"},
    }
    plain: dict[str, Any] = {
        "name": "tiny",
        "data_root": str(data),
        "cache": str(data / "cache"),
        "network": {
            "width": 64,
            "height": 64,
            "dim": 4,
            "backbone": {"name": "resnet18", "weights": "none", "last_block": "layer1"},
        },
        "whitening": {"images": 18},
        "sources": [places],
        "sampling": {"kind": "groups", "groups": 3},
        "optimiser": {"learning_rate": 1e-3, "warmup_steps": 2},
        "loop": {"steps": 6, "checkpoint_every": 2, "workers": 0},
    }
    for key, value in changes.items():
        at = plain
        *parents, last = key.split("__")
        for parent in parents:
            at = at[parent]
        at[last] = value
    return plain
