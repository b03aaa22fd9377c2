"""The command line: `vpr replay | demo | engine | benchmark | doctor`, a module each. The library raises; only this exits."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

import vpr_ros
from vpr_ros.errors import VprError

COMMANDS = {
    "replay": "run a recording through the loop detector and report",
    "demo": "render a world, play it to the real node as a bag, and report",
    "engine": "build, list, check and clean the engines of this machine",
    "benchmark": "does each engine run on this machine, is it right, and how fast: one table",
    "doctor": "check this robot in seconds; every line that is not OK names what to type",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `vpr`: exit status 0, 2 with a one-line reason for a user's mistake, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("vpr_ros").setLevel(logging.INFO)
    try:
        sys.exit(options.run(options))
    except VprError as error:
        print(f"vpr: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpr", description="Loop closure by visual place recognition.")
    parser.add_argument("--version", action="version", version=f"vpr_ros {vpr_ros.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        # only the one that was given: help is there at once, and doctor starts where another's libraries cannot be imported
        if name in arguments[:1]:
            importlib.import_module(f"vpr_ros.cli.{name}").add(command)
    return parser
