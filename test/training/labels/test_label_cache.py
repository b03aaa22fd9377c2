from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, save_npz

from training.data.image_set import ImageSet
from training.labels import cache
from training.labels.cache import label
from training.labels.rules import Distance, SamePlace

TOWN = ImageSet.of("town", [Path(f"{i}.jpg") for i in range(4)], places=[0, 1, 0, 1], positions_m=np.zeros((4, 2)))
EXPECTED = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows whenever labels are computed rather than read."""
    names: list[str] = []
    original = SamePlace.similarity

    def counted(self: SamePlace, images: ImageSet) -> csr_array:
        names.append(images.name)
        return original(self, images)

    monkeypatch.setattr(SamePlace, "similarity", counted)
    return names


def test_labels_are_computed_once(tmp_path: Path, computed: list[str]) -> None:
    first, second = label(TOWN, SamePlace(), tmp_path / "labels"), label(TOWN, SamePlace(), tmp_path / "labels")
    assert computed == ["town"]
    for matrix in (first, second):
        assert isinstance(matrix, csr_array)
        assert matrix.dtype == np.float32
        assert matrix.has_sorted_indices
        np.testing.assert_array_equal(matrix.toarray(), EXPECTED)
    (file,) = (tmp_path / "labels").iterdir()
    assert file.name.startswith("same_place-")


def test_what_is_unknown_survives_the_cache(tmp_path: Path) -> None:
    rule = Distance(positive_m=1.0, negative_m=30.0)
    images = ImageSet.of("road", TOWN.paths, positions_m=[[0, 0], [20, 0], [21, 0], [90, 0]])
    np.testing.assert_array_equal(label(images, rule, tmp_path).toarray(), label(images, rule, tmp_path).toarray())
    assert np.isnan(label(images, rule, tmp_path)[0, 1])


def test_without_a_cache_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    label(TOWN, SamePlace())
    label(TOWN, SamePlace())
    assert len(computed) == 2
    assert list(tmp_path.iterdir()) == []


def test_other_images_another_rule_or_version_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    label(TOWN, SamePlace(), tmp_path)
    label(TOWN.take([0, 1, 2]), SamePlace(), tmp_path)
    assert len(computed) == 2
    label(TOWN, Distance(), tmp_path)
    label(TOWN, Distance(positive_m=5.0), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(cache, "_VERSION", 0)
    label(TOWN, SamePlace(), tmp_path)
    assert len(computed) == 3


def saved(matrix: csr_array) -> bytes:
    file = io.BytesIO()
    save_npz(file, matrix)
    return file.getvalue()


def with_a_pickle() -> bytes:
    file = io.BytesIO()
    arrays = {"format": b"csr", "shape": (4, 4), "indices": np.zeros(0), "indptr": np.zeros(5)}
    np.savez(file, data=np.array([object()], dtype=object), **arrays)
    return file.getvalue()


def out_of_range() -> bytes:
    matrix = csr_array(np.eye(4, dtype=np.float32))
    matrix.indices[2] = 9
    return saved(matrix)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        saved(csr_array(EXPECTED))[:-200],
        saved(csr_array((3, 3))),
        out_of_range(),
        with_a_pickle(),
    ],
    ids=["empty", "text", "cut", "other size", "other indices", "pickle"],
)
def test_a_damaged_file_is_computed_again(
    tmp_path: Path, computed: list[str], caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    label(TOWN, SamePlace(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    np.testing.assert_array_equal(label(TOWN, SamePlace(), tmp_path).toarray(), EXPECTED)
    assert len(computed) == 2
    assert f"{file} is damaged" in caplog.text
    label(TOWN, SamePlace(), tmp_path)
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    occupied = tmp_path / "labels"
    occupied.write_text("a file where the folder should be")
    np.testing.assert_array_equal(label(TOWN, SamePlace(), occupied).toarray(), EXPECTED)
    assert "cannot be written" in caplog.text
