"""Does the model open, and do the engines and the map fit it?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from vpr_ros.config import Config
from vpr_ros.doctor.finding import Finding, Level, size_text
from vpr_ros.errors import VprError
from vpr_ros.files import expanded
from vpr_ros.machine import Machine, ProcessFailed
from vpr_ros.map.map_file import is_map_name


def check_engines(machine: Machine, folder: str) -> Finding:
    """Are the engine files whole, and for the libraries and the GPU of now?"""
    if not any(expanded(folder).glob("*/*.json")):
        return Finding("engines", Level.OK, "none built yet")
    try:
        facts = machine.ask(engine_facts, folder)
    except ProcessFailed as failure:
        return Finding("engines", Level.WARNING, f"cannot be looked at: {failure}", "vpr engine check")
    if facts["problems"]:
        found = "; ".join(f"{name}: {problem}" for name, problem in facts["problems"].items())
        return Finding("engines", Level.WARNING, found, "vpr engine clean    # the node builds anew what it needs")
    plural = "s fit" if facts["count"] > 1 else " fits"
    return Finding("engines", Level.OK, f"{facts['count']} engine file{plural}")


def engine_facts(folder: str) -> dict[str, Any]:
    """How many engine files there are, and which of them would be built again: file to why."""
    from vpr_ros.engines.cache import EngineCache
    from vpr_ros.engines.misfits import misfits

    found = {path.name: misfit for path, misfit in misfits(EngineCache(folder))}
    return {"count": len(found), "problems": {name: misfit for name, misfit in found.items() if misfit}}


def check_model(machine: Machine, path: str) -> Finding:
    """Does the model open?"""
    try:
        facts = machine.ask(model_facts, path)
    except ProcessFailed as failure:
        fix = machine.fix(failure, machine.pip_install("onnxruntime", "numpy", options="--force-reinstall"))
        return Finding("model", Level.ERROR, f"cannot be opened: {failure}", fix)
    if "model_error" in facts:
        fix = "make setup"
        if path:
            fix = f"ls -l {shlex.quote(path)}    # or without model.path: the model that ships with vpr_ros"
        return Finding("model", Level.ERROR, facts["model_error"], fix)
    said = f"{facts['name']} ({facts['id'][:12]}), {facts['size']} -> {facts['dim']}, {size_text(facts['bytes'])}"
    return Finding("model", Level.OK, f"{said}, {facts['path']}")


def check_map(machine: Machine, model: str, folder: Path, name: str, config: Config) -> Finding:
    """Does the map load, was it made with this model, and can it match? One that is not there is made where the node records."""
    if not is_map_name(name):
        found = f"{name!r} is no map name: one word, a file in {folder}"
        return Finding("map", Level.ERROR, found, f"ls {shlex.quote(str(folder))}")
    path = folder / f"{name.removesuffix('.vprmap')}.vprmap"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.vprmap"))) or "none"
        found = f"there is no map {path} yet; maps there: {known}"
        if config.map.mode == "mapping":
            return Finding("map", Level.OK, f"{found}; the node makes it (map.mode: mapping)")
        fix = f"ros2 launch vpr_ros vpr.launch.py map:={shlex.quote(name)}    # records it; or --map, one of those"
        return Finding("map", Level.ERROR, found, fix)
    try:
        facts = machine.ask(model_facts, model, str(path))
    except ProcessFailed as failure:
        return Finding("map", Level.ERROR, f"{path} cannot be loaded: {failure}", machine.fix(failure, f"ls -l {path}"))
    if "model_error" in facts:
        fix = "vpr doctor    # after that is mended"
        return Finding("map", Level.SKIPPED, "not loaded: the model does not open", fix)
    if "map_error" in facts:
        fix = "vpr doctor --model MODEL.onnx --map " + shlex.quote(name)
        if "another model" not in facts["map_error"]:
            whole = path.with_name(f"{path.stem}-repaired.vprmap")
            fix = f"vpr map check {shlex.quote(str(path))} --repair {shlex.quote(str(whole))}"
        return Finding("map", Level.ERROR, facts["map_error"], fix)
    said = f"{name}: {facts['keyframes']} keyframes, {size_text(path.stat().st_size)}, made with this model"
    if config.verification.enabled and facts["map_faults"]:
        found, fix = (
            "; ".join([said, *facts["map_faults"]]),
            f"mv {shlex.quote(str(path))} /tmp/    # and record it again",
        )
        return Finding("map", Level.WARNING, found, fix)
    if facts["without_intrinsics"]:
        said += f", {facts['without_intrinsics']} of them without intrinsics: closures with these have no relative pose"
    return Finding("map", Level.OK, said)


def model_facts(path: str, place_map: str = "") -> dict[str, Any]:
    """Opens a model ("": the shipped one), or with `place_map` a map that was made with it.

    `model_error` or `map_error` says why that failed, `map_faults` what the map cannot do where matches are verified.
    """
    from vpr_ros.model import PlaceModel

    try:
        model = PlaceModel.open(path)
    except VprError as error:
        return {"model_error": str(error)}
    facts = {
        "name": model.name,
        "id": model.id,
        "dim": model.dim,
        "size": f"{model.width}x{model.height}",
        "bytes": len(model.content),
        "path": str(model.path),
    }
    if place_map:
        from vpr_ros.map.place_map import PlaceMap

        try:
            found = PlaceMap.open(Path(place_map), model.id, model.dim, recording=False)
            facts["keyframes"] = len(found)
            facts["map_faults"] = found.faults(is_verified=True)
            facts["without_intrinsics"] = found.without_intrinsics
            found.close()
        except VprError as error:
            facts["map_error"] = str(error)
    return facts
