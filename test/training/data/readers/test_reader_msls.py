"""Tiny cities with the files, headers and unnamed first columns of MSLS's metadata.zip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from training.data.readers.msls import TRAIN_CITIES, Msls, msls_val_all, msls_val_official
from vpr_ros.errors import SourceError


@dataclass(frozen=True)
class Row:
    key: str
    easting: float = 0.0
    northing: float = 0.0
    ca: str = "0.0"
    pano: bool = False
    night: bool = False
    view: str = "Forward"
    sequence: str = "s0"
    all: bool = True


def write(root: Path, city: str, role: str, rows: list[Row]) -> Path:
    folder = root / "train_val" / city / role
    (folder / "images").mkdir(parents=True)
    for row in rows:
        (folder / "images" / f"{row.key}.jpg").touch()
    tables = {
        "raw.csv": (
            ",key,lon,lat,ca,captured_at,pano",
            [f"{r.key},12.5,55.7,{r.ca},2019-05-01,{r.pano}" for r in rows],
        ),
        "postprocessed.csv": (
            ",key,easting,northing,unique_cluster,control_panel,night,view_direction",
            [f"{r.key},{r.easting!r},{r.northing!r},7,False,{r.night},{r.view}" for r in rows],
        ),
        "seq_info.csv": (
            ",key,sequence_key,frame_number",
            [f"{r.key},{r.sequence},{i}" for i, r in enumerate(rows)],
        ),
        "subtask_index.csv": (
            ",key,all,s2w,w2s,o2n,n2o,d2n,n2d",
            [f"{r.key},{r.all},False,False,False,False,False,False" for r in rows],
        ),
    }
    for name, (header, lines) in tables.items():
        (folder / name).write_text("\n".join([header, *(f"{i},{line}" for i, line in enumerate(lines))]) + "\n")
    return folder


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.stem for path in paths]


@pytest.fixture
def city(tmp_path: Path) -> Path:
    database = [
        Row("d_0", 100.5, 200.25, ca="90.0", sequence="s1"),
        Row("pano", 100.0, 200.0, pano=True),
        Row("-d1", 110.0, 200.0, ca="", night=True, view="Sideways", sequence="s2", all=False),
    ]
    query = [Row("q0", 100.0, 210.0, ca="180.0", view="", sequence="s3"), Row("q1", 900.0, 900.0, ca="359.5")]
    write(tmp_path / "msls", "zurich", "database", database)
    write(tmp_path / "msls", "zurich", "query", query)
    return tmp_path


def test_a_training_city(city: Path) -> None:
    [images] = Msls(path=Path("msls"), cities=("zurich",)).read(city)
    folder = city / "msls/train_val/zurich"
    assert images.name == "MSLS zurich"
    assert images.paths == (
        folder / "database/images/d_0.jpg",
        folder / "database/images/-d1.jpg",
        folder / "query/images/q0.jpg",
        folder / "query/images/q1.jpg",
    )
    np.testing.assert_array_equal(images.positions_m, [[100.5, 200.25], [110, 200], [100, 210], [900, 900]])
    np.testing.assert_allclose(images.headings_rad, [0, np.nan, -np.pi / 2, np.radians(90.5)], atol=1e-12)
    assert images.places.tolist() == [-1, -1, -1, -1]
    assert images.sequences.tolist() == ["database/s1", "database/s2", "query/s3", "query/s0"]
    assert images.conditions.tolist() == ["day forward", "night sideways", "day", "day forward"]


def test_cities_are_sets_of_their_own(city: Path) -> None:
    write(city / "msls", "goa", "database", [Row("a")])
    write(city / "msls", "goa", "query", [Row("b")])
    sets = Msls(path=Path("msls"), cities=("goa", "zurich")).read(city)
    assert [(images.name, len(images)) for images in sets] == [("MSLS goa", 2), ("MSLS zurich", 4)]


def test_the_default_is_the_official_training_split() -> None:
    assert Msls().cities == TRAIN_CITIES
    assert len(set(TRAIN_CITIES)) == 22
    with pytest.raises(ValidationError, match="cities"):
        Msls(cities=())


def test_rows_are_matched_by_key_not_by_line(city: Path) -> None:
    [expected] = Msls(path=Path("msls"), cities=("zurich",)).read(city)
    for name in ("raw.csv", "seq_info.csv"):
        table = city / "msls/train_val/zurich/database" / name
        header, *rows = table.read_text().splitlines()
        table.write_text("\n".join([header, *reversed(rows)]))
    [images] = Msls(path=Path("msls"), cities=("zurich",)).read(city)
    assert images.paths == expected.paths
    np.testing.assert_array_equal(images.headings_rad, expected.headings_rad)
    assert images.sequences.tolist() == expected.sequences.tolist()


@pytest.fixture
def val(tmp_path: Path) -> Path:
    write(tmp_path, "cph", "database", [
        Row("c0", 0, 0), Row("c1", 0, 25), Row("c2", 0, 50.01), Row("cp", 0, 1, pano=True), Row("cn", 0, 2, all=False),
    ])  # fmt: skip
    write(tmp_path, "cph", "query", [
        Row("a0", 0, 25.0, sequence="s9", night=True),  # exactly 25 m from c0
        Row("a1", 0, 1000),  # no right answer
        Row("a2", 0, 0, pano=True),
        Row("a3", 0, 0, all=False),
    ])  # fmt: skip
    write(tmp_path, "sf", "database", [Row("s0", 0, 0)])
    write(tmp_path, "sf", "query", [Row("b0", 24, 7)])  # 25 m; in cph the same numbers are another place
    return tmp_path


def test_the_official_validation(val: Path) -> None:
    protocol = msls_val_official(val)
    assert protocol.name == "MSLS val (official, 2 queries)"
    assert "25 m" in protocol.rule
    cph, sf = protocol.parts
    assert names(cph.database.paths) == ["c0", "c1", "c2"]
    assert names(cph.queries.paths) == ["a0"]
    assert [right.tolist() for right in cph.positives] == [[0, 1]]
    assert cph.queries.sequences.tolist() == ["query/s9"]
    assert cph.queries.conditions.tolist() == ["night forward"]
    assert names(sf.database.paths) == ["s0"]
    assert [right.tolist() for right in sf.positives] == [[0]]


def test_the_validation_with_all_queries(val: Path) -> None:
    protocol = msls_val_all(val)
    assert protocol.name == "MSLS val (all 4 queries, not the official ones)"
    cph, sf = protocol.parts
    assert names(cph.database.paths) == ["c0", "c1", "c2", "cn"]
    assert names(cph.queries.paths) == ["a0", "a1", "a3"]
    assert [right.tolist() for right in cph.positives] == [[0, 1, 3], [], [0, 1, 3]]
    assert names(sf.queries.paths) == ["b0"]


def test_the_official_validation_against_the_rule_in_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cities: dict[str, dict[str, list[Row]]] = {}
    for name in ("cph", "sf"):
        cities[name] = {}
        for role in ("database", "query"):
            cities[name][role] = [
                Row(
                    f"{name}{role}{i}",
                    *rng.uniform(0, 120, 2).tolist(),
                    pano=rng.random() < 0.3,
                    all=rng.random() < 0.7,
                )
                for i in range(40)
            ]
            write(tmp_path, name, role, cities[name][role])
    for part, city in zip(msls_val_official(tmp_path).parts, cities.values(), strict=True):
        database = [row for row in city["database"] if row.all and not row.pano]
        asked, right = [], []
        for q in city["query"]:
            found = [
                i for i, d in enumerate(database) if math.hypot(d.easting - q.easting, d.northing - q.northing) <= 25
            ]
            if q.all and not q.pano and found:
                asked.append(q.key)
                right.append(found)
        assert names(part.database.paths) == [row.key for row in database]
        assert names(part.queries.paths) == asked
        assert [found.tolist() for found in part.positives] == right


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("postprocessed.csv", "100.5,200.25", ",200.25", r"database/postprocessed\.csv:2: easting is missing"),
        ("postprocessed.csv", "100.5,200.25", "100.5,", r"database/postprocessed\.csv:2: northing is missing"),
        ("postprocessed.csv", "110.0", "far", r"database/postprocessed\.csv:4: easting is 'far', not a number"),
        (
            "postprocessed.csv",
            ",northing",
            ",nord",
            r"postprocessed\.csv:1: has no column northing; it has , key, easting",
        ),
        ("postprocessed.csv", "-d1", "d_0", r"postprocessed\.csv:4: key d_0 is already in line 2"),
        ("postprocessed.csv", "-d1", "new", r"raw\.csv:4: key -d1 is not in .*/database/postprocessed\.csv"),
        ("postprocessed.csv", "True,Sideways", "maybe,Sideways", r"postprocessed\.csv:4: night is 'maybe'"),
        ("raw.csv", "-d1", "new", r"raw\.csv:4: key new is not in .*/database/postprocessed\.csv"),
        ("raw.csv", "\n2,-d1,12.5,55.7,,2019-05-01,False", "", r"postprocessed\.csv:4: key -d1 is not in .*/raw\.csv"),
        ("raw.csv", "90.0", "east", r"raw\.csv:2: ca is 'east', not a number"),
        ("raw.csv", "01,True", "01,1", r"raw\.csv:3: pano is '1', neither True nor False"),
        ("raw.csv", ",2019-05-01,True", "", r"raw\.csv:3: has 5 fields where the header has 7"),
        ("seq_info.csv", "sequence_key", "sequence_id", r"seq_info\.csv:1: has no column sequence_key"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(city: Path, file: str, old: str, new: str, message: str) -> None:
    table = city / "msls/train_val/zurich/database" / file
    text = table.read_text()
    assert text.count(old) == 1
    table.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=message):
        Msls(path=Path("msls"), cities=("zurich",)).read(city)


def test_files_that_are_missing_are_named(city: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = city / "msls/train_val/zurich/database"
    reader = Msls(path=Path("msls"), cities=("zurich",))
    (folder / "images/-d1.jpg").unlink()
    (images,) = reader.read(city)
    assert [path.stem for path in images.paths if not path.exists()] == ["-d1"]
    assert "postprocessed.csv:4: there is no image " in caplog.text
    (folder / "raw.csv").unlink()
    with pytest.raises(SourceError, match=r"database/raw\.csv: no such file"):
        reader.read(city)
    (folder / "postprocessed.csv").write_text("")
    with pytest.raises(SourceError, match=r"postprocessed\.csv: holds no rows"):
        reader.read(city)
    with pytest.raises(SourceError, match=r"train_val/miami/database/postprocessed\.csv: no such file"):
        Msls(path=Path("msls"), cities=("miami",)).read(city)


def test_a_city_of_panoramas_has_no_images(tmp_path: Path) -> None:
    write(tmp_path, "goa", "database", [Row("a", pano=True)])
    with pytest.raises(SourceError, match="MSLS goa database: no images"):
        Msls(cities=("goa",)).read(tmp_path)


def test_panoramas_need_no_image(city: Path) -> None:
    (city / "msls/train_val/zurich/database/images/pano.jpg").unlink()
    [images] = Msls(path=Path("msls"), cities=("zurich",)).read(city)
    assert len(images) == 4
