"""Light and cast shadows of the demo world, worked out once per corner when a world is made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo_world.appearance import Appearance
from demo_world.scenery import Scene

Array = NDArray[np.float64]


def light_corners(scene: Scene, look: Appearance) -> Array:
    """(F, 4, 3) light that leaves each corner of each face, 1 for a white wall in full light; may exceed 1."""
    gather = {
        name: np.concatenate([getattr(s, name) for s in scene.surfaces]) for name in ("corners", "normals", "occlusion")
    }
    counts = [len(s.corners) for s in scene.surfaces]
    tint = np.repeat([s.tint for s in scene.surfaces], counts, axis=0)[:, None, :]
    painted = np.repeat([s.texture.lit for s in scene.surfaces], counts)[:, None, None]
    normals, occlusion = gather["normals"], gather["occlusion"][..., None]
    ambient = (0.82 + 0.18 * normals[..., 2:]) * np.array(look.ambient)
    facing = np.maximum(normals @ look.to_sun, 0.0)
    if any(look.sun):
        lifted = gather["corners"] + 0.25 * normals
        facing *= 1.0 - _shadowed(lifted.reshape(-1, 3), scene, look.to_sun).reshape(facing.shape)
    light = (ambient + facing[..., None] * np.array(look.sun)) * tint
    return occlusion * np.where(painted, 1.0, light)


def _shadowed(points: Array, scene: Scene, to_sun: Array) -> NDArray[np.bool_]:
    """(N,) whether a house or a crown stands between each point and the sun."""
    dark = np.zeros(len(points), bool)
    for low, high in scene.blocks:
        near, far = np.zeros(len(points)), np.full(len(points), np.inf)
        for axis in range(3):
            bounds = np.stack([low[axis] - points[:, axis], high[axis] - points[:, axis]]) / (to_sun[axis] + 1e-12)
            near, far = np.maximum(near, bounds.min(axis=0)), np.minimum(far, bounds.max(axis=0))
        dark |= near < far
    for centre, radius in scene.balls:
        offset = centre - points
        along = offset @ to_sun
        miss = np.einsum("ni,ni->n", offset, offset) - along**2
        dark |= (along > radius) & (miss < radius**2)
    return dark
