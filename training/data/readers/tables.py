"""Csv tables and lines of numbers, read so that every complaint names the line at fault."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import SourceError


@dataclass(frozen=True, slots=True, eq=False)
class CsvTable:
    """The wanted columns of a csv file with a header, as text; `lines[i]` is the line of row i."""

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    lines: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, *columns: str) -> CsvTable:
        """Raises SourceError: no such file, not csv, no rows, a column that is not there, a row with fields missing."""
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                texts, lines = _parse(path, file, columns)
        except FileNotFoundError:
            raise SourceError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path}: cannot be read as text: {error}") from None
        if not lines:
            raise SourceError(f"{path}: holds no rows below a header")
        return cls(path, dict(zip(columns, zip(*texts, strict=True), strict=True)), tuple(lines))

    def __len__(self) -> int:
        return len(self.lines)

    def at(self, row: int) -> str:
        """`path:line`, as compilers write it."""
        return f"{self.path}:{self.lines[row]}"

    def numbers(self, column: str, *, optional: bool = False) -> NDArray[np.float64]:
        """(N,) NaN where the field is empty, if that may be. Raises SourceError for what is not a finite number."""
        texts = self.columns[column]
        numbers = np.fromiter(map(_number, texts), np.float64, len(self))
        for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
            if texts[row]:
                raise SourceError(f"{self.at(row)}: {column} is {texts[row]!r}, not a number")
            if not optional:
                raise SourceError(f"{self.at(row)}: {column} is missing")
        return numbers

    def naturals(self, column: str) -> NDArray[np.int64]:
        """(N,) Raises SourceError for what is not one of 0, 1, 2, ..."""
        numbers = self.numbers(column)
        for row in np.flatnonzero((numbers < 0) | (numbers % 1 != 0)).tolist():
            raise SourceError(f"{self.at(row)}: {column} is {self.columns[column][row]!r}, not a whole number from 0")
        return numbers.astype(np.int64)

    def booleans(self, column: str) -> NDArray[np.bool_]:
        """(N,) Raises SourceError for what is neither True nor False."""
        texts = np.array(self.columns[column])
        for row in np.flatnonzero((texts != "True") & (texts != "False")).tolist():
            raise SourceError(f"{self.at(row)}: {column} is {str(texts[row])!r}, neither True nor False")
        return texts == "True"

    def in_order_of(self, other: CsvTable, key: str) -> CsvTable:
        """The same rows in the order of `other`. Raises SourceError for a key that only one has, or that one has twice."""
        own, others = self._row_of(key), other._row_of(key)
        self._require(key, own, others, other.path)
        other._require(key, others, own, self.path)
        order = [own[value] for value in others]
        columns = {name: tuple(texts[row] for row in order) for name, texts in self.columns.items()}
        return CsvTable(self.path, columns, tuple(self.lines[row] for row in order))

    def _require(self, key: str, rows: Mapping[str, int], known: Mapping[str, int], path: Path) -> None:
        for value, row in rows.items():
            if value not in known:
                raise SourceError(f"{self.at(row)}: {key} {value} is not in {path}")

    def _row_of(self, key: str) -> dict[str, int]:
        rows: dict[str, int] = {}
        for row, value in enumerate(self.columns[key]):
            if rows.setdefault(value, row) != row:
                raise SourceError(f"{self.at(row)}: {key} {value} is already in line {self.lines[rows[value]]}")
        return rows


def _parse(path: Path, file: TextIO, columns: Sequence[str]) -> tuple[list[list[str]], list[int]]:
    """The wanted fields of each row below the header, and its line."""
    reader = csv.reader(file, strict=True)
    texts, lines = [], []
    try:
        if (header := next(reader, None)) is None:
            return [], []
        if missing := [column for column in columns if column not in header]:
            raise SourceError(f"{path}:1: has no column {', '.join(missing)}; it has {', '.join(header)}")
        wanted = [header.index(column) for column in columns]
        for row in reader:
            if len(row) == len(header):
                texts.append([row[i] for i in wanted])
                lines.append(reader.line_num)
            elif row:
                raise SourceError(f"{path}:{reader.line_num}: has {len(row)} fields where the header has {len(header)}")
    except csv.Error as error:
        raise SourceError(f"{path}:{reader.line_num}: {error}") from None
    return texts, lines


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
