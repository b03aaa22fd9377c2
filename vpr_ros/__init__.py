"""Loop closure by visual place recognition.

The public Python interface: five names, each loaded when it is first used, so that `import vpr_ros` itself costs nothing.
What is stable is stated in docs/python_api.md.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpr_ros.config import Config
    from vpr_ros.engines.open import open_engine
    from vpr_ros.model import PlaceModel
    from vpr_ros.recognition.loop_detector import LoopDetector
    from vpr_ros.sources import open_source

    __version__: str

# ONNX Runtime's wheels report to their maker, and read this once, when they are imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Config", "LoopDetector", "PlaceModel", "__version__", "open_engine", "open_source"]

_HOMES = {
    "Config": "vpr_ros.config",
    "LoopDetector": "vpr_ros.recognition.loop_detector",
    "PlaceModel": "vpr_ros.model",
    "open_engine": "vpr_ros.engines.open",
    "open_source": "vpr_ros.sources",
}


def _version() -> str:
    """Of the installed package; of package.xml in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vpr_ros")
    except PackageNotFoundError:
        from pathlib import Path
        from xml.etree import ElementTree

        return ElementTree.parse(Path(__file__).parents[1] / "package.xml").findtext("version") or ""


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value = _version()
        elif name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
