"""What stays at its pixel is a place only where everything stays."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.config import VerificationConfig
from vpr_ros.recognition.own_body import is_everywhere, on_body
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import Image, LocalFeatures, Verification

WIDTH, HEIGHT = 400, 300
NEEDED = VerificationConfig()
VERIFIER = GeometricVerifier(NEEDED)


def views(kept: NDArray[np.bool_], scale: float = 1.0) -> tuple[LocalFeatures, LocalFeatures, NDArray[np.int64]]:
    """Features all over a picture, and in a second picture: the `kept` at their pixels, the others anywhere.

    And the nearest of each in the other picture; those that are not kept have theirs elsewhere.
    """
    rng = np.random.default_rng(1)
    points = rng.uniform(0, [WIDTH, HEIGHT], (len(kept), 2)).astype(np.float32)
    moved = np.where(
        kept[:, None], points + rng.uniform(-1, 1, points.shape), rng.uniform(0, [WIDTH, HEIGHT], points.shape)
    )
    none = np.zeros((len(kept), 0), np.uint8)
    query = LocalFeatures(points, none, (WIDTH, HEIGHT))
    match = LocalFeatures((moved * scale).astype(np.float32), none, (round(WIDTH * scale), round(HEIGHT * scale)))
    return query, match, np.arange(len(kept))


def left_out(
    query: LocalFeatures, match: LocalFeatures, same: NDArray[np.int64], min_motion_px: float = 2.0
) -> list[bool]:
    return on_body(query, match, same, same, np.column_stack([same, same]), WIDTH, min_motion_px).tolist()


def positions(count: int = 600) -> NDArray[np.float32]:
    return views(np.zeros(count, bool))[0].points


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_a_bumper_is_left_out_and_the_rest_is_not(scale: float) -> None:
    bumper = positions()[:, 1] > 0.7 * HEIGHT
    assert left_out(*views(bumper, scale)) == bumper.tolist()


@pytest.mark.parametrize("repeated", [1.0, 0.8, 0.6])
def test_one_view_seen_twice_is_all_evidence(repeated: float) -> None:
    assert not any(left_out(*views(np.random.default_rng(2).random(600) < repeated)))


def test_dust_is_left_out_though_it_is_spread_evenly() -> None:
    dust = np.random.default_rng(2).random(600) < 0.1
    assert left_out(*views(dust)) == dust.tolist()


def test_a_body_that_alone_has_texture_in_one_of_the_pictures_is_left_out() -> None:
    """At night the lamp shows the bumper; the other picture was taken by day."""
    query, match, same = views(positions()[:, 1] > 0.7 * HEIGHT)
    lit = np.flatnonzero(query.points[:, 1] > 0.7 * HEIGHT)
    night = LocalFeatures(query.points[lit], query.descriptors[lit], query.size_px)
    back = np.searchsorted(lit, same).clip(max=len(lit) - 1)
    assert on_body(night, match, lit, back, np.column_stack([np.arange(len(lit)), lit]), WIDTH, 2.0).all()


def test_where_nothing_can_be_said_nothing_is_left_out() -> None:
    query, match, same = views(positions()[:, 1] > 0.7 * HEIGHT)
    assert not any(left_out(query, match, same, min_motion_px=0.0))
    assert not any(left_out(replace(query, size_px=None), match, same))
    assert not any(left_out(query, replace(match, size_px=(WIDTH, WIDTH)), same))
    empty = LocalFeatures(query.points[:0], query.descriptors[:0], query.size_px)
    assert left_out(empty, empty, same[:0]) == []


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.6, 1.0))
def test_chance_decides_about_the_same_everywhere(seed: int, repeated: float) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.uniform(0, [25, 18], (600, 2))
    assert is_everywhere(cells, rng.random(600) < repeated, np.array([25.0, 18.0]))


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.4))
def test_a_corner_of_the_picture_is_not_everywhere(seed: int, share: float) -> None:
    cells = np.random.default_rng(seed).uniform(0, [25, 18], (600, 2))
    assert not is_everywhere(cells, cells[:, 0] < share * 25, np.array([25.0, 18.0]))


def test_a_body_that_is_all_there_is_to_see_is_left_out() -> None:
    """In fog or at night, in both pictures."""
    query, match, same = views(np.ones(600, bool))
    seen = query.points[:, 1] > 0.72 * HEIGHT
    query, match = (LocalFeatures(f.points[seen], f.descriptors[seen], f.size_px) for f in (query, match))
    assert all(left_out(query, match, same[: seen.sum()]))


def photo(place: int, shift: int = 0) -> Image:
    return np.ascontiguousarray(texture(place, 720, 480)[:, shift : shift + 640])


def with_body(image: Image, kind: str, seed: int = 90) -> Image:
    result, body = image.copy(), texture(seed, 640, 480)
    where = np.zeros(image.shape[:2], bool)
    if kind == "bumper":
        where[360:] = True
    elif kind == "cage":
        where[:50], where[-50:], where[:, :40], where[:, -40:] = (True,) * 4
    elif kind == "leaves":
        rng, canvas = np.random.default_rng(5), np.zeros(image.shape[:2], np.uint8)
        while canvas.mean() < 0.3 * 255:
            centre, axes = rng.integers(0, [640, 480]).tolist(), rng.integers(20, 60, 2).tolist()
            cv2.ellipse(canvas, centre, axes, float(rng.integers(0, 180)), 0, 360, 255, -1)
        where = canvas > 0
    result[where] = body[where]
    return result


def verified(query: Image, match: Image) -> Verification:
    return VERIFIER.verify(VERIFIER.extract(query), None, VERIFIER.extract(VERIFIER.thumbnail(match)), None)


def is_place(found: Verification) -> bool:
    enough = found.inliers >= NEEDED.min_inliers and found.inlier_ratio >= NEEDED.min_inlier_ratio
    return enough and found.coverage >= NEEDED.min_coverage


BODIES = ["bumper", "cage", "leaves"]


@pytest.mark.parametrize("kind", BODIES)
def test_two_places_with_one_body_are_two_places(kind: str) -> None:
    for query, match in ((1, 2), (3, 4), (5, 6)):
        found = verified(with_body(photo(query), kind), with_body(photo(match), kind))
        assert found.still >= 20, "the body does match"
        assert not is_place(found)


@pytest.mark.parametrize("kind", BODIES)
def test_a_place_seen_again_from_elsewhere_is_found_beside_the_body(kind: str) -> None:
    found = verified(with_body(photo(1, 40), kind), with_body(photo(1), kind))
    assert found.still >= NEEDED.min_inliers
    assert is_place(found)


@pytest.mark.parametrize("kind", ["none", *BODIES])
@pytest.mark.parametrize("noise", [0, 6])
def test_the_very_same_pose_is_the_same_place(kind: str, noise: float) -> None:
    image = with_body(photo(1), kind).astype(np.float64)
    again = np.clip(image * 0.9 + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    found = verified(again, image.astype(np.uint8))
    assert found.still == 0
    assert is_place(found)
