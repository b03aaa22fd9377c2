"""`vpr map`: look at map files, mend, merge and prune them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from vpr_ros.cli.config import add_config, config_of
from vpr_ros.config import Config
from vpr_ros.doctor.finding import size_text
from vpr_ros.errors import MapError
from vpr_ros.evaluation.map_export import FORMATS, export_map
from vpr_ros.evaluation.map_page import write_map_page
from vpr_ros.files import check_writable
from vpr_ros.map.place_map import PlaceMap, facts_of
from vpr_ros.map.salvage import Examination, examine, repair
from vpr_ros.printable import printable, utc

T = TypeVar("T")
EXAMPLES = """\
examples:
  vpr map info lab.vprmap
  vpr map check lab.vprmap
  vpr map check lab.vprmap --repair mended.vprmap
  vpr map merge fleet.vprmap anna.vprmap bert.vprmap
  vpr map rename lab.vprmap 20260501T081500.000000 monday
  vpr map remove lab.vprmap monday
  vpr map prune lab.vprmap --keyframes 20000
  vpr map export lab.vprmap lab/ --formats tum,pairs
  vpr map view lab.vprmap --out lab.html
  vpr map reembed lab.vprmap lab2.vprmap --model better.onnx --from lab_bag/
"""


def add(command: argparse.ArgumentParser) -> None:
    command.description = "Look at map files (docs/place_map.md), mend, merge and prune them."
    command.epilog = EXAMPLES
    actions = command.add_subparsers(required=True, metavar="action")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        description = text[0].upper() + text[1:] + "."
        added = actions.add_parser(name, help=text, description=description, allow_abbrev=False)
        added.set_defaults(run=globals()[f"_{name}"])
        return added

    info = action("info", "what a map holds: sessions, cameras, model")
    check = action("check", "read all of a map and compare it with its checksums; exit status 1 if anything is lost")
    merge = action("merge", "add what other maps hold to a map, which is made if there is none")
    rename = action("rename", "give a session another name")
    remove = action("remove", "forget a session")
    prune = action("prune", "remove the keyframes that add least; never the last one of a place")
    export = action("export", "write a map as files that other tools read: g2o, TUM trajectories, pairs of images, npz")
    view = action("view", "write a page with the paths, pictures and connections of a map")
    reembed = action("reembed", "describe a map's keyframes anew with another model, into another file")
    for each in (info, check, rename, remove, prune, export, view, reembed):
        each.add_argument("map", type=Path, metavar="MAP", help="a .vprmap file")
    check.add_argument("--repair", type=Path, metavar="NEW", help="write what is whole to another file")
    merge.add_argument("map", type=Path, metavar="INTO", help="the map that grows")
    merge.add_argument("others", type=Path, nargs="+", metavar="MAP", help="maps that stay as they are")
    for each in (rename, remove):
        each.add_argument("session", help="its name, as `vpr map info` prints it")
        each.add_argument("--robot", default="", help="whose session it is (node.robot)")
    rename.add_argument("name", help="the new name")
    rename.add_argument("--new-robot", help="another robot, too")
    prune.add_argument("--keyframes", type=int, required=True, metavar="N", help="how many may stay")
    export.add_argument("folder", type=Path, help="where the files go; made if there is none")
    export.add_argument(
        "--formats", default=",".join(FORMATS), help="some of %(default)s, with commas; pairs come with the pictures"
    )
    view.add_argument("--out", type=Path, metavar="PAGE", help="default: the map's name with .html, in this folder")
    reembed.add_argument("new", type=Path, metavar="NEW", help="the file to write")
    reembed.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="SOURCE",
        help="the recording that the map was made from (as for vpr replay): better than the small grey pictures in the map",
    )
    reembed.add_argument("--sequence", help="KITTI: which sequence")
    reembed.add_argument("--image-topic", help="bag: which images (default: the only image topic)")
    add_config(reembed)
    prune.add_argument("--dry-run", action="store_true", help="only count")


def _open(path: Path, recording: bool = True) -> PlaceMap:
    """Of whatever model it was made with."""
    facts = facts_of(path)
    return PlaceMap.open(path, facts.model_id, facts.dim, recording=recording)


def _bar(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    bar: Iterable[T] = tqdm(items, total=total, desc=what, disable=None)
    return bar


def _info(options: argparse.Namespace) -> int:
    with _open(options.map, recording=False) as place_map:
        _print_info(options.map, place_map)
    return 0


def _print_info(path: Path, place_map: PlaceMap) -> None:
    size = size_text(path.stat().st_size)
    print(
        f"{len(place_map)} keyframes in {len(place_map.sessions)} sessions, {len(place_map.links)} loop closures, {size}"
    )
    print(f"model {place_map.model_id}, {place_map.dim} numbers in a descriptor")
    for robot, session in place_map.sessions:
        own, posed = place_map.names_of(robot, session), len(place_map.odometry_of(robot, session))
        cameras = ", ".join(sorted({ref.camera_name or ref.frame_id or "camera" for ref in own}))
        of_robot = f" of {robot}" if robot else ""
        span = f", {utc(own[0].stamp_ns)} to {utc(own[-1].stamp_ns)}" if own else ""
        print(printable(f"session {session!r}{of_robot}: {len(own)} keyframes of {cameras or 'no camera'}, "
                        f"{posed} with odometry{span}"))  # fmt: skip


def _check(options: argparse.Namespace) -> int:
    progress = partial(_bar, what="check")
    found = repair(options.map, options.repair, progress) if options.repair else examine(options.map, progress)
    for sentence, times in found.faults.items():
        print(f"{sentence}" + (f" ({times} times)" if times > 1 else ""))
    print(_counts(found) + (f" in {options.repair}" if options.repair else ""))
    if found.faults and not options.repair:
        print(f"save what is whole: vpr map check {options.map} --repair NEW")
    return 1 if found.faults else 0


def _counts(found: Examination) -> str:
    whole = "whole" if not found.faults else "still whole"
    return (
        f"{whole}: {found.whole['keyframe']} keyframes in {found.whole['session']} sessions, {found.whole['thumbnail']} pictures, "
        f"{found.whole['link']} loop closures"
    )


def _merge(options: argparse.Namespace) -> int:
    first = facts_of(options.others[0])
    for path in options.others[1:]:  # before anything is made
        PlaceMap.open(path, first.model_id, first.dim, recording=False).close()
    with PlaceMap.open(options.map, first.model_id, first.dim) as into:
        for path in options.others:
            with PlaceMap.open(path, first.model_id, first.dim, recording=False) as other:
                added = into.add_all(other, partial(_bar, what=path.name, total=len(other)))
                print(f"{added} of {len(other)} keyframes of {path} were new")
        print(f"{options.map} has {len(into)} keyframes in {len(into.sessions)} sessions")
    return 0


def _rename(options: argparse.Namespace) -> int:
    robot = options.robot if options.new_robot is None else options.new_robot
    with _open(options.map) as place_map:
        place_map.rename_session(options.robot, options.session, robot, options.name)
    return 0


def _remove(options: argparse.Namespace) -> int:
    with _open(options.map) as place_map:
        removed = place_map.remove_session(options.robot, options.session)
        place_map.shrink()
        print(f"removed {removed} keyframes; {len(place_map)} are left")
    return 0


def _prune(options: argparse.Namespace) -> int:
    if options.keyframes < 1:
        raise MapError("--keyframes: at least 1 stays")
    with _open(options.map, recording=not options.dry_run) as place_map:
        before = len(place_map)
        plan = place_map.redundant(options.keyframes, Config().match.island_gap)
        count = len(plan.removed)
        if options.dry_run:
            print(f"{count} of {before} keyframes would be removed")
        else:
            place_map.merge(plan)
            place_map.shrink()
            print(f"removed {count} of {before} keyframes; {len(place_map)} are left")
        if before - count > options.keyframes:
            print("more would be the last ones of their place")
    return 0


def _export(options: argparse.Namespace) -> int:
    formats = options.formats.split(",")
    if unknown := set(formats) - set(FORMATS):
        raise MapError(f"--formats: there is no {sorted(unknown)[0]!r}; there are {', '.join(FORMATS)}")
    with _open(options.map, recording=False) as place_map:
        check_writable(options.folder)
        for path in export_map(place_map, options.folder, formats):
            print(path)
    return 0


def _view(options: argparse.Namespace) -> int:
    page = options.out or Path(f"{options.map.stem}.html")
    with _open(options.map, recording=False) as place_map:
        check_writable(page.parent)
        write_map_page(page, place_map, options.map.stem)
    print(page)
    return 0


def _reembed(options: argparse.Namespace) -> int:
    from vpr_ros.engines.open import open_engine
    from vpr_ros.model import PlaceModel
    from vpr_ros.reembed import reembed
    from vpr_ros.sources import open_source
    from vpr_ros.sources.sample import images_of

    config = config_of(options)
    frames = None
    if options.source is not None:
        source = open_source(options.source, options.sequence, image_topic=options.image_topic)
        frames = _bar(source, "reembed", len(source) or None)
    with _open(options.map, recording=False) as old:
        engine = open_engine(PlaceModel.open(config.model.path), config.engine, images_of(config.engine))
        bar = partial(_bar, what="reembed", total=len(old))
        done = reembed(old, options.new, engine, config.match.island_gap, frames, bar)
        engine.close()
    print(f"{done.keyframes} keyframes in {options.new}; {done.without_picture} left out: no picture of them")
    if done.recall_before is None or done.recall_after is None:
        print("what that costs in recall cannot be judged: the map has no loop closures")
    else:
        print(
            f"recall@1 over the map's own {done.closures} loop closures: {done.recall_before:.3f} before, {done.recall_after:.3f} now "
            "(they were found with the old descriptors, which favours these)"
        )
    return 0
