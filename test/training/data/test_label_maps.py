from __future__ import annotations

from pathlib import Path

import pytest

from training.data.classes import read_table
from training.data.image_set import ImageSet, LabelMaps
from training.data.label_maps import LabelMapsAt
from vpr_ros.errors import ConfigError, SourceError


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    paths = [tmp_path / "images" / "a" / "0.jpg", tmp_path / "images" / "b" / "0.png"]
    for folder in ("a", "b"):
        (tmp_path / "maps" / folder).mkdir(parents=True)
        (tmp_path / "maps" / folder / "0.png").write_bytes(b"")
    return ImageSet.of("two", paths)


def test_maps_mirror_the_images(images: ImageSet, tmp_path: Path) -> None:
    found = LabelMapsAt(path="maps", images="images", table="camvid").attach(images, tmp_path)
    assert found.label_maps
    assert found.label_maps.paths == (tmp_path / "maps/a/0.png", tmp_path / "maps/b/0.png")
    assert found.take([1]).label_maps.paths == found.label_maps.paths[1:]
    assert found.fingerprint() != images.fingerprint()


def test_a_missing_map_is_named_with_the_fix(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "maps/b/0.png").unlink()
    with pytest.raises(
        SourceError, match=r"1 of 2 images have no label map, the first at .*b/0\.png; python -m training\.seg"
    ):
        LabelMapsAt(path="maps", images="images").attach(images, tmp_path)


def test_images_elsewhere_are_refused(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"its images are not in label_maps\.images"):
        LabelMapsAt(path="maps", images="other").attach(images, tmp_path)
    with pytest.raises(ConfigError, match="no table of classes is called 'moon'"):
        LabelMapsAt(path="maps", images="images", table="moon").attach(images, tmp_path)


def test_a_union_keeps_maps_only_if_all_have_them(images: ImageSet, tmp_path: Path) -> None:
    mapped = LabelMapsAt(path="maps", images="images").attach(images, tmp_path)
    both = ImageSet.union("both", [mapped, mapped]).label_maps
    assert both
    assert both.paths == mapped.label_maps.paths * 2
    assert ImageSet.union("both", [mapped, images]).label_maps is None
    with pytest.raises(ValueError, match="do not match its 2 images"):
        ImageSet.of("two", images.paths, label_maps=LabelMaps.of(images.paths[:1], read_table("camvid")))
