"""File names that say where an image was taken, the convention of gmberton's VPR tools: `@easting@northing@...@note@.jpg`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FIELDS = (
    "easting", "northing", "zone", "letter", "latitude", "longitude", "pano_id", "tile", "heading", "pitch", "roll",
    "height", "timestamp", "note",
)  # fmt: skip
FORM = f"@{'@'.join(FIELDS)}@.jpg"


def write_name(fields: Mapping[str, str]) -> str:
    """A file name; fields that are not given are empty."""
    return f"@{'@'.join(fields.get(field, '') for field in FIELDS)}@.jpg"


def read_name(path: Path) -> dict[str, str]:
    """What a file name says, by field; later fields may be absent."""
    return dict(zip(FIELDS, path.name.split("@")[1:-1], strict=False))
