"""`python -m training.labels` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from html_pages import check_page
from small_worlds import texture

from training.labels.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three places in two sessions to train on, and a clip of four images to validate with."""
    for name in ("places/0100.jpg", "places/0101.jpg", "places/0102.jpg", "places/0200.jpg", "places/0201.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), texture(int(name[-6:-4]), 64, 48))
    (tmp_path / "clip").mkdir()
    for i in range(4):
        cv2.imwrite(str(tmp_path / "clip" / f"a_frame_{i}.jpg"), texture(i, 64, 48))
    content = {
        "name": "tiny",
        "data_root": str(tmp_path),
        "cache": str(tmp_path / "cache"),
        "network": {"width": 64, "height": 64, "backbone": {"name": "resnet18", "weights": "none"}},
        "sources": [{"reader": {"kind": "named_places", "path": "places"}, "labels": {"kind": "same_place"}}],
        "validation": {"sources": [{"reader": {"kind": "clips", "path": "clip"}, "labels": {"kind": "clips"}}]},
        "loop": {"steps": 1},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_counts_a_page_and_labels_for_training(tmp_path: Path, recipe: Path, capsys) -> None:
    out = tmp_path / "pages" / "labels.html"
    main([str(recipe), "--out", str(out)])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "places: 5 images; pairs: 2 positive, 0 soft, 8 unrelated, 0 unknown",
        "clip: 4 images; pairs: 0 positive, 0 soft, 0 unrelated, 6 unknown",
        f"wrote {out}",
    ]
    html = out.read_text(encoding="utf-8")
    check_page(html)
    assert "kind=same_place" in html
    assert sorted(file.name.partition("-")[0] for file in (tmp_path / "cache" / "labels").iterdir()) == [
        "clips",
        "same_place",
    ]


def test_a_recipe_can_be_changed(tmp_path: Path, recipe: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(recipe), "sources.0.labels.kind=clips", "validation=null"])
    assert capsys.readouterr().out.splitlines() == [
        "places: 5 images; pairs: 0 positive, 0 soft, 6 unrelated, 4 unknown",
        f"wrote {Path('.training/tiny_labels.html')}",
    ]


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return str(stopped.value)


def test_refusals_are_one_line(tmp_path: Path, recipe: Path) -> None:
    assert refusal(tmp_path / "none.yaml").startswith(f"labels: cannot read {tmp_path / 'none.yaml'}: ")
    assert refusal(recipe, "sources.0.labels.kind=color").startswith(f"labels: {recipe}: sources.0.labels: ")
    assert refusal(recipe, "sources.0.labels.kind=distance").startswith(
        "labels: places: 5 of 5 images have no position"
    )
    taken = tmp_path / "taken"
    taken.touch()
    assert refusal(recipe, "--out", taken / "a.html").startswith(f"labels: cannot write {taken / 'a.html'}: ")


def test_it_can_be_started_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "training.labels", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "python -m training.labels RECIPE.yaml sources.0.labels.radius_m=30" in result.stdout
