from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.errors import ConfigError
from vpr_ros.recognition.ignored_regions import IgnoredRegions
from vpr_ros.types import Mask


def mask(text: str, camera: str = "", width: int = 320, height: int = 240, cameras: tuple[str, ...] = ()) -> Mask:
    found = IgnoredRegions(text, cameras).mask(camera, width, height)
    assert found is not None
    return found


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a mask whose left half is black, a mask that is all black, and a file that is no image."""
    half = np.full((480, 640), 255, np.uint8)
    half[:, :320] = 0
    cv2.imwrite(str(tmp_path / "half.png"), half)
    cv2.imwrite(str(tmp_path / "all.png"), half * 0)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["", "  ", ";", " ; "])
def test_nothing_is_ignored(text: str) -> None:
    assert IgnoredRegions(text).mask("", 640, 480) is None


@given(
    st.tuples(*[st.floats(0, 0.9)] * 2)
    .flatmap(lambda corner: st.tuples(st.just(corner), *[st.floats(0.05, max(0.05, 1 - c)) for c in corner]))
    .filter(lambda rectangle: min(rectangle[1:]) < 0.99)  # all of the picture is refused
)
def test_a_rectangle_ignores_its_share(rectangle: tuple[tuple[float, float], float, float]) -> None:
    (x, y), width, height = rectangle
    found = mask(f"{x:.9f} {y:.9f} {width:.9f} {height:.9f}", width=400, height=200)
    assert found.shape == (200, 400)
    assert 1 - found.mean() == pytest.approx(width * height, abs=0.01)
    assert found[int((y + height / 2) * 200), int((x + width / 2) * 400)] == 0


def test_rectangles_add_up() -> None:
    found = mask("0 0.75 1 0.25, 0 0 0.5 0.5")
    assert 1 - found.mean() == 0.5
    assert (found[0, 0], found[0, -1], found[-1, 0], found[-1, -1]) == (0, 1, 0, 0)


def test_each_camera_has_its_own_and_those_of_all() -> None:
    text, cameras = "0 0 1 0.25; front: 0 0.75 1 0.25 ; rear:0 0 0.5 1", ("front", "rear", "left")
    assert mask(text, "front", cameras=cameras).mean() == 0.5
    assert mask(text, "rear", cameras=cameras).mean() == 0.375
    assert mask(text, "left", cameras=cameras).mean() == 0.75
    assert IgnoredRegions("front: 0 0 1 0.5", cameras).mask("rear", 320, 240) is None


def test_a_mask_image_ignores_where_it_is_black(images: Path) -> None:
    for text in ("half.png", str(images / "half.png"), "./half.png"):
        found = mask(text, width=320, height=240)
        assert np.all(found[:, :159] == 0)
        assert np.all(found[:, 161:] == 1)
    assert mask("half.png, 0.5 0 0.5 0.5").mean() == 0.25
    assert mask("front: half.png", "front", cameras=("front",)).mean() == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.png", "cannot read the mask image /.*none.png: No such file"),
        (".", "cannot read the mask image"),
        ("text.png", "text.png is no image; a mask is a PNG"),
        ("empty.png", "empty.png is no image"),
        ("0 0.75 1", "'0 0.75 1' is neither a rectangle nor a mask image; x y width height"),
        ("0 0 1 0.5 0.5", "is neither a rectangle"),
        (",", "'' is neither a rectangle"),
        ("front:", "'' is neither a rectangle"),
        ("0 360 640 120", "0 360 640 120 is not within the picture; .* like 0 0.75 1 0.25"),
        ("0.5 0 0.6 1", "is not within the picture"),
        ("0 0 0 1", "is not within the picture"),
        ("-0.1 0 0.5 0.5", "is not within the picture"),
        ("nan 0 1 1", "is not within the picture"),
        ("rear: 0 0 1 0.5", "there is no camera 'rear'; node.cameras names front"),
    ],
)
def test_what_is_none_is_refused_in_one_line(images: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        IgnoredRegions(text, ("front",))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("verification.ignore")


def test_a_named_camera_where_there_is_one_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="none: leave the name out"):
        IgnoredRegions("front: 0 0 1 0.5", ("",))


def test_a_mask_image_of_another_aspect_is_refused(images: Path) -> None:
    regions = IgnoredRegions("half.png")
    assert regions.mask("", 1280, 960) is not None
    with pytest.raises(ConfigError, match="640 x 480 px, the camera's pictures 1280 x 720: make it of their size"):
        regions.mask("", 1280, 720)


@pytest.mark.parametrize("text", ["0 0 1 1", "all.png", "0 0 1 0.5, 0 0.5 1 0.5"])
def test_a_picture_that_is_ignored_altogether_is_refused(images: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"leaves nothing of the picture; .* verification\.enabled"):
        IgnoredRegions(text).mask("", 640, 480)
