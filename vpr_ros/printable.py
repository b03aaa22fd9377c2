"""Text that leaves for a terminal or a log. Names of files, topics and models are anybody's, and terminals obey what they find in text."""

from __future__ import annotations

import logging
import re
from contextlib import suppress

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls of ASCII and of Latin-1 except tab and line feed; ESC and CSI begin sequences
    "\u200e\u200f\u2028-\u202e\u2066-\u2069"  # marks that turn the order of what follows
    "\ud800-\udfff]"  # halves of characters, as in names that are not UTF-8: no stream can encode them
)


def printable(text: object) -> str:
    r"""The text with everything that steers a terminal, or cannot be encoded, written out as `\x1b`. Lines stay lines."""
    whole = str(text)
    with suppress(UnicodeEncodeError):  # bytes of a name that are not UTF-8, as Python hands them out
        whole = whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), whole)


class PrintableFormatter(logging.Formatter):
    """Log records as printable text."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
