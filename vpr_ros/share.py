"""The files that come with vpr_ros: models, configuration."""

from __future__ import annotations

from pathlib import Path


def shared_files(pattern: str) -> list[Path]:
    """Files matching a glob such as `models/*.onnx` in the checkout, or else in the installation's `share/vpr_ros`."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1], *(parent / "share" / "vpr_ros" for parent in here.parents)):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []
