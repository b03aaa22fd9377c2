"""`vpr engine`: build, list, check and clean engines."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.config import BACKENDS, PRECISIONS, Config
from vpr_ros.engines.cache import EngineCache, Entry
from vpr_ros.engines.facts import Facts
from vpr_ros.errors import EngineError
from vpr_ros.printable import printable

EXAMPLES = """\
examples:
  vpr engine build                                        # what backend auto would choose, measured
  vpr engine build --backend tensorrt --precision fp16 --images my_bag/
  vpr engine build --backend openvino --precision int8 --images my_bag/ --places /data/kitti --sequence 00
  vpr engine build --backend tensorrt_rtx --capabilities sm86,sm89 --precision fp16 --inspect    # needs no GPU
  vpr engine list
  vpr engine check
  vpr engine clean --all
"""


def add(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Engines are models compiled for this machine. The node builds what it needs by itself; this does it "
        "beforehand, and shows how fast and how faithful an engine is."
    )
    command.epilog = EXAMPLES
    actions = command.add_subparsers(required=True, metavar="action")
    for name, run, text in (
        ("build", _build, "build an engine, compare it with the reference and keep it"),
        ("list", _list, "the engines that were built"),
        ("check", _check, "are they whole, and for what is installed now?"),
        ("clean", _clean, "delete engines that no longer fit; --all: all of them"),
    ):
        action = actions.add_parser(name, allow_abbrev=False, help=text, description=text)
        action.set_defaults(run=run)
        add_config(action)
        if name == "build":
            action.add_argument("--backend", choices=("auto", *BACKENDS), help="default: engine.backend")
            action.add_argument("--precision", choices=PRECISIONS, help="default: engine.precision")
            action.add_argument("--batch", type=int, help="default: engine.batch")
            action.add_argument("--places", type=Path, help="recording with poses: recall@1 must not fall on it")
            action.add_argument("--sequence", help="KITTI: which sequence of --places")
            action.add_argument(
                "--capabilities", help="GPUs that tensorrt_rtx plans for (default: engine.capabilities)"
            )
            action.add_argument("--inspect", action="store_true", help="show the layers that TensorRT makes")
            action.add_argument("--rebuild", action="store_true", help="even if there is one")
            action.add_argument("--images", help="folder, bag or video of your camera (default: engine.images)")
        if name == "clean":
            action.add_argument("--all", action="store_true", help="also engines that fit")


def _config(options: argparse.Namespace) -> Config:
    names = ("backend", "precision", "batch", "images", "capabilities")
    named = {f"engine.{name}": getattr(options, name, None) for name in names}
    return config_of(options).with_values({name: value for name, value in named.items() if value is not None})


def _build(options: argparse.Namespace) -> int:
    from vpr_ros.cli.engine_build import build  # with every library that runs engines: listing them needs none

    return build(_config(options), options)


def _list(options: argparse.Namespace) -> int:
    cache = EngineCache(_config(options).engine.cache)
    found = list(cache.entries())
    for path, entry in found:
        print(printable(entry if isinstance(entry, str) else f"{path.stem}  {_describe(entry)}"))
    print(printable(f"{len(found)} engines in {cache.folder}"))
    return 0


def _describe(entry: Entry) -> str:
    key = entry.key
    what = f"{key.model} {key.shape[1]}x{key.shape[0]}, {', '.join(key.identity.values())}"
    if not entry.facts:
        return f"{what}: {entry.bytes / 1e6:.1f} MB, built ahead, not compared yet"
    try:
        facts = Facts.of(entry)
    except EngineError as error:
        return f"{what}: {error}"
    size = f"{entry.bytes / 1e6:.1f} MB" if facts.holds(facts.parity.bar) else "refused"
    return f"{what}: {size}; {facts}"


def _check(options: argparse.Namespace) -> int:
    from vpr_ros.engines.misfits import misfits  # asks the libraries

    bad = 0
    for path, misfit in misfits(EngineCache(_config(options).engine.cache)):
        bad += bool(misfit)
        print(printable(f"{path.stem}: {misfit or 'fits'}"))
    print(f"{bad} would be built again when they are needed" if bad else "all fit")
    return 1 if bad else 0


def _clean(options: argparse.Namespace) -> int:
    from vpr_ros.engines.misfits import misfits

    config = _config(options)
    cache, count = EngineCache(config.engine.cache), 0
    for path, misfit in list(misfits(cache)):
        if misfit or options.all:
            cache.remove(path)
            print(printable(f"removed {path.stem}{f': {misfit}' if misfit else ''}"))
            count += 1
    print(f"{count} engines removed")
    return 0
