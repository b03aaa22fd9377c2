from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_benchmarks import measured, row, table

from vpr_ros.engines.benchmark.checks import FAIL, PASS, SKIP, Check
from vpr_ros.engines.benchmark.table import Table
from vpr_ros.errors import EngineError


def test_text_is_aligned_and_leaves_out_what_nobody_has() -> None:
    rows = (
        row(measured=measured()),
        row("tensorrt", "int8", 16, measured=measured(cosine_min=0.5, build_s=None, median_ms=1.25)),
        row("openvino", "fp32", 1, reason="it is not installed"),
        row("openvino", "fp32", 4, reason="it is not installed"),
        row("openvino", "int8", 1, reason="it is not installed"),
    )
    lines = table(*rows).text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("engine"))
    assert lines[start : start + 3] == [
        "engine    precision  batch  median ms  p99 ms  images/s  x reference  quartiles  memory MB  cosine min   median  "
        "build s  load s",
        "fake      fp16           1       12.5    13.2      80.0         2.00  1.75-2.25         64     0.99989  0.99999  "
        "    4.5    0.25",
        "tensorrt  int8          16       1.25    13.2      80.0         2.00  1.75-2.25         64     0.50000  0.99999  "
        " cached    0.25  refused: below 0.999",
    ]
    assert lines[-2:] == ["not measured:", "  openvino fp32 (batch 1 4), int8 (batch 1): it is not installed"]
    assert any(line.startswith("CPU ") and "2 threads" in line for line in lines)


def test_columns_appear_with_what_they_show() -> None:
    one = row(measured=measured(device_memory_mb=123.4, recall=0.75, reference_recall=0.875))
    text = table(one, replace(one, model="other", model_id="fedcba"), planned=9, places="KITTI 00").text()
    for said in ("GPU MB", " 123 ", "R@1", "0.750  -0.125", "other  fake", "places", "2 of 9 combinations were done"):
        assert said in text


def test_nothing_measured_is_still_a_text() -> None:
    text = table(row(reason="no GPU"), planned=2).text()
    assert "  fake fp16 (batch 1): no GPU" in text
    assert "median ms" not in text


def test_cosines_are_not_rounded_up_to_one() -> None:
    assert "0.99999  1.00000" in table(row(measured=measured(cosine_min=0.999996, cosine_median=0.99999990))).text()


def test_markdown_has_the_same_cells() -> None:
    page = table(row(measured=measured()), row("bad", reason="a | b")).markdown()
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| engine"))
    assert lines[start].count("|") == lines[start + 1].count("|") == lines[start + 2].count("|")
    assert lines[start + 2].startswith("| fake | fp16 | 1 | 12.5 | 13.2 | 80.0 | 2.00 |")
    assert lines[-1] == "- bad fp16 (batch 1): a \\| b"


def test_checks_are_counted_and_failures_named() -> None:
    checks = (Check("mask", SKIP, "none"), Check("close twice", PASS, ""), Check("batches agree", FAIL, "cosine 0.5"))
    whole = table(row(measured=measured(), checks=checks), row("tensorrt", reason="no GPU"))
    assert "  1 of 2" in whole.text()
    assert "failed:\n  fake fp16 (batch 1): batches agree: cosine 0.5\n" in whole.text()
    assert "\n- fake fp16 (batch 1): batches agree: cosine 0.5\n" in whole.markdown()
    assert whole.rows[0].failed == checks[2:]


def test_json_round_trip() -> None:
    checks = (Check("mask", SKIP, "this model has none"), Check("close twice", PASS, ""))
    whole = table(row(measured=measured(recall=0.5), checks=checks), row(reason="no GPU"), planned=5)
    plain = json.loads(whole.to_json())
    assert plain["rows"][0]["measured"]["percentiles_ms"]["p99"] == 10.99
    assert Table.from_json(whole.to_json()) == whole


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "vpr_ros.benchmark.1"}', '{"format": "other"}'])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="benchmark"):
        Table.from_json(text)
