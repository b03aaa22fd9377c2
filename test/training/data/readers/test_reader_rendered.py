"""The rendered world: what is drawn, when it is drawn again, and what it costs without the renderer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from demo_world import View, loop_trajectory
from training.data.classes import read_label_map
from training.data.readers import rendered
from training.data.readers.rendered import Rendered, rendered_worlds
from vpr_ros.errors import VprError
from vpr_ros.images import read_image


class FlatWorld:
    """Stands in for the renderer: images whose one colour tells seed, appearance and place."""

    drawn: int

    def __init__(self, seed: int, appearance: int) -> None:
        self.colour = [10 * seed, appearance % 1000]

    def __enter__(self) -> FlatWorld:
        return self

    def __exit__(self, *_: object) -> None: ...

    def render(self, pose: np.ndarray, *, ground_truth: bool) -> View:
        type(self).drawn += 1
        labels = np.full((8, 8), self.colour[1], np.uint8) if ground_truth else None
        return View(np.full((8, 8, 3), [*self.colour, pose[0, 3]], np.uint8), labels=labels)


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> type[FlatWorld]:
    FlatWorld.drawn = 0
    monkeypatch.setattr(rendered, "DemoWorld", FlatWorld)
    monkeypatch.setattr(rendered, "random_appearance", lambda seed: seed)
    return FlatWorld


def few(tmp_path: Path, **options: object) -> Rendered:
    return Rendered.model_validate(
        {"seeds": [3, 7], "appearances": 2, "step_m": 5.0, "laps": 0.1, "cache": tmp_path / "cache", **options}
    )


def test_one_set_per_world_and_one_sequence_per_drive(tmp_path: Path, flat: type[FlatWorld]) -> None:
    sets = few(tmp_path).read(tmp_path)
    assert [images.name for images in sets] == ["rendered world 3", "rendered world 7"]
    for images, seed in zip(sets, (3, 7), strict=True):
        half = len(images) // 2
        assert images.sequences.tolist() == ["drive 0"] * half + ["drive 1"] * half
        assert images.conditions.tolist() == [f"appearance {seed}000"] * half + [f"appearance {seed}001"] * half
        for i, path in enumerate(images.paths):
            colour = [10 * seed, i // half, images.positions_m[i, 0]]
            assert np.abs(read_image(path)[4, 4] - colour).max() < 4, "the image of that world, drive and place"


def test_poses_are_those_of_the_drive(tmp_path: Path, flat: type[FlatWorld]) -> None:
    images = few(tmp_path, lateral_m=0.0).read(tmp_path)[0]
    route = [pose for _, pose in loop_trajectory(laps=0.1, speed_m_s=5.0, rate_hz=1.0, lateral_offset_m=(0.0,))]
    assert len(images) == 2 * len(route)
    for drive in (images.positions_m[: len(route)], images.positions_m[len(route) :]):
        np.testing.assert_allclose(drive, [pose[:2, 3] for pose in route])
    np.testing.assert_allclose(images.headings_rad[: len(route)], [np.arctan2(p[1, 2], p[0, 2]) for p in route])


def test_each_drive_keeps_to_its_own_side(tmp_path: Path, flat: type[FlatWorld]) -> None:
    images = few(tmp_path, appearances=6, lateral_m=0.5).read(tmp_path)[0]
    starts = images.positions_m[:: len(images) // 6]
    middle = loop_trajectory(laps=0.1, lateral_offset_m=(0.0,))[0][1][:2, 3]
    aside = np.linalg.norm(starts - middle, axis=1)
    assert len(np.unique(aside.round(6))) == 6
    assert aside.max() <= 0.5


def test_a_world_is_rendered_once_for_each_choice_of_options(
    tmp_path: Path, flat: type[FlatWorld], monkeypatch
) -> None:
    first = few(tmp_path).read(tmp_path)
    drawn = flat.drawn
    assert drawn == sum(map(len, first))
    again = few(tmp_path).read(tmp_path)
    assert flat.drawn == drawn
    assert [images.fingerprint() for images in again] == [images.fingerprint() for images in first]
    few(tmp_path, seeds=[3, 8]).read(tmp_path)
    assert flat.drawn == drawn + len(first[0]), "only the new world"
    few(tmp_path, seeds=[3], step_m=4.0).read(tmp_path)
    assert flat.drawn > (drawn := drawn + len(first[0])), "another step, other images"
    drawn = flat.drawn
    (tmp_path / "renderer").mkdir()
    (tmp_path / "renderer" / "world.py").write_text("changed")
    monkeypatch.setattr(rendered.demo_world, "__file__", str(tmp_path / "renderer" / "__init__.py"))
    few(tmp_path, seeds=[3]).read(tmp_path)
    assert flat.drawn > drawn, "another renderer, other images"


def test_the_same_options_give_the_same_files(tmp_path: Path, flat: type[FlatWorld]) -> None:
    one, other = (few(tmp_path, cache=tmp_path / name).read(tmp_path)[0] for name in ("one", "other"))
    assert one.fingerprint() == other.fingerprint()
    assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in other.paths]


def test_label_maps_are_drawn_where_they_are_asked_for(tmp_path: Path, flat: type[FlatWorld]) -> None:
    assert few(tmp_path).read(tmp_path)[0].label_maps is None
    images = few(tmp_path, label_maps=True).read(tmp_path)[0]
    assert images.label_maps
    shown = [read_label_map(path) for path in images.label_maps.paths]
    assert {labels.shape for labels in shown} == {(4, 4)}
    assert [labels[0, 0] for labels in shown] == [int(name[-1]) for name in images.sequences]
    assert images.label_maps.tables[0].classes[0].name == "road"


def test_the_protocol_asks_the_first_drive_in_other_looks(tmp_path: Path, flat: type[FlatWorld]) -> None:
    protocol = rendered_worlds([3, 7], tmp_path / "cache")
    assert [len(part.queries) for part in protocol.parts] == [2 * len(part.database) for part in protocol.parts]
    for part in protocol.parts:
        assert set(part.database.sequences) == {"drive 0"}
        assert all(len(positives) for positives in part.positives)
        for query, positives in enumerate(part.positives):
            away = np.linalg.norm(part.database.positions_m[positives] - part.queries.positions_m[query], axis=1)
            assert (away <= 5).all()


@pytest.mark.parametrize("wrong", [{"seeds": []}, {"appearances": 0}, {"step_m": 0}, {"laps": 1.5}, {"lateral_m": -1}])
def test_options_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        few(tmp_path, **wrong)


def test_without_the_renderer_the_fix_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "panda3d", None)
    with pytest.raises(VprError, match=r"needs Panda3D: pip install vpr_ros\[demo\]"):
        few(tmp_path).read(tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_real_renderer_draws_streets(tmp_path: Path) -> None:
    pytest.importorskip("panda3d", reason="Panda3D renders the demo world: pip install vpr_ros[demo]")
    (images,) = few(tmp_path, seeds=[1], appearances=1, step_m=8.0, laps=0.05).read(tmp_path)
    first, second = (read_image(path) for path in images.paths[:2])
    assert first.shape == (480, 640, 3)
    assert first.std() > 10, "not an empty picture"
    assert np.abs(first.astype(int) - second).mean() > 2, "the camera has moved"
