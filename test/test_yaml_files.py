"""What is no YAML, or no YAML of ours, is refused in one line by every reader of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vpr_ros.bags.metadata import Metadata
from vpr_ros.cli import _parser
from vpr_ros.cli.config import config_of
from vpr_ros.config import Config
from vpr_ros.errors import ConfigError, SourceError
from vpr_ros.parameter_files import parse_yaml

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)
)
BAD: dict[str, str | bytes] = {
    "date": "match: {top_k: 2026-99-99}",
    "integer": "match: {top_k: !!int x}",
    "binary": "match: {top_k: !!binary '%%%'}",
    "digits": "match: {top_k: " + "9" * 5000 + "}",
    "deep": "a: " + "[" * 5000 + "]" * 5000,
    "deep maps": "".join("  " * i + f"k{i}:\n" for i in range(300)) + "  " * 300 + "x: 1",
    "aliases": ALIASES,
    "deep flow": "{a: " * 100_000 + "1" + "}" * 100_000,
    "merges": "a: &a {x: 1}\n"
    + "".join(f"b{i}: &b{i}\n  <<: [{','.join([f'*b{i - 1}' if i else '*a'] * 20)}]\n" for i in range(8)),
    "long": "model: {path: '" + "A" * 5_000_000 + "'}",
    "own alias": "match: &m\n  top_k: *m\n",
    "list as key": "? [a]\n: 1\n",
    "python": "match: {top_k: !!python/object/apply:os.system [id]}",
    "latin-1": "model: {path: 'caf\xe9'}".encode("latin-1"),
    "NUL": "match: {top_k: '\x00'}",
    "open": "match: {a",
}


@pytest.fixture(params=BAD, ids=str)
def bad(request: pytest.FixtureRequest) -> str | bytes:
    return BAD[request.param]


def is_one_line(read: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as error:
        read()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_parameter_file(tmp_path: Path, bad: str | bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    is_one_line(lambda: Config.from_yaml(path))


def test_a_value_of_the_command_line(bad: str | bytes) -> None:
    value = bad.decode("latin-1") if isinstance(bad, bytes) else bad
    options = _parser(["replay"]).parse_args(["replay", "x", "--set", f"match.top_k={value}"])
    is_one_line(lambda: config_of(options))


def test_the_metadata_of_a_bag(tmp_path: Path, bad: str | bytes) -> None:
    path = tmp_path / "metadata.yaml"
    path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    with pytest.raises(SourceError, match=r"^metadata\.yaml cannot be read [^\n]*$"):
        Metadata.read(path)


def test_merges_that_people_write_are_read() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {c: 3}\nall:\n  <<: [*base, *more]\n  b: 4"
    assert parse_yaml(text)["all"] == {"a": 1, "b": 4, "c": 3}


def test_what_people_write_is_read() -> None:
    assert parse_yaml("a: {b: [1, 2.5, text, true, null]}") == {"a": {"b": [1, 2.5, "text", True, None]}}
