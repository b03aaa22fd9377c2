"""Text files of recordings: their rows, the matrices in them, and stamps without a rounding."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError
from vpr_ros.files import read_regular_file

_MAX_DIGITS = 30
"""Of a time in seconds; more would be written out digit by digit."""


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 or UTF-16 file with any line ends, without a byte order mark.

    Raises `SourceError` where the file is missing or not text.
    """
    try:
        content = read_regular_file(path)
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_utf16 else "utf-8-sig").splitlines()
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as text: {error}") from None


def read_rows(path: Path, columns: int = -1) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of each line that is neither empty nor a `#` comment; `columns` limits the splitting.

    Raises `SourceError` where the file is missing or not text.
    """
    for number, text in enumerate(read_lines(path), start=1):
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text.split(maxsplit=columns - 1 if columns > 0 else -1)


def read_matrix(words: Sequence[str], shape: tuple[int, ...], path: Path, line: int) -> NDArray[np.float64]:
    """The finite numbers of a line of text, by rows. Raises SourceError with file and line for anything else."""
    try:
        matrix = np.array(words, np.float64).reshape(shape)
    except ValueError:
        matrix = None
    if matrix is None or not np.isfinite(matrix).all():
        size = " x ".join(map(str, shape))
        raise SourceError(f"{path}:{line}: expected {np.prod(shape)} numbers, a {size} matrix by rows")
    return matrix


def stamp_from_seconds(text: str) -> int:
    """Decimal seconds -> integer ns, exactly: a float has no room for the nanoseconds of today's epoch.

    Raises ValueError where `text` is not a number of seconds that fits in int64 ns.
    """
    stamp_ns = _nanoseconds(text)
    if abs(stamp_ns) >= 2**63:
        raise ValueError(f"{text!r} s is out of range")
    return stamp_ns


def stamp_in_any_unit(text: str) -> int:
    """As `stamp_from_seconds`, but ms, us or ns that are read as seconds are in range too."""
    value = _nanoseconds(text)
    if abs(value) >= 2**63 * 10**9:
        raise ValueError(f"{text!r} is out of range")
    return value


def _nanoseconds(text: str) -> int:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a time in seconds") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a time in seconds")
    if value.adjusted() > _MAX_DIGITS:
        raise ValueError(f"{text!r} is out of range")
    return round(value * 10**9)
