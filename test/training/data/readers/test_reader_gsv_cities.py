"""Tiny cities with the csv columns and file names of GSV-Cities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.readers.gsv_cities import GsvCities
from vpr_ros.errors import SourceError

HEADER = "place_id,year,month,northdeg,city_id,lat,lon,panoid"
LONDON = [
    ("130,2018,4,15,London,51.4861,-0.0895151,6jFjb3wGyCkcBfq4k559ag", "London_0000130_2018_04_015_51.4861_-0.0895151_6jFjb3wGyCkcBfq4k559ag.JPG"),
    ("130,2008,10,263,London,51.51773366144955,-0.1279837045183434,cJ_vHsqb-EJ", "London_0000130_2008_10_263_51.51773366144955_-0.1279837045183434_cJ_vHsqb-EJ.jpg"),
    ("7,2018,4,0,London,51.500,0.0,x", "London_0000007_2018_04_000_51.5_0.0_x.jpg"),
]  # fmt: skip


@pytest.fixture
def gsv(tmp_path: Path) -> Path:
    write(tmp_path, "London", LONDON)
    return tmp_path


def write(root: Path, city: str, rows: list[tuple[str, str]]) -> None:
    (root / "Dataframes").mkdir(exist_ok=True)
    (root / "Images" / city).mkdir(parents=True)
    (root / "Dataframes" / f"{city}.csv").write_text("\n".join([HEADER, *(row for row, _ in rows)]) + "\n")
    for _, name in rows:
        (root / "Images" / city / name).touch()


def test_a_city(gsv: Path) -> None:
    [images] = GsvCities(path=Path(gsv.name)).read(gsv.parent)
    assert images.name == "GSV-Cities London"
    assert images.paths == tuple(gsv / "Images/London" / name for _, name in LONDON)
    assert images.places.tolist() == [130, 130, 7]
    np.testing.assert_allclose(images.headings_rad, np.radians([75, -173, 90]))
    assert images.sequences.tolist() == ["2018-04", "2008-10", "2018-04"]
    assert images.conditions.tolist() == ["", "", ""]


def test_positions_are_metres(tmp_path: Path) -> None:
    degrees = [(60.0, 10.0), (60.001, 10.0), (60.0, 10.001)]
    rows = [
        (f"{i},2018,4,0,Oslo,{lat},{lon},p", f"Oslo_000000{i}_2018_04_000_{lat}_{lon}_p.jpg")
        for i, (lat, lon) in enumerate(degrees)
    ]
    write(tmp_path, "Oslo", rows)
    [images] = GsvCities().read(tmp_path)
    east, north = (images.positions_m - images.positions_m[0]).T
    metre_deg = 1 / 111_195  # 6,371 km * pi / 180
    np.testing.assert_allclose(north, [0, 0.001 / metre_deg, 0], atol=0.01)
    np.testing.assert_allclose(east, [0, 0, 0.0005 / metre_deg], atol=0.01)  # cos 60 deg = 0.5
    np.testing.assert_allclose(images.positions_m.mean(axis=0), 0, atol=1e-6)


def test_all_cities_or_those_that_are_named(gsv: Path) -> None:
    write(gsv, "Bangkok", [("1,2019,8,218,Bangkok,13.7154238856932,100.4848777732716,alIIqPQFyy4iZ0UEaeTEVw", "Bangkok_0000001_2019_08_218_13.7154238856932_100.4848777732716_alIIqPQFyy4iZ0UEaeTEVw.jpg")])  # fmt: skip
    assert [images.name for images in GsvCities().read(gsv)] == ["GSV-Cities Bangkok", "GSV-Cities London"]
    assert [images.name for images in GsvCities(cities=("London",)).read(gsv)] == ["GSV-Cities London"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("51.4861,", ",", r"London\.csv:2: lat is missing"),
        ("-0.0895151", "west", r"London\.csv:2: lon is 'west', not a number"),
        ("130,2018", "a,2018", r"London\.csv:2: place_id is 'a', not a number"),
        ("130,2018", "-1,2018", r"London\.csv:2: place_id is '-1', not a whole number from 0"),
        ("130,2008", "130.5,2008", r"London\.csv:3: place_id is '130\.5', not a whole number"),
        ("panoid", "pano", r"London\.csv:1: has no column panoid; it has place_id"),
        (",cJ_vHsqb-EJ", "", r"London\.csv:3: has 7 fields where the header has 8"),
        (LONDON[1][0], LONDON[0][0], r"London\.csv:3: image London/London_0000130_2018.* is named twice"),
    ],
)  # fmt: skip
def test_a_broken_row_is_refused_with_its_line(gsv: Path, old: str, new: str, message: str) -> None:
    table = gsv / "Dataframes/London.csv"
    text = table.read_text()
    assert text.count(old) == 1
    table.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=message):
        GsvCities().read(gsv)


def test_an_image_that_is_missing_is_counted(gsv: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = gsv / "Dataframes/London.csv"
    table.write_text(table.read_text().replace("51.500", "51.501"))
    (images,) = GsvCities().read(gsv)
    assert [path.exists() for path in images.paths] == [True, True, False]
    assert "London.csv:4: there is no image " in caplog.text
    assert "1 of 3 are missing and count as unreadable" in caplog.text


def test_folders_that_hold_no_city_are_refused(gsv: Path) -> None:
    with pytest.raises(SourceError, match=r"Dataframes/Paris\.csv: no such file"):
        GsvCities(cities=("Paris",)).read(gsv)
    with pytest.raises(SourceError, match="none/Dataframes: holds no csv files"):
        GsvCities(path=Path("none")).read(gsv)
    (gsv / "Dataframes/London.csv").write_text(HEADER + "\n")
    with pytest.raises(SourceError, match=r"London\.csv: holds no rows below a header"):
        GsvCities().read(gsv)
