"""Parameters from the command line: `--config FILE`, `--set NAME=VALUE`, `--model FILE`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vpr_ros.config import Config
from vpr_ros.errors import ConfigError
from vpr_ros.parameter_files import parse_yaml


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, help="parameter file like config/vpr.yaml")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, repeatable")
    command.add_argument("--model", help="ONNX model (default: the shipped one)")


def config_of(options: argparse.Namespace) -> Config:
    """The configuration that the arguments of `add_config` make. Raises ConfigError."""
    config = Config() if options.config is None else Config.from_yaml(options.config)
    values: dict[str, Any] = {}
    for assignment in options.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set needs NAME=VALUE, not {assignment[:80]!r}")
        try:
            values[name] = parse_yaml(value)
        except ConfigError as error:
            raise ConfigError(f"--set {name[:80]}: {value[:80]!r} is no value: {error}") from error
    if options.model is not None:
        values["model.path"] = options.model
    return config.with_values(values)
