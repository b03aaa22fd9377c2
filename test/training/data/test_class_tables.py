"""Tables of classes say what every id of a label map means, or are refused."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data.classes import NO_CLUSTER, UNKNOWN_ID, ClassTable, read_label_map, read_table
from vpr_ros.errors import ConfigError, ImageError, SourceError

CLUSTERS = ("building", "static", "vegetation", "ground", "sky", "dynamic")
BUILT_IN = ("ade20k", "ade20k_ids", "camvid", "cityscapes", "cityscapes_ids")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_class_of_a_table_has_a_cluster(name: str) -> None:
    table = read_table(name)
    indices = table.cluster_indices(CLUSTERS)
    assert set(np.flatnonzero(indices != UNKNOWN_ID)) == set(table.classes)
    assert set(indices[indices < len(CLUSTERS)]) == set(range(len(CLUSTERS)))
    names = [semantic.name for semantic in table.classes.values()]
    assert len(set(names)) == len(names)


def test_ids_are_those_of_the_data_sets() -> None:
    def names(table: str, *ids: int) -> list[str]:
        return [read_table(table).classes[number].name for number in ids]

    assert names("cityscapes", 0, 2, 8, 10, 13, 18, 19, 255) == [
        *("road", "building", "vegetation", "sky", "car", "bicycle", "other", "unlabelled")
    ]
    assert names("cityscapes_ids", 7, 11, 21, 23, 26, 33) == [
        *("road", "building", "vegetation", "sky", "car", "bicycle")
    ]
    assert names("camvid", 0, 1, 5, 8, 10, 11) == ["sky", "building", "tree", "car", "bicyclist", "void"]
    assert names("ade20k", 0, 2, 12, 20, 149) == ["wall", "sky", "person", "car", "flag"]
    assert len(read_table("ade20k").classes) == 151


def test_ade20k_label_images_count_from_one() -> None:
    predicted, labelled = read_table("ade20k"), read_table("ade20k_ids")
    assert all(labelled.classes[number + 1] == predicted.classes[number] for number in range(150))


def test_cityscapes_train_ids_and_label_ids_agree_on_clusters() -> None:
    label_ids = {one.name: (one.cluster, one.category) for one in read_table("cityscapes_ids").classes.values()}
    train_ids = [one for number, one in read_table("cityscapes").classes.items() if number < 19]
    assert {one.name: (one.cluster, one.category) for one in train_ids}.items() <= label_ids.items()


def test_clusters_are_numbered_as_asked() -> None:
    table = ClassTable.checked(
        {
            "classes": {
                3: {"name": "road", "cluster": "ground"},
                7: {"name": "car", "cluster": "dynamic"},
                9: {"name": "?", "cluster": "void"},
            }
        },
        "here",
    )
    indices = table.cluster_indices(["dynamic", "ground"])
    assert (indices[3], indices[7], indices[9], indices[0]) == (1, 0, NO_CLUSTER, UNKNOWN_ID)
    with pytest.raises(ConfigError, match=r"class 7 \(car\) is of cluster 'dynamic', which is none of ground: add it"):
        table.cluster_indices(["ground"])


def test_masks_by_class_and_category() -> None:
    table = read_table("cityscapes")
    assert list(np.flatnonzero(table.named(["human", "vehicle", "sky"]))) == [10, 11, 12, 13, 14, 15, 16, 17, 18]
    assert list(np.flatnonzero(table.named(["road"]))) == [0]
    assert list(np.flatnonzero(read_table("camvid").named(["human", "vehicle"]))) == [8, 9, 10]
    with pytest.raises(ConfigError, match="the table has no class or category 'humans'; it has bicycle, building"):
        table.named(["human", "humans"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("classes: {}", "classes: Dictionary should have at least 1 item"),
        ("classes: {256: {name: a, cluster: b}}", "256"),
        ("classes: {0: {name: a}}", "classes.0.cluster: Field required"),
        ("classes: {0: {name: a, cluster: b, colour: red}}", "classes.0.colour: Extra inputs"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as refused:
        read_table(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(refused.value)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("classes: {4: {name: shelf, cluster: static}}")
    assert read_table(tmp_path / "mine.yaml").classes[4].name == "shelf"


def test_an_unknown_table_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"no table of classes is called 'city'; there are {', '.join(BUILT_IN)}, or"):
        read_table("city")


def test_an_id_without_a_class_is_found() -> None:
    labels = np.zeros((3, 4), np.uint8)
    read_table("camvid").check_ids(labels, Path("a.png"))
    labels[2, 3] = 37
    with pytest.raises(SourceError, match=r"a\.png holds class id 37, which the table has not; it has 0, 1, 2"):
        read_table("camvid").check_ids(labels, Path("a.png"))


IDS = np.array([[0, 1, 11], [200, 3, 0]], np.uint8)


def test_grey_and_palette_label_images(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "grey.png")
    palette = Image.fromarray(IDS)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        np.testing.assert_array_equal(read_label_map(tmp_path / name), IDS)


def test_a_palette_of_few_colours(tmp_path: Path) -> None:
    few = Image.fromarray(IDS % 4)
    few.putpalette(bytes(range(12)))
    few.save(tmp_path / "few.png", bits=2)
    np.testing.assert_array_equal(read_label_map(tmp_path / "few.png"), IDS % 4)


def grey_png(bits: int) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(IDS > 0) if bits == 1 else Image.fromarray(IDS.astype(np.uint16))
    image.save(content, "png")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cv2.imencode(".jpg", IDS)[1].tobytes(), "is no PNG: class ids survive in no lossy format"),
        (cv2.imencode(".png", np.dstack([IDS] * 3))[1].tobytes(), "must be a PNG of one channel of 8 bits"),
        (grey_png(16), "must be a PNG of one channel of 8 bits"),
        (grey_png(1), "must be a PNG of one channel of 8 bits"),
        (cv2.imencode(".png", IDS)[1].tobytes()[:45], "does not decode as a PNG"),
        (b"", "is no PNG"),
    ],
    ids=["jpeg", "colour", "16 bits", "1 bit", "cut off", "empty"],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.png").write_bytes(content)
    with pytest.raises(ImageError, match=message) as refused:
        read_label_map(tmp_path / "labels.png")
    assert "labels.png" in str(refused.value)


def test_a_missing_label_map() -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png: No such file"):
        read_label_map(Path("nowhere.png"))


def test_the_labels_at_hand_fit_their_tables(shared_data: Path) -> None:
    for table, path in (
        ("cityscapes", shared_data / "kitti/sequences/00/labels_0/000300.png"),
        ("camvid", next((shared_data / "camvid/testannot").iterdir())),
    ):
        read_table(table).check_ids(read_label_map(path), path)
