"""dbStruct files: Pittsburgh and Tokyo 24/7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pittsburgh
from pydantic import ValidationError
from scipy.io import savemat
from small_worlds import touch
from tiny_pittsburgh import cells

from training.data.readers.db_struct import (
    DbStruct,
    pitts30k_test,
    pitts30k_val,
    pitts250k_test,
    pitts250k_val,
    pittsburgh,
    tokyo247,
)
from vpr_ros.errors import SourceError

DATABASE = ["000/000829_pitch1_yaw1.jpg", "000/000829_pitch1_yaw2.jpg", "006/006054_pitch2_yaw12.jpg"]
QUERIES = ["000/000546_pitch1_yaw1.jpg", "008/008021_pitch2_yaw12.jpg"]
UTM_DATABASE = [[584825.96, 584825.96, 584292.97], [4476945.61, 4476945.61, 4477000.0]]
UTM_QUERIES = [[584825.96, 584000.0], [4476970.61, 4476970.61]]


def struct(**changes: Any) -> dict[str, Any]:
    return tiny_pittsburgh.struct(DATABASE, UTM_DATABASE, QUERIES, UTM_QUERIES, **changes)


def write(root: Path, name: str = "pitts30k_test", **changes: Any) -> Path:
    file = root / "datasets" / f"{name}.mat"
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"dbStruct": struct(**changes)})
    return file


@pytest.fixture
def pitts(tmp_path: Path) -> Path:
    touch(tmp_path, *DATABASE)
    touch(tmp_path / "queries_real", *QUERIES)
    write(tmp_path)
    return tmp_path


def test_a_training_set(pitts: Path) -> None:
    [images] = DbStruct(path=Path(pitts.name), file=Path("datasets/pitts30k_test.mat")).read(pitts.parent)
    assert images.name == "pitts30k_test"
    assert images.paths == (*(pitts / name for name in DATABASE), *(pitts / "queries_real" / name for name in QUERIES))
    np.testing.assert_array_equal(images.positions_m, np.hstack([UTM_DATABASE, UTM_QUERIES]).T)
    assert np.isnan(images.headings_rad).all()
    assert images.places.tolist() == [-1] * 5
    assert images.sequences.tolist() == ["database/1", "database/1", "database/0", "query/1", "query/0"]
    assert images.conditions.tolist() == [""] * 5


def test_the_protocol(pitts: Path) -> None:
    protocol = pitts30k_test(pitts)
    assert (protocol.name, protocol.rule) == ("pitts30k_test", "at most 25 m away")
    [part] = protocol.parts
    assert part.database.paths == tuple(pitts / name for name in DATABASE)
    assert part.queries.paths == tuple(pitts / "queries_real" / name for name in QUERIES)
    np.testing.assert_array_equal(part.queries.positions_m, np.transpose(UTM_QUERIES))
    assert [right.tolist() for right in part.positives] == [[0, 1], []]
    assert part.stop is None


def test_the_struct_says_how_near_is_right(pitts: Path) -> None:
    write(pitts, posDistThr=np.uint8(24))
    protocol = pitts30k_test(pitts)
    assert protocol.rule == "at most 24 m away"
    assert [right.tolist() for right in protocol.parts[0].positives] == [[], []]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (pitts30k_val, "pitts30k_val"),
        (pitts30k_test, "pitts30k_test"),
        (pitts250k_val, "pitts250k_val"),
        (pitts250k_test, "pitts250k_test"),
    ],
)
def test_each_split_reads_its_own_struct(pitts: Path, make: Any, name: str) -> None:
    write(pitts, name, numQueries=np.uint16(1), qImageFns=cells(QUERIES[1:]), utmQ=np.array(UTM_QUERIES)[:, 1:])
    protocol = make(pitts)
    assert protocol.name == name
    assert [len(protocol.parts[0].queries), len(protocol.parts[0].database)] == [1, 3]


def test_the_field_order_does_not_matter(pitts: Path) -> None:
    savemat(
        pitts / "datasets/other.mat", {"dbStruct": {"dbTimeStamp": [201306] * 3} | dict(reversed(struct().items()))}
    )
    [part], [expected] = pittsburgh(pitts, "datasets/other.mat").parts, pitts30k_test(pitts).parts
    assert part.database.paths == expected.database.paths
    np.testing.assert_array_equal(part.database.positions_m, expected.database.positions_m)


@pytest.fixture
def tokyo(tmp_path: Path) -> Path:
    spot = "03814/381418.231_3946450.428"
    database = [f"{spot}/JHVdmPpMNQcjBfR7qsWEtA_012_{yaw:03d}.jpg" for yaw in (0, 30, 60)]
    queries = ["00010.jpg", "00011.jpg", "00012.jpg"]
    touch(tmp_path / "database_gsv_vga", *(name.replace(".jpg", ".png") for name in database))
    touch(tmp_path / "247query_subset_v2", *queries)
    for name, time in zip(queries[:2], "SN", strict=True):
        (tmp_path / "247query_subset_v2" / name).with_suffix(".csv").write_text(f"{name},35.6,139.7,0,0,{time},0,0\n")
    write(
        tmp_path, "tokyo247",
        dbImageFns=cells(database), utmDb=np.array([[381418.23] * 3, [3946450.43] * 3]), numImages=np.int32(3),
        qImageFns=cells(queries), utmQ=np.array([[381418.23, 381418.23, 382000.0], [3946450.43] * 3]),
        numQueries=np.uint16(3),
    )  # fmt: skip
    return tmp_path


def test_tokyo_has_png_files_where_its_struct_says_jpg(tokyo: Path) -> None:
    protocol = tokyo247(tokyo)
    assert protocol.name == "Tokyo 24/7 (3 queries)"
    [part] = protocol.parts
    assert [path.name for path in part.database.paths] == [
        f"JHVdmPpMNQcjBfR7qsWEtA_012_{yaw}.png" for yaw in ("000", "030", "060")
    ]
    assert [path.name for path in part.queries.paths] == ["00010.jpg", "00011.jpg", "00012.jpg"]
    assert [right.tolist() for right in part.positives] == [[0, 1, 2], [0, 1, 2], []]
    assert part.queries.sequences.tolist() == ["query/0", "query/0", "query/1"]


def test_tokyo_queries_know_their_time_of_day(tokyo: Path) -> None:
    [part] = tokyo247(tokyo).parts
    assert part.queries.conditions.tolist() == ["sunset", "night", ""]
    folder = tokyo / "247query_subset_v2"
    (folder / "00010.csv").write_text("00010.jpg,35.6,139.7,0,0,D")
    (folder / "00011.csv").write_text("00011.jpg,35.6,139.7\n")
    (folder / "00012.csv").write_text("")
    [part] = tokyo247(tokyo).parts
    assert part.queries.conditions.tolist() == ["day", "", ""]


def test_tokyo_folders_may_have_other_names(tokyo: Path) -> None:
    (tokyo / "247query_subset_v2").rename(tokyo / "247query_v3")
    (tokyo / "database_gsv_vga").rename(tokyo / "images")
    [part] = tokyo247(tokyo, database="images", queries="247query_v3").parts
    assert len(part.queries) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"utmQ": None, "posDistThr": None}, r"dbStruct has no field utmQ, posDistThr; it has whichSet, dbImageFns"),
        (
            {"numImages": np.uint16(4)},
            r"dbStruct has 3 dbImageFns, utmDb is 2 x 3 and numImages 4; they must be N, 2 x N",
        ),
        ({"utmDb": np.array(UTM_DATABASE).T}, r"dbStruct has 3 dbImageFns, utmDb is 3 x 2 and numImages 3"),
        ({"utmQ": np.array(UTM_QUERIES)[:, :1]}, r"dbStruct has 2 qImageFns, utmQ is 2 x 1 and numQueries 2"),
        ({"qImageFns": cells(QUERIES[:1])}, r"dbStruct has 1 qImageFns, utmQ is 2 x 2 and numQueries 2"),
        ({"utmQ": np.array([[584825.96, np.nan], [1.0, 2.0]])}, r"column 2 of utmQ is not finite"),
        ({"dbImageFns": cells([DATABASE[0]] * 3)}, r"dbImageFns\{2\}: image 000/000829_pitch1_yaw1 is named twice"),
    ],
)
def test_a_struct_that_contradicts_itself_is_refused(pitts: Path, changes: dict[str, Any], message: str) -> None:
    write(pitts, **changes)
    with pytest.raises(SourceError, match=r"pitts30k_test\.mat: " + message):
        pitts30k_test(pitts)


def test_an_image_that_is_missing_is_counted(pitts: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = pitts30k_test(pitts)
    (pitts / DATABASE[2]).unlink()
    part, before = pitts30k_test(pitts).parts[0], whole.parts[0]
    assert part.database.paths == before.database.paths
    assert "dbImageFns{3}: there is no image " in caplog.text
    assert f"1 of {len(DATABASE)} are missing and count as unreadable" in caplog.text


def test_files_that_are_no_struct_are_refused(pitts: Path) -> None:
    file = pitts / "datasets/pitts30k_test.mat"
    whole = file.read_bytes()
    hdf5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM" + bytes(384)
    for content, message in (
        (b"a text " * 50, "cannot be read as a MATLAB file"),
        (b"", "cannot be read as a MATLAB file"),
        (whole[: len(whole) // 2], "cannot be read as a MATLAB file"),
        (hdf5 + b"\x89HDF\r\n\x1a\n", r"is a MATLAB 7\.3 file; save it again in MATLAB with save -v7"),
    ):
        file.write_bytes(content)
        with pytest.raises(SourceError, match=rf"pitts30k_test\.mat: {message}"):
            pitts30k_test(pitts)
    for content in ({"dbfnames": cells(DATABASE)}, {"dbStruct": np.zeros(3)}):
        savemat(file, content)
        with pytest.raises(SourceError, match=r"pitts30k_test\.mat: holds no struct dbStruct"):
            pitts30k_test(pitts)
    file.unlink()
    with pytest.raises(SourceError, match=r"pitts30k_test\.mat: no such file"):
        pitts30k_test(pitts)


def test_a_recipe_must_name_the_struct() -> None:
    with pytest.raises(ValidationError, match="file"):
        DbStruct.model_validate({"kind": "db_struct"})
