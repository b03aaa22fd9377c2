"""A camera that carries a bumper through a world of which everything is known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from small_worlds import texture

from vpr_ros.recognition.static_region import MEMORY, MIN_VIEWS, StaticRegion

Grey = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 240
TOP = 180
"""First row of the bumper."""


def grey(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Grey:
    return cv2.cvtColor(texture(seed, width, height), cv2.COLOR_RGB2GRAY)


def world(view: int) -> Grey:
    return grey(100 + view)


def with_bumper(view: int) -> Grey:
    image = world(view)
    image[TOP:] = grey(7)[TOP:]
    return image


def taught(pictures: Callable[[int], Grey], count: int, region: StaticRegion | None = None) -> StaticRegion:
    region = region or StaticRegion()
    for view in range(count):
        region.observe(pictures(view))
    return region


def shares(region: StaticRegion) -> tuple[float, float]:
    """What is masked of the bumper, and of the rest."""
    assert region.mask is not None
    masked = region.mask == 0
    return float(masked[TOP:].mean()), float(masked[: TOP - 10].mean())


def test_the_bumper_is_learnt_and_the_world_is_not() -> None:
    region = taught(with_bumper, 2 * MIN_VIEWS)
    bumper, rest = shares(region)
    assert bumper > 0.95
    assert rest < 0.01
    assert region.share == pytest.approx(0.25, abs=0.03)


def test_in_changing_light_too() -> None:
    def lit(view: int) -> Grey:
        return (with_bumper(view) * (0.6 + 0.4 * np.sin(view))).astype(np.uint8)

    bumper, rest = shares(taught(lit, 2 * MIN_VIEWS))
    assert bumper > 0.9
    assert rest < 0.01


def test_a_few_views_teach_nothing_yet() -> None:
    region = taught(with_bumper, MIN_VIEWS - 1)
    assert region.mask is None
    assert region.share == 0.0


def test_a_world_without_a_body_has_no_mask() -> None:
    assert taught(world, 4 * MIN_VIEWS).share < 0.01


def test_a_robot_that_stands_learns_nothing() -> None:
    """However long, whoever walks past, and though its picture is noisy."""
    rng, region, learnt = np.random.default_rng(0), StaticRegion(), 0
    for moment in range(10 * MIN_VIEWS):
        image = world(0).astype(np.float64) + rng.normal(0, 3, (HEIGHT, WIDTH))
        left = moment * 9 % (WIDTH - 40)
        image[80:, left : left + 40] = grey(3)[80:, :40]
        learnt += region.observe(np.clip(image, 0, 255).astype(np.uint8))
    assert learnt == 1
    assert region.mask is None


def test_a_straight_road_keeps_its_vanishing_point() -> None:
    """Straight on, all things flow out of one point; about there the picture hardly changes."""
    far = grey(1, 4000, 3000)

    def road(view: int) -> Grey:
        scale = 0.1 * 1.08**view
        about = np.float64([[scale, 0, WIDTH / 2 - scale * 2000], [0, scale, HEIGHT / 2 - scale * 1500]])
        return cv2.warpAffine(far, about, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)

    assert taught(road, 30).share < 0.03


def test_what_moves_away_is_unlearnt() -> None:
    region = taught(with_bumper, 2 * MEMORY)
    assert region.share > 0.2
    taught(lambda view: world(1000 + view), MEMORY, region)
    assert region.share < 0.01


@pytest.mark.parametrize("odd", ["black", "white", "elsewhere"])
def test_one_odd_picture_changes_little(odd: str) -> None:
    region = taught(with_bumper, 2 * MEMORY)
    image = {"black": np.zeros_like, "white": lambda g: np.full_like(g, 255), "elsewhere": lambda _: world(999)}[odd]
    region.observe(image(world(0)))
    bumper, rest = shares(region)
    assert bumper > 0.9
    assert rest < 0.01


def test_pictures_of_another_size_start_anew() -> None:
    region = taught(with_bumper, 2 * MIN_VIEWS)
    region.observe(grey(1, 160, 120))
    assert region.mask is None
    taught(lambda view: cv2.resize(with_bumper(view), (160, 120), interpolation=cv2.INTER_AREA), 2 * MIN_VIEWS, region)
    assert region.mask is not None
    assert region.mask.shape == (120, 160)
    assert region.share == pytest.approx(0.25, abs=0.05)
