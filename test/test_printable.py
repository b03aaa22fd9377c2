from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.errors import SourceError
from vpr_ros.printable import PrintableFormatter, on_one_line, printable

STEERING = {*map(chr, (*range(0x20), *range(0x7F, 0xA0))), "\u202e", "\u2066", "\ud800"} - set("\n\t")


@given(st.text(st.characters(codec=None, categories=None)))
def test_nothing_steers_and_everything_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert not STEERING & set(shown)
    shown.encode()
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["plain", "zwei Zeilen\n\tmit Stra\u00dfe", "\u65e5\u672c", "\U0001f916"])
def test_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb", r"a\rb"),
        ("\udce9", r"\xe9"),
        ("\ud800", r"\ud800"),
        ("\u202e", r"\u202e"),
    ],
)
def test_what_steers_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_and_a_log_are_printable() -> None:
    assert str(SourceError("folder \x1b]0;owned\x07: no images")) == r"folder \x1b]0;owned\x07: no images"
    record = logging.LogRecord("vpr_ros", logging.INFO, "", 0, "%s", ("\x1b[2J",), None)
    assert PrintableFormatter("%(message)s").format(record) == r"\x1b[2J"


def test_what_a_library_reports_goes_on_one_line() -> None:
    assert on_one_line(ValueError("not\n  so \t good\n")) == "not so good"
