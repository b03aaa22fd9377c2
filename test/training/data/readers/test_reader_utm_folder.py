"""Trees of the deep visual geo-localization benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_worlds import touch

from training.data.readers.utm_folder import UtmFolder, utm_folder
from vpr_ros.errors import SourceError


def name(
    easting: float, northing: float, zone: str = "17", heading: str = "", timestamp: str = "", note: str = ""
) -> str:
    """As VPR-datasets-downloader writes it."""
    where = f"@{easting:010.2f}@{northing:010.2f}@{zone}@T@040.43854@-079.99690"
    return f"{where}@000829@03@{heading}@@@@{timestamp}@{note}@.jpg"


def write(root: Path, split: str, database: list[str], queries: list[str]) -> Path:
    for role, names in (("database", database), ("queries", queries)):
        folder = root / "images" / split / role
        folder.mkdir(parents=True)
        touch(folder, *names)
    return root


D0 = name(584825.96, 4476945.61, heading="090", timestamp="20190131_101500", note="day_forward_cph")
D1 = name(584825.96, 4476970.61, heading="000", timestamp="20190131", note="night_sideways_cph")
D2 = name(84825.96, 4476945.61, note="pitch1_yaw1")
Q0 = name(584825.96, 4476945.61, timestamp="201306")
Q1 = name(584000.5, 4476945.25)


@pytest.fixture
def pitts(tmp_path: Path) -> Path:
    return write(tmp_path / "pitts30k", "train", [D0, D1, D2], [Q0, Q1])


def test_a_training_set(pitts: Path) -> None:
    [images] = UtmFolder(path=Path("pitts30k")).read(pitts.parent)
    folder = pitts / "images/train"
    assert images.name == "pitts30k train"
    assert images.paths == tuple(folder / "database" / n for n in (D2, D0, D1)) + tuple(
        folder / "queries" / n for n in (Q1, Q0)
    )
    np.testing.assert_array_equal(
        images.positions_m,
        [
            [84825.96, 4476945.61],
            [584825.96, 4476945.61],
            [584825.96, 4476970.61],
            [584000.5, 4476945.25],
            [584825.96, 4476945.61],
        ],
    )
    np.testing.assert_allclose(images.headings_rad, [np.nan, 0, np.pi / 2, np.nan, np.nan], atol=1e-12)
    assert images.sequences.tolist() == [
        "database/0084825.96@4476945.61", "database/20190131", "database/20190131", "query/0584000.50@4476945.25",
        "query/201306",
    ]  # fmt: skip
    assert images.conditions.tolist() == ["", "day", "night", "", ""]
    assert images.places.tolist() == [-1] * 5


def test_a_zone_is_a_set_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "msls", "train", [name(1, 2, "32"), name(1, 2, "10")], [name(3, 4, "32")])
    sets = UtmFolder(path=Path("msls")).read(tmp_path)
    assert [(images.name, len(images)) for images in sets] == [("msls train zone 10", 1), ("msls train zone 32", 2)]
    assert sets[1].sequences.tolist() == ["database/0000001.00@0000002.00", "query/0000003.00@0000004.00"]


def test_the_protocol(pitts: Path) -> None:
    protocol = utm_folder(pitts, "train")
    assert protocol.name == "pitts30k train (UTM folders, all 2 queries)"
    assert protocol.rule == "at most 25 m away; queries without a right answer are asked"
    [part] = protocol.parts
    assert [path.name for path in part.database.paths] == [D2, D0, D1]
    assert [path.name for path in part.queries.paths] == [Q1, Q0]
    assert [right.tolist() for right in part.positives] == [[], [1, 2]]
    [near] = utm_folder(pitts, "train", radius_m=24.9).parts
    assert [right.tolist() for right in near.positives] == [[], [1]]


def test_the_split_is_test_unless_another_is_named(tmp_path: Path) -> None:
    write(tmp_path / "eynsham", "test", [D0], [Q0])
    assert len(utm_folder(tmp_path / "eynsham").parts[0].queries) == 1


def test_folders_in_folders_other_files_and_mock_coordinates(tmp_path: Path) -> None:
    nordland = [f"@0@{2.4 * i:07.1f}@@@@@{i}@@@@@@@@.jpg" for i in range(12)]
    write(tmp_path, "test", [*nordland, "notes.txt", "more/@5@-1@.png"], ["@0@0.0@@@@@0@@@@@@@@.jpg"])
    [part] = utm_folder(tmp_path).parts
    assert [path.name for path in part.database.paths] == [*nordland, "@5@-1@.png"]
    assert part.database.positions_m[-1].tolist() == [5.0, -1.0]
    assert [right.tolist() for right in part.positives] == [[*range(11), 12]]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 9.9e6), st.floats(0, 9.9e6), st.floats(0, 359.5), st.text("ab_1", max_size=5))
def test_what_the_benchmark_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, east: float, north: float, bearing: float, note: str
) -> None:
    heading = f"{int(bearing):03d}"
    root = write(tmp_path_factory.mktemp("utm"), "val", [name(east, north, heading=heading, note=note)], [Q0])
    [part] = utm_folder(root, "val").parts
    np.testing.assert_allclose(part.database.positions_m, [[east, north]], atol=0.00501)
    direction = np.radians(90 - int(bearing))
    np.testing.assert_allclose(
        [np.cos(part.database.headings_rad[0]), np.sin(part.database.headings_rad[0])],
        [np.cos(direction), np.sin(direction)], atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("plain.jpg", "easting is ''"),
        ("@1.0.jpg", "easting is ''"),
        ("@1.0@2.jpg", "northing is ''"),
        ("@1.0@@17@T@.jpg", "northing is ''"),
        ("@east@2.0@17@T@.jpg", "easting is 'east'"),
        ("@1.0@nan@17@T@.jpg", "northing is 'nan'"),
        (name(1, 2, heading="north"), "heading is 'north'"),
    ],
)
def test_a_broken_name_is_refused_with_the_field_at_fault(pitts: Path, file: str, message: str) -> None:
    (pitts / "images/train/queries" / file).touch()
    with pytest.raises(SourceError) as refusal:
        utm_folder(pitts, "train")
    assert str(refusal.value).startswith(
        f"{pitts / 'images/train/queries' / file}: {message}, not a number; names are @easting@"
    )


def test_folders_that_are_missing_or_empty_are_refused(pitts: Path) -> None:
    with pytest.raises(SourceError, match="images/test/database: no such folder"):
        utm_folder(pitts)
    write(pitts, "test", [D0], [])
    with pytest.raises(SourceError, match="images/test/queries: no images"):
        utm_folder(pitts)
