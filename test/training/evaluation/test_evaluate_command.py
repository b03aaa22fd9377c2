"""`python -m training.evaluate` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.evaluate import main


@pytest.fixture
def backwards(tmp_path: Path, write_images) -> str:
    """Half of the second pass in order, half backwards: recall@1 is 0.5 without tolerance."""
    write_images("map", range(8))
    write_images("query", [0, 1, 2, 3, 7, 6, 5, 4])
    return f"aligned={tmp_path}/map,{tmp_path}/query,0"


def test_tables_json_and_page(tmp_path: Path, backwards: str, grid_model_path: Path, capsys) -> None:
    where = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    main(["thumbnail", str(grid_model_path), "--on", backwards, *where])
    said = capsys.readouterr().out
    assert "map -> query\nright: +- 0 images\n8 queries, 8 of them with a right answer; 8 database images" in said
    assert said.count(" .500 ") == 2
    assert "gain over patch-normalised thumbnail 64x32" in said
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["bootstrap"] == {"resamples": 1000, "seed": 0}
    (evaluation,) = results["evaluations"]
    assert [model["scores"][0]["recall"]["recall"][0] for model in evaluation["models"]] == [0.5, 0.5]
    assert "Wrong first answers" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 4


def refusal(*arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return str(stopped.value)


def test_refusals_are_one_line(tmp_path: Path, backwards: str) -> None:
    assert refusal("thumbnail", "--on", "moon=/data").startswith("evaluate: there is no protocol 'moon'")
    assert refusal("thumbnail.pt", "--on", backwards).startswith("evaluate: 'thumbnail.pt' is no model")
    assert refusal(str(tmp_path / "none.onnx"), "--on", backwards).startswith("evaluate: cannot read model")
    taken = tmp_path / "taken"
    taken.write_text("a file where a folder should be")
    text = refusal("thumbnail", "--on", backwards, "--cache", str(tmp_path / "cache"), "--out", str(taken))
    assert text.startswith(f"evaluate: cannot write {taken / 'results.json'}: ")


@pytest.mark.parametrize("option", ["--batch", "--resamples"])
def test_numbers_must_be_positive(option: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["thumbnail", "--on", "aligned=a,b,1", option, "0"])
    assert "'0' is not a whole number above 0" in capsys.readouterr().err


def test_the_list_needs_nothing_else(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--list"])
    assert stopped.value.code == 0
    assert "gardenspoint=folder with day_left/, day_right/\n" in capsys.readouterr().out


def test_the_thumbnail_in_a_real_park(tmp_path: Path, shared_data: Path, capsys) -> None:
    """What the first evaluation command of this project found, another implementation."""
    where = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    main(["thumbnail", "--on", f"stromovka={shared_data}/stromovka", *where])
    (evaluation,) = json.loads((tmp_path / "out" / "results.json").read_text())["evaluations"]
    recall = evaluation["models"][0]["scores"][0]["recall"]["recall"]
    assert [round(recall[k - 1], 3) for k in (1, 5)] == [0.198, 0.317]
