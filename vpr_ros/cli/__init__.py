"""The command line: `vpr demo | replay`, a module each. The library raises; only this module exits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vpr_ros.cli import demo, replay
from vpr_ros.errors import VprError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `vpr`: exit status 0, 2 with a one-line reason for a user's mistake, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except VprError as error:
        print(f"vpr: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpr", description="Loop closure by visual place recognition.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (replay, demo):
        command.add(commands)
    return parser
