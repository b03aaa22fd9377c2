"""Every name that the package takes from TensorRT against those of the real bindings."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from fake_tensorrt import NAMES, Gpu, is_for_rtx, tensorrt
from small_plans import OLD, TYPED, VERSIONS

from vpr_ros.engines import tensorrt as package

CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "image": "ITensor",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "severity": "ILogger.Severity",
    "flag": "NetworkDefinitionCreationFlag",
    "runtime_config": "IRuntimeConfig",
    "kernels": "IRuntimeCache",
    "compute": "ComputeCapability",
    "compiled": "DynamicShapesKernelSpecializationStrategy",
}
"""What the module calls objects of TensorRT, where it calls anything else so it is in NOT_TENSORRT."""
NOT_TENSORRT = {"image.host", "image.device", "error.node_operator"}
ONLY_TYPED = {"STRONGLY_TYPED", "IProgressMonitor", "progress_monitor", "node_operator", "node_name"}
ONLY_OLD = {"EXPLICIT_BATCH", "FP16", "INT8"}


ONLY_RTX = ("capabilities.py", "rtx.py")
FILES = sorted(Path(package.__file__ or "").parent.glob("*.py"))
OWNERS = {"self._trt": "trt", "self._engine": "engine", "run.context": "context", "self._kernels": "kernels"}
"""Attributes -> the variables that they are."""


def used_names(path: Path) -> set[tuple[str, str, int]]:
    """(class, member, positional arguments or -1 where it is not called) of what a file takes from TensorRT."""
    tree = ast.parse(path.read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        for attribute, variable in OWNERS.items():
            owner = owner.replace(attribute, variable)
        count = len(calls[id(node)].args) if id(node) in calls else -1
        assert id(node) not in calls or not calls[id(node)].keywords or owner not in CLASS_OF
        if owner.startswith("trt.") and not owner.startswith("trt.__version__"):
            used.add((owner.removeprefix("trt."), node.attr, count - (node.attr == "__init__")))  # without self
        elif owner == "trt" and node.attr != "__version__":
            used.add((node.attr, "__init__", count))
        elif owner in CLASS_OF and f"{owner}.{node.attr}" not in NOT_TENSORRT:
            used.add((CLASS_OF[owner], node.attr, count))
    return used


def test_every_file_that_should_use_the_library_is_read() -> None:
    """And what the walk finds is what there was when it was one file."""
    users = {path.name for path in FILES if used_names(path)}
    assert users == {*ONLY_RTX, "backend.py", "builder.py", "execution.py", "library.py", "phases.py"}
    used = set().union(*(used_names(path) for path in FILES if path.name not in ONLY_RTX))
    assert len({name for name, _, _ in used}) > 12
    assert len({name for name, _, _ in set().union(*(used_names(path) for path in FILES if path.name in ONLY_RTX))}) > 5


@pytest.mark.parametrize("version", NAMES)
def test_every_name_exists_in_the_bindings(version: str) -> None:
    """TensorRT for RTX runs the same code, and some of its own."""
    files = [path for path in FILES if is_for_rtx(version) or path.name not in ONLY_RTX]
    used = set().union(*(used_names(path) for path in files))
    for name, member, count in sorted(used):
        if {name, member} & (ONLY_TYPED if version == OLD else set()):
            continue
        if member in ONLY_OLD and version != OLD:
            continue
        assert name in NAMES[version], f"TensorRT {version} has no {name}"
        members = NAMES[version][name]
        if member == "__init__" and (count == -1 or not members.get("__init__")):
            continue  # named, or an enumeration; or made by another object
        if f"{name}.{member}" in NAMES[version]:
            continue
        assert member in members, f"{name} of TensorRT {version} has no {member}"
        if count >= 0:
            overloads = members[member]
            assert overloads is not None, f"{name}.{member} is no method in TensorRT {version}"
            assert any(count <= len(arguments) for arguments in overloads), f"{name}.{member} takes {overloads}"


def test_what_only_one_side_has_is_listed_rightly() -> None:
    for name in ONLY_TYPED:
        assert name not in str(NAMES[OLD])
        assert all(name in str(NAMES[version]) for version in TYPED)
    assert all(name in NAMES[OLD]["BuilderFlag"] for name in ("FP16", "INT8"))
    assert "FP16" not in NAMES[VERSIONS[-1]]["BuilderFlag"]
    assert "EXPLICIT_BATCH" not in NAMES[VERSIONS[-1]]["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize("version", NAMES)
def test_the_imitation_has_the_signatures_of_the_bindings(version: str, gpu: Gpu) -> None:
    module = tensorrt(version, gpu)
    compared = 0
    for name, item in vars(module).items():
        if not isinstance(item, type):
            continue
        for member, value in vars(item).items():
            if not inspect.isfunction(value) or not NAMES[version][name].get(member):
                continue
            arguments = list(inspect.signature(value).parameters)[1:]
            overloads = NAMES[version][name][member]
            assert any(arguments == overload[: len(arguments)] for overload in overloads), f"{name}.{member}"
            compared += 1
    assert compared > 25
