from __future__ import annotations

from pathlib import Path

import numpy as np
from fake_machine import assert_bad, module, put

from vpr_ros.config import Config
from vpr_ros.doctor import Finding, Level
from vpr_ros.doctor.model_files import check_engines, check_map, check_model
from vpr_ros.engines.backends import backends
from vpr_ros.engines.cache import EngineCache, Key
from vpr_ros.machine import Machine
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail


def test_engine_files(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    identity = backends(cache)["onnxruntime"].identity()
    assert check_engines(machine, str(cache.folder)) == Finding("engines", Level.OK, "none built yet")
    fits = Key.of(grid_model, "onnxruntime", identity, "fp32", 1)
    cache.keep(fits, b"engine", {})
    assert check_engines(machine, str(cache.folder)) == Finding("engines", Level.OK, "1 engine file fits")
    of_old = Key.of(grid_model, "onnxruntime", {name: "old" for name in identity}, "fp32", 1)
    cache.keep(of_old, b"engine", {})
    finding = check_engines(machine, str(cache.folder))
    assert_bad(finding, Level.WARNING, f"{of_old.file.name}.json: it was built for old", "vpr engine clean")
    assert finding.found.count(".json: ") == 1
    damaged = cache.folder / f"{fits.file}.bin"
    damaged.write_bytes(b"engin")
    assert "damaged" in check_engines(machine, str(cache.folder)).found
    module(machine, "onnxruntime", "import os; os.abort()")
    assert_bad(check_engines(machine, str(cache.folder)), Level.WARNING, "SIGABRT", "vpr engine check")


def test_model(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    finding = check_model(machine, str(grid_model.path))
    assert finding.level is Level.OK
    assert finding.found.startswith(f"grid ({grid_model.id[:12]}), 64x48 -> 144, ")
    missing = check_model(machine, "/nowhere/my model.onnx")
    assert_bad(missing, Level.ERROR, "cannot read model /nowhere", "ls -l '/nowhere/my model.onnx'")
    put(machine, "text.onnx", "version https://git-lfs.github.com/spec/v1")
    assert_bad(check_model(machine, str(tmp_path / "text.onnx")), Level.ERROR, "corrupt or no ONNX model", "ls -l")
    module(machine, "onnxruntime", "import os; os.abort()")
    assert_bad(check_model(machine, str(grid_model.path)), Level.ERROR, "SIGABRT", "pip install")


def test_map(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    descriptor = np.full(grid_model.dim, grid_model.dim**-0.5, np.float32)
    place_map, blind = PlaceMap(grid_model.dim), PlaceMap(grid_model.dim)
    place_map.add(Keyframe(KeyframeRef("", "s", 0, 1), descriptor, thumbnail=Thumbnail(b"jpeg", 1.0)))
    place_map.save(tmp_path / "lab.vprmap", grid_model.id)
    blind.add(Keyframe(KeyframeRef("", "s", 0, 1), descriptor))
    blind.save(tmp_path / "blind.vprmap", grid_model.id)
    place_map.save(tmp_path / "foreign.vprmap", "0" * 64)
    put(machine, "torn.vprmap", "PK")

    def check(name: str, model: str = str(grid_model.path), **changes: object) -> Finding:
        values = {parameter.replace("__", "."): value for parameter, value in changes.items()}
        return check_map(machine, model, tmp_path, name, Config.from_flat(values))

    assert check("lab").found.startswith("lab: 1 keyframes, ")
    assert check("lab").level is Level.OK
    assert "1 of them without intrinsics: closures with these have no relative pose" in check("lab").found
    assert_bad(check("blind"), Level.WARNING, "can never match", f"mv {tmp_path}/blind.vprmap")
    assert check("blind", verification__enabled=False).level is Level.OK
    assert_bad(check("foreign"), Level.ERROR, "made with another model", "vpr doctor --model MODEL.onnx --map foreign")
    mended = f"vpr map check {tmp_path}/torn.vprmap --repair {tmp_path}/torn-repaired.vprmap"
    assert_bad(check("torn"), Level.ERROR, "is corrupt", mended)
    there = "maps there: blind, foreign, lab, torn"
    assert_bad(check("lobby", map__mode="localization"), Level.ERROR, there, "map:=lobby")
    assert check("lobby").level is Level.OK  # a node that maps will make it; the list is for who mistyped a name
    assert there in check("lobby").found
    assert_bad(check("../lab"), Level.ERROR, "no map name", f"ls {tmp_path}")
    assert_bad(check("lab", "/nowhere.onnx"), Level.SKIPPED, "the model does not open", "vpr doctor")
