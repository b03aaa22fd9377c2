"""Light, weather and season of the demo world: everything that may differ between two visits of one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """How the world looks on one visit. It never moves a building, a tree or a lamp post."""

    sun: Colour = (0.62, 0.57, 0.48)
    """Light that direct sun adds to a face turned to it; black for none."""
    ambient: Colour = (0.62, 0.65, 0.70)
    """Light from the whole sky."""
    sun_azimuth_deg: float = 220.0
    """Where the sun stands, counter-clockwise from east."""
    sun_elevation_deg: float = 48.0
    zenith: Colour = (0.25, 0.45, 0.80)
    horizon: Colour = (0.72, 0.82, 0.93)
    """Colour of the low sky and of the haze."""
    clouds: float = 0.35
    """Share of the sky they cover, in [0, 1]."""
    visibility_m: float = float("inf")
    """Distance at which haze takes 63 % of a thing's contrast."""
    foliage: Colour = (0.36, 0.52, 0.20)
    grass: Colour = (0.42, 0.55, 0.24)
    snow: float = 0.0
    """How much of the ground, the roofs and the crowns is white, in [0, 1]."""
    lit_windows: float = 0.0
    """Share of windows that shine, in [0, 1]."""
    seed: int = 0
    """Places what moves: cars and people."""

    @property
    def to_sun(self) -> NDArray[np.float64]:
        """(3,) unit vector from the ground to the sun."""
        azimuth, elevation = np.radians([self.sun_azimuth_deg, self.sun_elevation_deg])
        return np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])


APPEARANCES: dict[str, Appearance] = {
    "summer": Appearance(),
    "autumn": Appearance(
        sun=(0.62, 0.50, 0.34),
        ambient=(0.58, 0.56, 0.55),
        sun_azimuth_deg=330.0,
        sun_elevation_deg=28.0,
        zenith=(0.36, 0.50, 0.74),
        horizon=(0.86, 0.82, 0.76),
        clouds=0.5,
        visibility_m=220.0,
        foliage=(0.72, 0.42, 0.12),
        grass=(0.50, 0.47, 0.24),
        seed=1,
    ),
    "winter": Appearance(
        sun=(0.22, 0.22, 0.24),
        ambient=(0.68, 0.72, 0.79),
        sun_azimuth_deg=250.0,
        sun_elevation_deg=18.0,
        zenith=(0.60, 0.67, 0.78),
        horizon=(0.84, 0.87, 0.92),
        clouds=0.8,
        visibility_m=150.0,
        foliage=(0.42, 0.38, 0.33),
        grass=(0.52, 0.52, 0.42),
        snow=0.8,
        seed=2,
    ),
    "dusk": Appearance(
        sun=(0.0, 0.0, 0.0),
        ambient=(0.36, 0.33, 0.43),
        zenith=(0.12, 0.15, 0.33),
        horizon=(0.80, 0.48, 0.36),
        clouds=0.45,
        visibility_m=400.0,
        lit_windows=0.45,
        seed=3,
    ),
    "overcast": Appearance(
        sun=(0.0, 0.0, 0.0),
        ambient=(0.74, 0.76, 0.78),
        zenith=(0.66, 0.69, 0.73),
        horizon=(0.78, 0.80, 0.82),
        clouds=1.0,
        visibility_m=110.0,
        foliage=(0.30, 0.45, 0.20),
        seed=4,
    ),
}
"""Named looks of the demo."""


def random_appearance(seed: int) -> Appearance:
    """A look for training: any hour, weather and season; the same `seed` gives the same look."""
    rng = np.random.default_rng((seed, 0xA99E))
    day = rng.uniform(0.15, 1.0) if rng.random() < 0.85 else 0.0
    cloudy = rng.random()
    snowy = rng.random() < 0.2
    warmth = rng.uniform(-0.12, 0.12)
    tone = np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    ambient = (0.30 + 0.42 * day + rng.uniform(-0.04, 0.08)) * tone
    sun = 0.6 * day * max(0.0, 1.0 - 1.3 * cloudy) * (day > 0.3) * (tone + np.array([0.08, 0.0, -0.12]))
    grey = np.array([0.70, 0.73, 0.77])
    horizon = (0.35 + 0.65 * day) * (grey + rng.uniform(-0.08, 0.2, 3))
    zenith = (0.25 + 0.75 * day) * (cloudy * grey + (1.0 - cloudy) * np.array([0.25, 0.45, 0.80]))
    green, dry = np.array([0.34, 0.50, 0.20]), np.array([0.66, 0.42, 0.15])
    season = rng.random() ** 2
    foliage = (1.0 - season) * green + season * dry
    return Appearance(
        sun=_colour(sun),
        ambient=_colour(ambient),
        sun_azimuth_deg=float(rng.uniform(0.0, 360.0)),
        sun_elevation_deg=float(rng.uniform(12.0, 65.0)),
        zenith=_colour(zenith),
        horizon=_colour(horizon),
        clouds=float(cloudy),
        visibility_m=float(np.exp(rng.uniform(np.log(60.0), np.log(600.0)))) if rng.random() < 0.6 else float("inf"),
        foliage=_colour(foliage * rng.uniform(0.8, 1.2)),
        grass=_colour((0.7 * foliage + 0.3 * np.array([0.5, 0.5, 0.3])) * rng.uniform(0.85, 1.2)),
        snow=float(rng.uniform(0.3, 0.95)) if snowy else 0.0,
        lit_windows=float(rng.uniform(0.2, 0.6)) if day < 0.3 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def _colour(rgb: NDArray[np.float64]) -> Colour:
    red, green, blue = np.clip(rgb, 0.0, 1.0).tolist()
    return (red, green, blue)
