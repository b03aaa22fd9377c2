"""torchvision, also where its wheel and torch's are of different builds."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from types import ModuleType

import torch

from vpr_ros.errors import ModelError
from vpr_ros.printable import on_one_line


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not load: a wheel for CUDA beside a torch for the CPU.

    PyPI has torchvision for x86-64 only with CUDA, and a torch for the CPU comes from elsewhere, so an equal version of
    both does not make a pair. The import then fails at two operators that torch was never told of. No network here runs
    them, so declaring them is enough. Whoever imports torchvision next (timm, Lightning's torchmetrics, a published
    network) finds it whole; so this comes before their import.

    Raises ModelError, with the fix, where torchvision is missing or does not load for another reason.
    """
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise _no_torchvision(error) from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise _no_torchvision(error) from error
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half of it was imported
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise _no_torchvision(error) from error


def _no_torchvision(error: Exception) -> ModelError:
    reason = on_one_line(error)
    return ModelError(
        f"torchvision cannot be imported beside torch {version('torch')} ({reason}): install both in one command from one "
        "index, pip install --force-reinstall -c constraints.txt torch torchvision"
    )
