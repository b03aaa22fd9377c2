"""The street network of the demo world and a drive around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import ConfigError
from vpr_ros.rotations import BODY_FROM_OPTICAL
from vpr_ros.types import Pose


@dataclass(frozen=True, slots=True)
class Streets:
    """Two city blocks side by side. Their streets cross at x = 0, length, 2 length and y = 0, depth (metres).

    Traffic keeps to the right; cars park along the kerbs.
    """

    block_length_m: float = 40.0
    block_depth_m: float = 36.0
    half_road_m: float = 4.5
    sidewalk_m: float = 2.5
    lane_m: float = 1.2
    """How far right of the street's middle a car drives."""

    def __post_init__(self) -> None:
        if min(self.block_length_m, self.block_depth_m) < 2.0 * self.half_street_m + 18.0:
            raise ConfigError("a city block needs at least 18 m between its two streets")

    @property
    def half_street_m(self) -> float:
        """From the street's middle to the house fronts."""
        return self.half_road_m + self.sidewalk_m

    @property
    def crossings_x(self) -> tuple[float, float, float]:
        """Where the north-south streets lie."""
        return (0.0, self.block_length_m, 2.0 * self.block_length_m)

    @property
    def crossings_y(self) -> tuple[float, float]:
        """Where the east-west streets lie."""
        return (0.0, self.block_depth_m)

    @property
    def lap_m(self) -> float:
        """Length of the drive around both blocks."""
        return float(sum(_sides(self)) + 2.0 * np.pi * _TURN_RADIUS_M)


_TURN_RADIUS_M = 7.0


def loop_trajectory(
    streets: Streets | None = None,
    *,
    laps: float = 2.0,
    speed_m_s: float = 4.0,
    rate_hz: float = 5.0,
    lateral_offset_m: Sequence[float] = (0.0, 0.7),
    height_m: float = 1.5,
    start_ns: int = 0,
) -> list[tuple[int, Pose]]:
    """Drive counter-clockwise around both blocks: (stamp in ns, (4, 4) world_from_camera) per image.

    `lateral_offset_m` moves lap after lap to the left (the last value stays); the speed varies by a quarter, the
    camera sways a little, and never the same way in two laps. Raises ConfigError for values that drive nowhere.
    """
    if min(laps, speed_m_s, rate_hz) <= 0.0 or not lateral_offset_m:
        raise ConfigError("laps, speed_m_s and rate_hz must be positive and lateral_offset_m must not be empty")
    streets = streets or Streets()
    time_s = np.arange(0.0, laps * streets.lap_m / (0.75 * speed_m_s) + 1.0, 1.0 / rate_hz)
    travelled = speed_m_s * (time_s + 0.25 * 11.0 / (2.0 * np.pi) * (1.0 - np.cos(2.0 * np.pi * time_s / 11.0)))
    inside = travelled <= laps * streets.lap_m
    time_s, travelled = time_s[inside], travelled[inside]
    xy, heading = _route(streets, travelled)
    left = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    lateral = _lateral(travelled / streets.lap_m, lateral_offset_m, 10.0 / streets.lap_m)
    xy = xy + left * (lateral + 0.08 * _sway(travelled, 17.3))[:, None]
    height = height_m + 0.03 * _sway(travelled, 5.9)
    yaw = heading + np.radians(1.5) * _sway(travelled, 23.7)
    pitch, roll = np.radians(0.5) * _sway(travelled, 6.7), np.radians(0.5) * _sway(travelled, 9.1)
    stamps = start_ns + np.round(time_s * 1e9).astype(np.int64)
    return [
        (int(stamp), _pose((x, y, z), angles))
        for stamp, (x, y), z, angles in zip(stamps, xy, height, np.stack([yaw, pitch, roll], axis=1), strict=True)
    ]


def _sides(streets: Streets) -> tuple[float, float, float, float]:
    """Lengths of the straights, in driving order: south, east, north, west."""
    trim = 2.0 * streets.lane_m - 2.0 * _TURN_RADIUS_M
    long, short = 2.0 * streets.block_length_m + trim, streets.block_depth_m + trim
    return (long, short, long, short)


def _route(streets: Streets, travelled: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position (N, 2) and heading (N,) in rad after so many metres from a point amid the southern straight."""
    sides = np.array(_sides(streets))
    arc = 0.5 * np.pi * _TURN_RADIUS_M
    begins = np.concatenate([[0.0], np.cumsum(sides + arc)])
    along = np.mod(travelled + 0.25 * sides[0], begins[-1])
    side = np.searchsorted(begins, along, side="right") - 1
    ahead = np.minimum(along - begins[side], sides[side])
    turned = (along - begins[side] - ahead) / _TURN_RADIUS_M
    origins = [np.array([_TURN_RADIUS_M - streets.lane_m, -streets.lane_m])]
    for k in range(3):
        turn = _TURN_RADIUS_M * (_direction(k * np.pi / 2.0) + _direction((k + 1) * np.pi / 2.0))
        origins.append(origins[-1] + sides[k] * _direction(k * np.pi / 2.0) + turn)
    base = side * np.pi / 2.0
    forward, left = _direction(base), _direction(base + np.pi / 2.0)
    on_arc = np.sin(turned)[:, None] * forward + (1.0 - np.cos(turned))[:, None] * left
    return np.array(origins)[side] + ahead[:, None] * forward + _TURN_RADIUS_M * on_arc, base + turned


def _direction(heading: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.stack([np.cos(heading), np.sin(heading)], axis=-1)


def _lateral(lap: NDArray[np.float64], offsets: Sequence[float], blend: float) -> NDArray[np.float64]:
    """Offset of each lap, with a smooth change of lanes over the first `blend` laps."""
    values = np.full_like(lap, offsets[0])
    for number, (before, after) in enumerate(pairwise(offsets), start=1):
        share = np.clip((lap - number) / blend, 0.0, 1.0)
        values += (after - before) * share * share * (3.0 - 2.0 * share)
    return values


def _sway(travelled: NDArray[np.float64], wavelength_m: float) -> NDArray[np.float64]:
    return np.sin(2.0 * np.pi * travelled / wavelength_m)


def _pose(position: tuple[float, float, float], yaw_pitch_roll: NDArray[np.float64]) -> Pose:
    (cy, cp, cr), (sy, sp, sr) = np.cos(yaw_pitch_roll), np.sin(yaw_pitch_roll)
    world_from_body = (
        np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
        @ np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
        @ np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    )
    pose = np.eye(4)
    pose[:3, :3] = world_from_body @ BODY_FROM_OPTICAL
    pose[:3, 3] = position
    return pose
