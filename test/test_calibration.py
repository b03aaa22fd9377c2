"""Which camera an image has: exact arithmetic where it is certain, a reason where it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.calibration import Calibration, Calibrations, CameraForImage, camera_for_image, is_rectified
from vpr_ros.types import Camera, Frame

K = (500.0, 0.0, 310.0, 0.0, 520.0, 250.0, 0.0, 0.0, 1.0)
P = (450.0, 0.0, 300.0, -45.0, 0.0, 450.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0)
D = (-0.3, 0.1, 0.001, -0.002, 0.0)
RIGHT = Calibration(640, 480, K, D, "plumb_bob", P)


def with_k(**changes: float) -> tuple[float, ...]:
    names = ("fx", "skew", "cx", "below", "fy", "cy", "left", "middle", "one")
    return tuple(changes.get(name, value) for name, value in zip(names, K, strict=True))


def camera(calibration: Calibration, width: int = 640, height: int = 480, *, rectified: bool = False) -> Camera:
    judged = camera_for_image(calibration, width, height, rectified=rectified)
    assert judged.camera is not None, judged.why
    return judged.camera


def test_as_published() -> None:
    assert camera_for_image(RIGHT, 640, 480) == CameraForImage(Camera(500, 520, 310, 250, 640, 480, D))
    assert str(camera_for_image(RIGHT, 640, 480)) == ""


@settings(max_examples=60, deadline=None)
@given(
    left=st.integers(0, 200),
    top=st.integers(0, 100),
    columns=st.integers(1, 50),
    rows=st.integers(1, 50),
    binning=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_pixel_that_is_the_mean_of_others_looks_along_the_mean_of_their_rays(
    left: int, top: int, columns: int, rows: int, binning: tuple[int, int]
) -> None:
    """The oracle makes the image: each of its pixels is a block of pixels of the full one."""
    by_x, by_y = binning
    cut = replace(RIGHT, roi=(left, top, columns * by_x, rows * by_y), binning=binning)
    got = camera(cut, columns, rows)
    assert (got.width, got.height) == (columns, rows)
    for i in (0, columns // 2, columns - 1):
        block = left + np.arange(i * by_x, (i + 1) * by_x)
        assert (i - got.cx) / got.fx == pytest.approx(np.mean((block - K[2]) / K[0]), abs=1e-9)
    for i in (0, rows // 2, rows - 1):
        block = top + np.arange(i * by_y, (i + 1) * by_y)
        assert (i - got.cy) / got.fy == pytest.approx(np.mean((block - K[5]) / K[4]), abs=1e-9)
    assert got.distortion == D, "it acts on rays, not on pixels"


@settings(max_examples=30, deadline=None)
@given(factor=st.sampled_from([2, 4, 5, 8]), larger=st.booleans())
def test_a_whole_number_factor_is_scaled_like_binning_and_said(factor: int, larger: bool) -> None:
    small = camera(replace(RIGHT, binning=(factor, factor)), 640 // factor, 480 // factor)
    if not larger:
        judged = camera_for_image(RIGHT, 640 // factor, 480 // factor)
        assert judged.camera == small
    else:
        k = tuple(small.matrix.ravel())
        judged = camera_for_image(Calibration(small.width, small.height, k, D, "plumb_bob"), 640, 480)
        assert judged.camera is not None
        np.testing.assert_allclose(judged.camera.matrix, np.reshape(K, (3, 3)), rtol=1e-12)
    assert "640 x 480 px" in judged.why
    assert f"{small.width} x {small.height} px" in judged.why
    assert judged.why.endswith(f"scaled by {factor if larger else f'1/{factor}'}")


def test_binning_that_the_image_does_not_show_is_not_applied_and_said() -> None:
    judged = camera_for_image(replace(RIGHT, binning=(2, 2)), 640, 480)
    assert judged.camera == camera(RIGHT)
    assert "its binning by 2 x 2 is not applied" in judged.why


@pytest.mark.parametrize(
    ("calibration", "size", "words"),
    [
        (RIGHT, (640, 400), "is for 640 x 480 px, images are 640 x 400 px: publish the camera_info of 640 x 400 px"),
        (RIGHT, (424, 240), "is for 640 x 480 px, images are 424 x 240 px"),
        (RIGHT, (320, 120), "is for 640 x 480 px, images are 320 x 120 px"),
        (RIGHT, (960, 720), "images are 960 x 720 px"),  # one and a half times
        (replace(RIGHT, width=641), (320, 240), "is for 641 x 480 px, images are 320 x 240 px"),
        (RIGHT, (480, 640), "is for 640 x 480 px, images are 480 x 640 px: they are turned"),
        (RIGHT, (240, 320), "is for 640 x 480 px, images are 240 x 320 px: they are turned"),
        (replace(RIGHT, roi=(100, 40, 320, 240)), (640, 480), "is for 320 x 240 px, images are 640 x 480 px"),
        (replace(RIGHT, roi=(100, 40, 320, 240)), (160, 120), "is for 320 x 240 px, images are 160 x 120 px"),
        (replace(RIGHT, roi=(400, 40, 320, 240)), (320, 240), "roi at (400, 40) that lies outside its 640 x 480 px"),
        (replace(RIGHT, roi=(100, 0, 0, 0)), (640, 480), "lies outside"),
        (replace(RIGHT, binning=(700, 1)), (1, 480), "bins its image by 700 x 1, which leaves nothing"),
        (replace(RIGHT, width=0, height=0), (640, 480), "is for an image of 0 px"),
    ],
)
def test_a_calibration_of_another_image_is_refused_with_both_sizes(
    calibration: Calibration, size: tuple[int, int], words: str
) -> None:
    judged = camera_for_image(calibration, *size)
    assert judged.camera is None
    assert words in judged.why
    assert str(judged) == f"closures come without a relative pose: {judged.why}"
    assert "\n" not in str(judged)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": (0.0,) * 9}, "camera_info is not calibrated (K is zero)"),
        ({"k": tuple(np.eye(3).ravel())}, "focal length fx of 1 px for 640 x 480 px"),
        ({"k": with_k(fx=math.nan)}, "K that is not finite"),
        ({"k": with_k(cx=math.inf)}, "K that is not finite"),
        ({"k": with_k(fx=-500.0)}, "focal lengths of -500 and 520 px"),
        ({"k": with_k(fy=0.0)}, "focal lengths of 500 and 0 px"),
        ({"k": with_k(fx=1e-3, fy=1e-3)}, "focal length fx of 0.001 px"),
        ({"k": with_k(fx=1e6, fy=1e6)}, "focal length fx of 1e+06 px"),
        ({"k": with_k(fx=1000.0)}, "focal lengths that disagree (1000 and 520 px)"),
        ({"k": with_k(cx=-50.0)}, "principal point (-50, 250) outside an image of 640 x 480 px"),
        ({"k": with_k(cy=4000.0)}, "principal point (310, 4000) outside"),
        ({"k": with_k(cx=0.0, cy=0.0)}, "principal point (0, 0) outside"),
        ({"k": with_k(skew=50.0)}, "skew of 50 px"),
        ({"k": tuple(np.reshape(K, (3, 3)).T.ravel())}, "no camera matrix"),
        ({"k": with_k(one=0.0)}, "no camera matrix"),
        ({"distortion": (math.nan,) * 5}, "distortion (D) that is not finite"),
        ({"distortion": (math.inf, 0.0, 0.0, 0.0, 0.0)}, "distortion (D) that is not finite"),
        ({"distortion": (0.1,) * 3}, "3 coefficients of plumb_bob in D"),
        ({"distortion": (50.0, 100.0, 0.0, 0.0, 0.0)}, "cannot be undone in"),
        ({"model": "kannala_brandt"}, "unknown distortion model 'kannala_brandt'"),
        ({"model": "double_sphere", "distortion": (0.0,) * 5}, "unknown distortion model 'double_sphere'"),
        ({"model": ""}, "unknown distortion model ''"),
        ({"model": "equidistant"}, "5 coefficients of equidistant in D, not 4"),
        ({"model": "equidistant", "distortion": (0.0,) * 5}, "5 coefficients of equidistant in D, not 4"),
        ({"model": "equidistant", "distortion": (math.nan,) * 4}, "not finite"),
    ],
)
def test_an_implausible_calibration_is_refused(changes: dict[str, object], words: str) -> None:
    judged = camera_for_image(replace(RIGHT, **changes), 640, 480)
    assert judged.camera is None
    assert words in judged.why


def test_models_that_are_known() -> None:
    plain = replace(RIGHT, distortion=(0.0,) * 5)
    assert camera(plain).distortion == ()
    assert camera(replace(plain, model="", distortion=())).distortion == ()
    rational = (0.78, -2.98, 0.00075, 0.00006, 1.7, 0.657, -2.81, 1.63)  # an Azure Kinect
    for more in ((), (0.001, 0.0002, -0.001, 0.0001), (0.001, 0.0002, -0.001, 0.0001, 0.0, 0.0)):
        found = camera(replace(RIGHT, model="rational_polynomial", distortion=rational + more))
        assert (found.distortion, found.fisheye) == (rational + more, False)
    t265 = replace(RIGHT, k=with_k(fx=215.0, fy=215.0), model="equidistant")
    for lens in ((-0.0022, 0.0376, -0.0364, 0.0059), (0.0,) * 4):  # zeros are a lens, too
        found = camera(replace(t265, distortion=lens))
        assert (found.distortion, found.fisheye) == (lens, True)


def test_a_fisheye_image_whose_corners_see_behind_the_camera_has_one_and_one_that_mostly_does_has_none() -> None:
    lens = replace(RIGHT, model="equidistant", distortion=(0.0,) * 4)
    assert camera(replace(lens, k=with_k(fx=180.0, fy=180.0))).fisheye
    judged = camera_for_image(replace(lens, k=with_k(fx=90.0, fy=90.0)), 640, 480)
    assert judged.camera is None
    assert "cannot be undone" in judged.why


def test_a_rectified_image_has_p_and_no_distortion() -> None:
    assert camera(RIGHT, rectified=True) == Camera(450, 450, 300, 230, 640, 480)
    half = camera(RIGHT, 320, 240, rectified=True)
    assert (half.fx, half.cx, half.cy) == (225, (300 + 0.5) / 2 - 0.5, (230 + 0.5) / 2 - 0.5)
    of_fisheye = replace(RIGHT, model="equidistant", distortion=(0.1,) * 4)
    assert camera(of_fisheye, rectified=True) == Camera(450, 450, 300, 230, 640, 480)
    assert camera(replace(RIGHT, k=(0.0,) * 9), rectified=True).fx == 450
    assert camera(replace(RIGHT, model="made up"), rectified=True).fx == 450, "what it was rectified by is over"


def test_a_rectified_image_without_p() -> None:
    without = replace(RIGHT, p=(0.0,) * 12)
    assert "has no P" in camera_for_image(without, 640, 480, rectified=True).why
    of_fisheye = replace(without, model="equidistant", distortion=(0.0,) * 4)
    assert "has no P" in camera_for_image(of_fisheye, 640, 480, rectified=True).why
    plain = replace(without, distortion=(0.0,) * 5)
    assert camera(plain, rectified=True) == camera(plain), "nothing was there to rectify"
    bad = replace(RIGHT, p=(math.nan, *P[1:]))
    assert "P that is not finite" in camera_for_image(bad, 640, 480, rectified=True).why


def test_without_a_size_the_principal_point_tells() -> None:
    unsized = Calibration(None, None, (718.9, 0, 607.2, 0, 718.9, 185.2, 0, 0, 1), name="calib.txt")
    assert camera(unsized, 1241, 376) == Camera(718.9, 718.9, 607.2, 185.2, 1241, 376)
    judged = camera_for_image(unsized, 620, 188)
    assert judged.camera is None
    assert judged.why.startswith(
        "calib.txt has its principal point at (607.2, 185.2), far from the middle of images of 620 x 188 px"
    )


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 1e-9, 300.0, 320.0, 1e308, math.nan, math.inf]),
)


@settings(max_examples=300, deadline=None)
@given(
    k=st.tuples(*[NUMBERS] * 4),
    distortion=st.lists(NUMBERS | st.floats(-0.5, 0.5), max_size=14).map(tuple),
    model=st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant", "fisheye"]),
    size=st.tuples(st.integers(0, 2000), st.integers(0, 2000)),
    image=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    same=st.booleans(),
    rectified=st.booleans(),
)
def test_whatever_is_published_the_camera_is_finite_and_of_the_image_or_there_is_a_reason(
    k: tuple[float, ...],
    distortion: tuple[float, ...],
    model: str,
    size: tuple[int, int],
    image: tuple[int, int],
    same: bool,
    rectified: bool,
) -> None:
    matrix = (k[0], 0.0, k[1], 0.0, k[2], k[3], 0.0, 0.0, 1.0)
    p = (*matrix[:3], 0.0, *matrix[3:6], 0.0, *matrix[6:], 0.0)
    calibration = Calibration(*(image if same else size), matrix, distortion, model, p)
    judged = camera_for_image(calibration, *image, rectified=rectified)
    if judged.camera is None:
        assert judged.why
        return
    assert (judged.camera.width, judged.camera.height) == image
    assert np.isfinite(judged.camera.matrix).all()
    assert all(map(math.isfinite, judged.camera.distortion))


def test_opencv_never_sees_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    undistort = cv2.undistortPoints

    def watched(points: np.ndarray, k: np.ndarray, d: np.ndarray) -> np.ndarray:
        seen.extend((k, d))
        return undistort(points, k, d)

    monkeypatch.setattr(cv2, "undistortPoints", watched)
    for i in range(5):
        for value in (math.nan, math.inf, -math.inf):
            distortion = tuple(value if j == i else 0.01 for j in range(5))
            assert camera_for_image(replace(RIGHT, distortion=distortion), 640, 480).camera is None
    assert not seen
    assert camera_for_image(replace(RIGHT, distortion=(0.01,) * 5), 640, 480).camera is not None
    assert seen
    assert all(np.isfinite(values).all() for values in seen)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam/image_rect", True),
        ("/cam/image_rect_color", True),
        ("/cam/image_rect/compressed", True),
        ("/left/image_rect_raw", True),
        ("/zed/rgb/rect/image", True),
        ("/zed/rgb/color/rect/image/compressed", True),
        ("/cam/image_rectified", True),
        ("/cam/image_raw", False),
        ("/cam/image_raw/compressed", False),
        ("/cam/image_color", False),
        ("/direct/image", False),
        ("/corrected/image_raw", False),
        ("image", False),
    ],
)
def test_rectified_topics_are_known_by_their_names(topic: str, rectified: bool) -> None:
    assert is_rectified(topic) is rectified


def info(k: tuple[float, ...] = K, d: tuple[float, ...] = D) -> Calibration:
    """As it comes with each message: other objects every time."""
    return Calibration(640, 480, tuple(float(str(v)) for v in k), tuple(v * 1.0 for v in d), "plumb_bob", P)


def test_a_new_calibration_is_used_and_said_once() -> None:
    stream = Calibrations()
    assert stream.camera_for(640, 480) == CameraForImage(None), "nothing came yet, and nothing is wrong"
    assert stream.update(info()) == ""
    assert stream.update(info()) == ""
    change = stream.update(info(with_k(fx=600.0)))
    assert "fx 500" in change
    assert "fx 600" in change
    assert stream.update(info(with_k(fx=600.0))) == ""
    found = stream.camera_for(640, 480).camera
    assert found is not None
    assert found.fx == 600
    assert "fx 700" in stream.update(info(with_k(fx=700.0)))


def test_two_that_alternate_are_named_until_they_stop() -> None:
    one, other = info(), info(with_k(fx=600.0))
    stream = Calibrations()
    changes = [stream.update(each) for each in (one, other, one, other, one, one, other)]
    assert [bool(change) for change in changes] == [False, True, False, False, False, False, False]
    judged = stream.camera_for(640, 480)
    assert judged.camera is None
    assert "alternate" in judged.why
    assert "fx 500" in judged.why
    assert "fx 600" in judged.why
    stream.update(one)
    assert stream.camera_for(640, 480) == judged, "one sentence, whichever came last"
    for _ in range(10):
        assert stream.update(one) == ""
    assert stream.camera_for(640, 480).camera == camera(RIGHT)
    assert "changed" in stream.update(other), "a change after a steady time is no alternation"
    assert stream.camera_for(640, 480).camera is not None


def test_a_calibration_with_nan_does_not_change_from_message_to_message() -> None:
    class Message:
        width, height, distortion_model, binning_x, binning_y = 640, 480, "plumb_bob", 0, 0
        k, p = K, P

        roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)

        @property
        def d(self) -> list[float]:
            return [float("nan")] * 5

    stream = Calibrations()
    assert [stream.update(Calibration.of_info(Message())) for _ in range(3)] == ["", "", ""]
    assert hash(Calibration.of_info(Message())) == hash(Calibration.of_info(Message()))


def test_a_frame_refuses_the_camera_of_another_image() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    right = camera(RIGHT)
    assert Frame(1, image, right).camera == right
    with pytest.raises(ValueError, match="for images of 320 x 240 px, and this one is 640 x 480 px"):
        Frame(1, image, camera(RIGHT, 320, 240))
    for wrong in (replace(right, fx=math.nan), replace(right, distortion=(math.inf,) * 4)):
        with pytest.raises(ValueError, match="not finite"):
            Frame(1, image, wrong)
