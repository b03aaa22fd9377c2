"""Text that leaves for a terminal or a log. Names of files, topics and models are anybody's, and terminals obey what they find in text."""

from __future__ import annotations

import logging
from datetime import datetime, timezone


def printable(text: object) -> str:
    r"""The text with what steers a terminal, or cannot be encoded, written out: ESC as `\x1b`, a byte of a name that is not UTF-8 as `\xe9`.

    Lines stay lines.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in str(text))


def utc(stamp_ns: int) -> str:
    """A stamp as date and time of day in UTC, to the second."""
    return datetime.fromtimestamp(stamp_ns * 1e-9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def on_one_line(text: object) -> str:
    """The text without line ends and runs of blanks: what a library reports, within a line of ours."""
    return " ".join(str(text).split())


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps such a byte
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class PrintableFormatter(logging.Formatter):
    """Log records as printable text."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
