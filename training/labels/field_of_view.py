"""Graded similarity from 2-D poses: the overlap of two fields of view (GCL, METHODS 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

ARC_POINTS = 32


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """A circular sector: opening `angle_deg`, `radius_m`.

    `max_heading_deg` makes psi 0 for cameras that look different ways: two cameras that face each other from afar overlap
    on the ground but see opposite facades.
    """

    angle_deg: float = 90.0
    radius_m: float = 50.0
    max_heading_deg: float = 90.0

    def sector(self, x: float, y: float, heading_rad: float) -> shapely.Polygon:
        """The sector's polygon; heading counter-clockwise from +x."""
        half = np.radians(self.angle_deg) / 2
        arc = heading_rad + np.linspace(-half, half, ARC_POINTS)
        ring = np.stack([x + self.radius_m * np.cos(arc), y + self.radius_m * np.sin(arc)], axis=1)
        return shapely.Polygon(np.vstack([[x, y], ring]))

    def similarity(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        """psi = area of the intersection / area of one sector, in [0, 1], of two poses (x, y, heading_rad).

        The ratio, not intersection over union: psi = 0.5 at 45 degrees of yaw for a 90 degree sector.
        """
        turn = np.degrees(abs((first[2] - second[2] + np.pi) % (2 * np.pi) - np.pi))
        if turn > self.max_heading_deg or np.hypot(*(first[:2] - second[:2])) >= 2 * self.radius_m:
            return 0.0
        # relative to the first, or UTM coordinates leave too few digits for an area; to the micrometre, because polygons
        # that differ by less than a double can say make every library's intersection wrong
        x, y = np.round(second[:2] - first[:2], 6)
        a, b = self.sector(0.0, 0.0, first[2]), self.sector(x, y, second[2])
        return float(min(1.0, a.intersection(b).area / a.area))


def planar_pose(world_from_camera: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x, y, heading_rad) on the ground plane of a camera whose optical axis is z; `up` is a world axis unit vector."""
    east = np.array([1.0, 0.0, 0.0])
    north = np.cross(up, east)
    position, forward = world_from_camera[:3, 3], world_from_camera[:3, 2]
    return np.array([position @ east, position @ north, np.arctan2(forward @ north, forward @ east)])
