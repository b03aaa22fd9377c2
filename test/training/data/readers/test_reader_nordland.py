"""Seasons as folders of numbered frames, and VPR-Bench's `query` and `ref`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_worlds import touch

from training.data.readers.nordland import Nordland, nordland, nordland_2760, nordland_27592
from vpr_ros.errors import SourceError


def frames(*numbers: int) -> list[str]:
    return [f"images-{number:05d}.png" for number in numbers]


@pytest.fixture
def seasons(tmp_path: Path) -> Path:
    for season in ("spring", "summer", "fall", "winter"):
        touch(tmp_path / season, *frames(*range(100, 125)))
    return tmp_path


def test_a_training_set(seasons: Path) -> None:
    [images] = Nordland(path=Path(seasons.name), seasons=("winter", "summer")).read(seasons.parent)
    names = frames(100, 110, 120)
    assert images.name == "Nordland"
    assert images.paths == tuple(seasons / season / name for season in ("winter", "summer") for name in names)
    assert images.places.tolist() == [0, 10, 20, 0, 10, 20]
    assert images.sequences.tolist() == ["winter"] * 3 + ["summer"] * 3
    assert images.conditions.tolist() == images.sequences.tolist()


def test_which_frames_train(seasons: Path) -> None:
    [images] = Nordland(first=3, last=9, stride=3).read(seasons)
    assert images.places.tolist() == [3, 6, 9] * 4
    assert [path.name for path in images.paths[:3]] == frames(103, 106, 109)
    with pytest.raises(SourceError, match="Nordland: no images"):
        Nordland(first=25).read(seasons)
    for wrong in ({"stride": 0}, {"first": -1}, {"seasons": ()}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Nordland.model_validate(wrong)


def test_a_season_asks_another(seasons: Path) -> None:
    protocol = nordland(seasons, "winter", "summer", tolerance=2)
    assert protocol.name == "Nordland winter -> summer (25 queries, 25 database images, +-2 frames)"
    assert protocol.rule == "the query's own frame, +-2"
    [part] = protocol.parts
    assert part.queries.paths == tuple(seasons / "winter" / name for name in frames(*range(100, 125)))
    assert part.database.paths == tuple(seasons / "summer" / name for name in frames(*range(100, 125)))
    assert part.positives[0].tolist() == [0, 1, 2]
    assert part.positives[10].tolist() == [8, 9, 10, 11, 12]
    assert part.positives[24].tolist() == [22, 23, 24]
    assert part.queries.places.tolist() == part.database.places.tolist() == list(range(25))
    assert set(part.queries.conditions.tolist()) == {"winter"}


def test_the_full_variant(seasons: Path) -> None:
    protocol = nordland_27592(seasons)
    assert protocol.name == "Nordland winter -> summer (25 queries, 25 database images, +-10 frames)"
    assert protocol.parts[0].positives[12].tolist() == list(range(2, 23))


def test_every_tenth_frame_asks(seasons: Path) -> None:
    [part] = nordland(seasons, "summer", "winter", tolerance=1, every=10).parts
    assert [path.name for path in part.queries.paths] == frames(100, 110, 120)
    assert part.queries.places.tolist() == [0, 10, 20]
    assert [right.tolist() for right in part.positives] == [[0, 1], [9, 10, 11], [19, 20, 21]]


def test_the_variant_of_vpr_bench(tmp_path: Path) -> None:
    touch(tmp_path / "ref", *(f"{i:07d}.jpg" for i in range(21)))
    touch(tmp_path / "query", *(f"{i:07d}.jpg" for i in range(3)))
    protocol = nordland_2760(tmp_path)
    assert protocol.name == "Nordland query -> ref (3 queries, 21 database images, +-1 frames)"
    [part] = protocol.parts
    assert [path.name for path in part.queries.paths] == ["0000000.jpg", "0000001.jpg", "0000002.jpg"]
    assert part.queries.places.tolist() == [0, 10, 20]
    assert [right.tolist() for right in part.positives] == [[0, 1], [9, 10, 11], [19, 20]]
    (tmp_path / "query/0000002.jpg").unlink()
    assert [right.tolist() for right in nordland_2760(tmp_path).parts[0].positives] == [[0, 1], [9, 10, 11]]
    touch(tmp_path, "query/0000002.jpg", "query/0000003.jpg")
    with pytest.raises(SourceError, match=r"query/0000003\.jpg: would be frame 30, but ref has 21 frames"):
        nordland_2760(tmp_path)


def test_the_clean_frames_are_those_of_the_list(seasons: Path, caplog: pytest.LogCaptureFixture) -> None:
    (seasons / "cleanImageNames.txt").write_text("images-00102.png\n\nimages-00110.png\nimages-00111.png\n")
    [part] = nordland(seasons, tolerance=1).parts
    assert [path.name for path in part.queries.paths] == frames(102, 110, 111)
    assert [right.tolist() for right in part.positives] == [[0, 1], [0, 1, 2], [1, 2]]
    (seasons / "summer/images-00111.png").unlink()
    [part] = nordland(seasons, tolerance=1).parts
    assert len(part.database) == len(part.queries) == 3
    assert "cleanImageNames.txt:4: there is no image " in caplog.text


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for season in ("summer", "winter"):
        touch(tmp_path / season, "9.png", "10.png", "100.png", "notes.txt")
    [part] = nordland(tmp_path).parts
    assert [path.name for path in part.queries.paths] == ["9.png", "10.png", "100.png"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 30), st.integers(1, 30))
def test_an_answer_is_right_where_the_frames_are_near(seasons: Path, tolerance: int, every: int) -> None:
    [part] = nordland(seasons, tolerance=tolerance, every=every).parts
    for place, right in zip(part.queries.places.tolist(), part.positives, strict=True):
        assert right.tolist() == [i for i in range(25) if abs(i - place) <= tolerance]


def test_seasons_with_other_frames_are_refused(seasons: Path) -> None:
    (seasons / "summer/images-00107.png").unlink()
    message = "frame images-00107 is in {}, but not in {}"
    with pytest.raises(SourceError, match=message.format("winter", "summer")):
        nordland(seasons, "winter", "summer")
    with pytest.raises(SourceError, match=message.format("winter", "summer")):
        nordland(seasons, "summer", "winter")
    with pytest.raises(SourceError, match=message.format("spring", "summer")):
        Nordland().read(seasons)


def test_seasons_that_are_missing_are_refused(seasons: Path) -> None:
    with pytest.raises(SourceError, match="autumn: no such folder"):
        nordland(seasons, "autumn")
    (seasons / "autumn").mkdir()
    with pytest.raises(SourceError, match="autumn: holds no images"):
        nordland(seasons, "autumn")
