"""Csv tables and lines of numbers, good and broken."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data.readers.tables import CsvTable
from vpr_ros.errors import SourceError


def table(folder: Path, text: str | bytes, *columns: str) -> CsvTable:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvTable.read(path, *columns)


fields = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n",'), max_size=5)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(fields, fields, fields), min_size=1, max_size=5))
def test_what_the_csv_module_wrote_comes_back(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b", "c"), *rows])
    read = table(tmp_path, text.getvalue(), "c", "a")
    assert read.columns == {"c": tuple(row[2] for row in rows), "a": tuple(row[0] for row in rows)}


def test_lines_count_empty_ones_and_line_breaks_in_quotes(tmp_path: Path) -> None:
    read = table(tmp_path, '\ufeffa,b\n1,"two\nlines"\n\n3,4\n', "a", "b")
    assert read.columns["b"] == ("two\nlines", "4")
    assert [read.at(row) for row in range(len(read))] == [f"{read.path}:3", f"{read.path}:5"]


def test_columns_as_numbers(tmp_path: Path) -> None:
    read = table(tmp_path, "a,b,c\n1,-2.5e3,True\n20,,False\n", "a", "b", "c")
    assert read.naturals("a").tolist() == [1, 20]
    np.testing.assert_array_equal(read.numbers("b", optional=True), [-2500, np.nan])
    assert read.booleans("c").tolist() == [True, False]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(6)))
def test_rows_follow_the_keys_of_another_table(tmp_path: Path, order: list[int]) -> None:
    first = table(tmp_path, "key,a\n" + "".join(f"k{i},{i}\n" for i in range(6)), "key", "a")
    second = table(tmp_path, "key,b\n" + "".join(f"k{i},{i}\n" for i in order), "key", "b").in_order_of(first, "key")
    assert second.columns["key"] == first.columns["key"]
    assert second.columns["b"] == first.columns["a"]
    assert [second.lines[i] for i in order] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table\.csv: holds no rows below a header"),
        ("a,b\n", r"table\.csv: holds no rows below a header"),
        ("a,x\n1,2\n", r"table\.csv:1: has no column b; it has a, x"),
        ("a,b\n1,2\n3\n", r"table\.csv:3: has 1 fields where the header has 2"),
        ("a,b\n1,2,3\n", r"table\.csv:2: has 3 fields where the header has 2"),
        ('a,b\n1,2\n3,"4\n', r"table\.csv:3: unexpected end of data"),
        (b"a,b\n\xff\xfe,2\n", r"table\.csv: cannot be read as text: .*utf-8"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        table(tmp_path, text, "a", "b")


def test_a_table_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv: no such file"):
        CsvTable.read(tmp_path / "none.csv", "a")
    with pytest.raises(SourceError, match=r"cannot be read as text: .*Is a directory"):
        CsvTable.read(tmp_path, "a")


@pytest.mark.parametrize(
    ("kind", "field", "message"),
    [
        ("numbers", "", r":3: a is missing"),
        ("numbers", "east", r":3: a is 'east', not a number"),
        ("numbers", "nan", r":3: a is 'nan', not a number"),
        ("numbers", "inf", r":3: a is 'inf', not a number"),
        ("naturals", "1.5", r":3: a is '1\.5', not a whole number from 0"),
        ("naturals", "-1", r":3: a is '-1', not a whole number from 0"),
        ("booleans", "yes", r":3: a is 'yes', neither True nor False"),
    ],
)
def test_fields_of_another_type_are_refused(tmp_path: Path, kind: str, field: str, message: str) -> None:
    good = "True" if kind == "booleans" else "1"
    read = table(tmp_path, f"a,b\n{good},0\n{field},0\n", "a")
    with pytest.raises(SourceError, match=message):
        getattr(read, kind)("a")


def test_an_optional_number_is_empty_or_a_number(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r":2: a is 'nan', not a number"):
        table(tmp_path, "a\nnan\n", "a").numbers("a", optional=True)


def test_keys_that_do_not_match_are_refused(tmp_path: Path) -> None:
    first = table(tmp_path, "key\nx\ny\n", "key")
    for text, message in (
        ("key\nx\nz\n", r":3: key z is not in .*table\.csv"),
        ("key\nx\n", r":3: key y is not in .*table\.csv"),
        ("key\nx\ny\nx\n", r":4: key x is already in line 2"),
    ):
        with pytest.raises(SourceError, match=message):
            table(tmp_path, text, "key").in_order_of(first, "key")
    with pytest.raises(SourceError, match=r":4: key x is already in line 2"):
        first.in_order_of(table(tmp_path, "key\nx\ny\nx\n", "key"), "key")
