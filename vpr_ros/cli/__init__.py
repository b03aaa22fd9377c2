"""The command line: `vpr replay | demo | map | engine | benchmark | doctor`, a module each. The library raises; only this exits."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import vpr_ros
from vpr_ros.errors import VprError
from vpr_ros.imports import IMPORT_FAILURES, import_failure
from vpr_ros.printable import PrintableFormatter, printable

COMMANDS = {
    "replay": "run a recording through the loop detector and report",
    "demo": "render a world, play it to the real node as a bag, and report",
    "map": "look at map files, mend, merge and prune them",
    "engine": "build, list, check and clean the engines of this machine",
    "benchmark": "does each engine run on this machine, is it right, and how fast: one table",
    "doctor": "check this robot in seconds; every line that is not OK names what to type",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `vpr`: exit status 0, 2 with a one-line reason for a user's mistake, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parser = _parser(arguments)
    except IMPORT_FAILURES as error:
        _refuse(import_failure(error))
    options = parser.parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("vpr_ros").setLevel(logging.INFO)
    try:
        sys.exit(options.run(options))
    except VprError as error:
        _refuse(error.typed(options.options))
    except MemoryError:
        _refuse("out of memory")
    except BrokenPipeError:  # `vpr ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(reason: str) -> NoReturn:
    print(f"vpr: {printable(reason)}", file=sys.stderr)
    sys.exit(2)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vpr", description="Loop closure by visual place recognition."
    )
    parser.add_argument("--version", action="version", version=f"vpr_ros {vpr_ros.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, allow_abbrev=False, help=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        # only the one that was given: help is there at once, and doctor starts where another's libraries cannot be imported
        if name in arguments[:1]:
            importlib.import_module(f"vpr_ros.cli.{name}").add(command)
            command.set_defaults(options=_typed(command))
    return parser


def _typed(command: argparse.ArgumentParser) -> dict[str, str]:
    """How each option is typed, by its name in Python; those of a command's actions, too."""
    typed: dict[str, str] = {}
    for each in command._actions:
        if isinstance(each, argparse._SubParsersAction):
            for action in each.choices.values():
                typed |= _typed(action)
        elif each.option_strings:
            typed[each.dest] = each.option_strings[-1]
    return typed
