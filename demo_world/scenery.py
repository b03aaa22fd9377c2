"""Geometry of the demo world: textured planar faces in metres (x east, y north, z up), no rendering."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from demo_world import textures
from demo_world.appearance import Appearance, Colour
from demo_world.streets import Streets
from demo_world.textures import Facade, Texture

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])
WHITE: Colour = (1.0, 1.0, 1.0)
KERB_M = 0.12
HOUSE_DEPTH_M = 7.0


class Label(IntEnum):
    """Cityscapes train ids of what stands in the demo world."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    CAR = 13
    OTHER = 19


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Planar faces that share a texture, a tint and a label.

    `corners` (F, 4, 3) run counter-clockwise seen from outside (a triangle repeats its last corner); `uv` (F, 4, 2) is
    1 at the image's top; `normals` (F, 4, 3) shade, `occlusion` (F, 4) darkens what little sky reaches.
    """

    corners: Array
    uv: Array
    texture: Texture
    label: Label
    tint: Colour
    normals: Array
    occlusion: Array


class Scene:
    """Collects surfaces and, for shadows, upright `blocks` (low, high corner) and `balls` (centre, radius)."""

    def __init__(self) -> None:
        self.surfaces: list[Surface] = []
        self.blocks: list[tuple[Array, Array]] = []
        self.balls: list[tuple[Array, float]] = []

    def rectangle(
        self,
        origin: ArrayLike,
        right: ArrayLike,
        up: ArrayLike,
        texture: Texture,
        label: Label,
        *,
        tint: Colour = WHITE,
        uv: tuple[float, float] = (1.0, 1.0),
        patch_m: float = 1e9,
        foot: float = 1.0,
    ) -> None:
        """A parallelogram facing `right` x `up`, cut into patches; `uv` repeats of the texture; `foot` darkens its base."""
        start, across, along = (np.asarray(a, np.float64) for a in (origin, right, up))
        columns, rows = (1 + int(np.ceil(np.linalg.norm(side) / patch_m)) for side in (across, along))
        s, t = np.meshgrid(np.linspace(0.0, 1.0, columns), np.linspace(0.0, 1.0, rows))
        st = grid_quads(np.stack([s, t], axis=-1))
        corners = start + st[..., :1] * across + st[..., 1:] * along
        occlusion = np.where(st[..., 1] == 0.0, foot, 1.0)
        self.faces(corners, st * uv, texture, label, tint, occlusion=occlusion)

    def faces(
        self,
        corners: Array,
        uv: Array,
        texture: Texture,
        label: Label,
        tint: Colour = WHITE,
        *,
        normals: Array | None = None,
        occlusion: Array | None = None,
    ) -> None:
        """Faces as they are; flat normals unless given."""
        if normals is None:
            normals = np.repeat(face_normals(corners)[:, None, :], 4, axis=1)
        if occlusion is None:
            occlusion = np.ones(corners.shape[:2])
        self.surfaces.append(Surface(corners, uv, texture, label, tint, normals, occlusion))

    def box(
        self,
        centre: ArrayLike,
        size: ArrayLike,
        texture: Texture | tuple[Texture, Texture, Texture],
        label: Label,
        *,
        base: float = 0.0,
        yaw: float = 0.0,
        tint: Colour = WHITE,
        taper: float = 1.0,
    ) -> None:
        """An upright box: `centre` (x, y), `size` along its own x, y and z, `texture` of (y sides, x sides, top)."""
        flank, end, top = texture if isinstance(texture, tuple) else (texture,) * 3
        middle, (length, width, height) = np.asarray(centre, np.float64)[:2], np.asarray(size, np.float64).tolist()
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        ring = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * [length / 2.0, width / 2.0]
        low = np.column_stack([middle + ring @ turn.T, np.full(4, base)])
        high = np.column_stack([middle + taper * ring @ turn.T, np.full(4, base + height)])
        sides = np.array([[low[k], low[(k + 1) % 4], high[(k + 1) % 4], high[k]] for k in range(4)])
        unit = np.tile(_UNIT, (2, 1, 1))
        foot = np.tile([0.8, 0.8, 1.0, 1.0], (2, 1))
        self.faces(sides[0::2], unit, flank, label, tint, occlusion=foot)
        self.faces(sides[1::2], unit, end, label, tint, occlusion=foot)
        self.faces(high[None], unit[:1], top, label, tint)


_UNIT = np.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])


def grid_quads(grid: Array) -> Array:
    """(F, 4, K) quads of a (rows, columns, K) grid, counter-clockwise where columns run right and rows up."""
    ring = (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1])
    return np.stack(ring, axis=2).reshape(-1, 4, grid.shape[-1])


def face_normals(corners: Array) -> Array:
    """(F, 3) unit outward normals of (F, 4, 3) faces."""
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


@dataclass(frozen=True, slots=True, eq=False)
class Frontage:
    """A straight row of lots: `start` (3,), `right` (3,) as seen from the street, `out` (3,) towards it, `length` in m.

    `inner` when it belongs to a block and not to the ring around both.
    """

    start: Array
    right: Array
    out: Array
    length: float
    inner: bool

    def at(self, along: float, out: float = 0.0, height: float = KERB_M) -> Array:
        """(3,) a point so far along the row, so far before it."""
        point = self.start + along * self.right + out * self.out
        return np.array([point[0], point[1], height])


def build(seed: int, look: Appearance, streets: Streets) -> Scene:
    """Everything that stands in the world. What does not move depends on `seed` and `streets` only."""
    town = _Town(seed, look, streets)
    town.ground()
    for number, frontage in enumerate(town.frontages):
        town.lots(frontage, number)
        town.furniture(frontage, number)
    town.traffic_lights()
    town.skyline()
    town.traffic()
    return town.scene


class _Town:
    def __init__(self, seed: int, look: Appearance, streets: Streets) -> None:
        self.seed, self.look, self.streets = seed, look, streets
        self.scene = Scene()
        self.frontages = list(_frontages(streets))
        self._textures: dict[tuple, Texture] = {}
        rng = self._rng(0)
        self.chain = [self._facade(rng, (seed, 90, k), 9.0 + k, 9.5 + 3.0 * k) for k in range(2)]
        """Houses that stand in several places, so that places look alike that are not the same."""
        self.park_row = int(rng.choice([k for k, row in enumerate(self.frontages) if not row.inner]))

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *key))

    def texture(self, painter: Callable[..., Texture], *args: object) -> Texture:
        """Paints each texture once."""
        key = (painter, *args)
        if key not in self._textures:
            self._textures[key] = painter(*args)
        return self._textures[key]

    def _variant(self, rng: np.random.Generator, painter: Callable[..., Texture], count: int, *args: object) -> Texture:
        return self.texture(painter, (self.seed, int(rng.integers(count))), *args)

    # --- ground -----------------------------------------------------------------------------------------------------

    def ground(self) -> None:
        """Roads, sidewalks with kerbs, lawns inside the blocks and around them."""
        streets, rng = self.streets, self._rng(1)
        half, walk = streets.half_road_m, streets.half_street_m
        xs, ys = streets.crossings_x, streets.crossings_y
        for x in xs:
            for y in ys:
                self._road_tile((x - half, y - half), (x + half, y + half), rng, "none")
            self._road((x - half, ys[0] + half), (x + half, ys[1] - half), rng, along_y=True)
        for y in ys:
            for x0, x1 in pairwise(xs):
                self._road((x0 + half, y - half), (x1 - half, y + half), rng, along_y=False)
        for x0, x1 in pairwise(xs):
            block = (x0 + walk, ys[0] + walk, x1 - walk, ys[1] - walk)
            self._sidewalk_ring(block, streets.sidewalk_m, rng, outward=True)
            self._lawn(block[:2], block[2:], rng, 3.0)
        ring = (xs[0] - walk, ys[0] - walk, xs[-1] + walk, ys[1] + walk)
        self._sidewalk_ring(ring, streets.sidewalk_m, rng, outward=False)
        self._outskirts(ring, rng)
        self._underlay(ring)

    def _underlay(self, ring: tuple[float, float, float, float]) -> None:
        """Shows through the hair cracks that a renderer with whole-pixel corners leaves between faces."""
        x0, y0, x1, y1 = ring
        stone = self.texture(textures.plain, (self.seed, 9))
        origin, size = [x0 - 30.0, y0 - 30.0, -0.04], (x1 - x0 + 60.0, y1 - y0 + 60.0)
        self.scene.rectangle(origin, [size[0], 0, 0], [0, size[1], 0], stone, Label.ROAD, tint=(0.45, 0.45, 0.45))

    def _road(self, low: Sequence[float], high: Sequence[float], rng: np.random.Generator, *, along_y: bool) -> None:
        axis = 1 if along_y else 0
        zebra = 3.5
        inner = high[axis] - low[axis] - 2.0 * zebra
        steps = max(1, round(inner / (2.0 * self.streets.half_road_m)))
        cuts = [low[axis], *(low[axis] + zebra + inner * k / steps for k in range(steps + 1)), high[axis]]
        for k, (begin, end) in enumerate(pairwise(cuts)):
            a, b = list(low), list(high)
            a[axis], b[axis] = begin, end
            self._road_tile(a, b, rng, "zebra" if k in (0, len(cuts) - 2) else "line", along_y=along_y)

    def _road_tile(
        self,
        low: Sequence[float],
        high: Sequence[float],
        rng: np.random.Generator,
        marking: str,
        *,
        along_y: bool = True,
    ) -> None:
        image = self._variant(rng, textures.road, 2 if marking == "zebra" else 4, self.look, marking)
        x, y = [high[0] - low[0], 0.0, 0.0], [0.0, high[1] - low[1], 0.0]
        if along_y:
            self.scene.rectangle([*low, 0.0], x, y, image, Label.ROAD, patch_m=1.8)
        else:
            self.scene.rectangle([low[0], high[1], 0.0], [-v for v in y], x, image, Label.ROAD, patch_m=1.8)

    def _sidewalk_ring(
        self, rect: tuple[float, float, float, float], width: float, rng: np.random.Generator, *, outward: bool
    ) -> None:
        """A sidewalk around (outward) or along the inside of a rectangle (x0, y0, x1, y1)."""
        grow = width if outward else -width
        inner, outer = sorted([rect, (rect[0] - grow, rect[1] - grow, rect[2] + grow, rect[3] + grow)], reverse=True)
        strips = [
            (outer[0], outer[1], outer[2], inner[1]),
            (outer[0], inner[3], outer[2], outer[3]),
            (outer[0], inner[1], inner[0], inner[3]),
            (inner[2], inner[1], outer[2], inner[3]),
        ]
        image = self._variant(rng, textures.paving, 3, self.look)
        for x0, y0, x1, y1 in strips:
            self.scene.rectangle(
                [x0, y0, KERB_M], [x1 - x0, 0, 0], [0, y1 - y0, 0], image, Label.SIDEWALK,
                uv=(max(1, round((x1 - x0) / 2.5)), max(1, round((y1 - y0) / 2.5))), patch_m=2.6,
            )  # fmt: skip
        kerb = outer if outward else inner
        stone = self.texture(textures.plain, (self.seed, 9))
        ring = [(kerb[0], kerb[1]), (kerb[2], kerb[1]), (kerb[2], kerb[3]), (kerb[0], kerb[3])]
        for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True):
            start, along = (np.array([ax, ay, 0.0]), np.array([bx - ax, by - ay, 0.0]))
            if not outward:
                start, along = start + along, -along
            self.scene.rectangle(
                start, along, KERB_M * UP, stone, Label.SIDEWALK, tint=(0.72, 0.72, 0.70), uv=(20.0, 1.0), patch_m=5.0
            )

    def _lawn(self, low: Sequence[float], high: Sequence[float], rng: np.random.Generator, patch_m: float) -> None:
        image = self._variant(rng, textures.lawn, 2, self.look)
        size = (high[0] - low[0], high[1] - low[1])
        self.scene.rectangle(
            [*low, KERB_M], [size[0], 0, 0], [0, size[1], 0], image, Label.TERRAIN,
            uv=(size[0] / 4.0, size[1] / 4.0), patch_m=patch_m,
        )  # fmt: skip

    def _outskirts(self, ring: tuple[float, float, float, float], rng: np.random.Generator) -> None:
        far = 90.0
        x0, y0, x1, y1 = ring
        for low, high in (
            ((x0 - far, y0 - far), (x1 + far, y0)),
            ((x0 - far, y1), (x1 + far, y1 + far)),
            ((x0 - far, y0), (x0, y1)),
            ((x1, y0), (x1 + far, y1)),
        ):
            self._lawn(low, high, rng, 12.0)

    # --- lots -------------------------------------------------------------------------------------------------------

    def lots(self, row: Frontage, number: int) -> None:
        """Fills a row with houses, gardens and, along one row, a park."""
        rng = self._rng(2, number)
        along, previous = 0.0, "house"
        park_at = row.length * rng.uniform(0.25, 0.5) if number == self.park_row else np.inf
        while along < row.length - 0.1:
            left = row.length - along
            width = min(left, rng.uniform(6.5, 13.0))
            if left - width < 6.0:
                width = left
            kind = rng.choice(["house", "chain", "garden"], p=[0.66, 0.16, 0.18])
            if along == 0.0 or width == left or previous == "garden":
                kind = "house"
            if along > park_at and left > 26.0:
                kind, width, park_at = "park", 18.0, np.inf
            if kind == "chain":
                spec = self.chain[int(rng.integers(len(self.chain)))]
                width = spec.width_m if left - spec.width_m >= 6.0 else width
            if kind == "house" or (kind == "chain" and width != spec.width_m):
                spec = self._facade(rng, (self.seed, 3, number, round(along)), width, rng.uniform(6.5, 15.0))
            if kind in ("house", "chain"):
                self._house(row, along, spec, rng)
            elif kind == "garden":
                self._garden(row, along, width, rng)
            else:
                self._park(row, along, width, rng)
            along, previous = along + width, kind

    def _facade(self, rng: np.random.Generator, key: tuple[int, ...], width: float, height: float) -> Facade:
        wall = str(rng.choice(["brick", "plaster", "stone", "glass"], p=[0.34, 0.42, 0.14, 0.10]))
        palette = {"brick": textures.BRICKS, "stone": textures.STONES}.get(wall, textures.PLASTERS)
        colour = np.array(palette[int(rng.integers(len(palette)))]) * rng.uniform(0.9, 1.08)
        accent = textures.ACCENTS[int(rng.integers(len(textures.ACCENTS)))]
        red, green, blue = np.minimum(colour, 1.0).tolist()
        return Facade(key, wall, (red, green, blue), accent, float(width), float(height), bool(rng.random() < 0.45))

    def _house(self, row: Frontage, along: float, spec: Facade, rng: np.random.Generator) -> None:
        """A house with painted front, plain flanks, a roof and now and then an awning or balconies."""
        setback = 0.0 if rng.random() < 0.6 else rng.uniform(0.1, 0.8)
        w, h, depth = spec.width_m, spec.height_m, HOUSE_DEPTH_M - setback
        right, back = row.right, -row.out
        front = row.at(along, -setback)
        image, flank = self.texture(textures.facade, spec, self.look), self.texture(textures.side_wall, spec)
        add = self.scene.rectangle
        add(front, w * right, h * UP, image, Label.BUILDING, patch_m=2.5, foot=0.85)
        flank_uv = (depth / 8.0, h / 8.0)
        for start, direction in ((front + w * right, back), (front + depth * back, -back)):
            add(start, depth * direction, h * UP, flank, Label.BUILDING, uv=flank_uv, patch_m=3.5)
        add(
            front + w * right + depth * back,
            -w * right,
            h * UP,
            flank,
            Label.BUILDING,
            uv=(w / 8.0, h / 8.0),
            patch_m=4,
        )
        self._roof(front + h * UP, w * right, depth * back, rng)
        far = front + w * right + depth * back
        self.scene.blocks.append((np.minimum(front, far), np.maximum(front, far) + h * UP))
        if spec.shop and rng.random() < 0.5:
            self._awning(front + 2.75 * UP, right, row.out, w, spec.accent)
        elif spec.wall != "glass" and h > 9.0 and rng.random() < 0.5:
            self._balconies(front, right, row.out, w, h, rng)

    def _roof(self, origin: Array, right: Array, back: Array, rng: np.random.Generator) -> None:
        image = self._variant(rng, textures.roof, 2, self.look)
        tint = ((0.62, 0.32, 0.25), (0.42, 0.40, 0.42), (0.50, 0.36, 0.28))[int(rng.integers(3))]
        rise = rng.uniform(1.6, 3.2) if rng.random() < 0.6 else 0.0
        width, depth = float(np.linalg.norm(right)), float(np.linalg.norm(back))
        if rise == 0.0:
            self.scene.rectangle(origin, right, back, image, Label.BUILDING, tint=(0.5, 0.5, 0.5), uv=(2.0, 2.0))
            size = (float(abs(right + back)[0]) * 0.3, float(abs(right + back)[1]) * 0.3, rng.uniform(1.0, 2.2))
            middle = origin + 0.5 * right + 0.5 * back
            plain = self.texture(textures.plain, (self.seed, 9))
            self.scene.box(middle, size, plain, Label.BUILDING, base=middle[2], tint=(0.6, 0.6, 0.6))
            return
        ridge = origin + 0.5 * back + rise * UP
        uv = (width / 4.0, depth / 8.0)
        self.scene.rectangle(origin, right, ridge - origin, image, Label.BUILDING, tint=tint, uv=uv)
        self.scene.rectangle(
            origin + right + back, -right, 0.5 * -back + rise * UP, image, Label.BUILDING, tint=tint, uv=uv
        )
        gables = np.array(
            [
                [origin + back, origin, ridge, ridge],
                [origin + right, origin + right + back, ridge + right, ridge + right],
            ]
        )
        wall = self.texture(textures.plain, (self.seed, 9))
        self.scene.faces(gables, np.tile(_UNIT, (2, 1, 1)), wall, Label.BUILDING, (0.7, 0.66, 0.6))

    def _awning(self, origin: Array, right: Array, out: Array, width: float, accent: Colour) -> None:
        """A cloth roof over the shop window, seen from above and below."""
        cloth = self.texture(textures.planks, (self.seed, 5))
        origin = origin + 0.4 * right
        across, slope = (width - 0.8) * right, 0.9 * out - 0.35 * UP
        uv = (width / 2.0, 1.0)
        for start, a, b in ((origin + slope, across, -slope), (origin, across, slope)):
            self.scene.rectangle(start, a, b, cloth, Label.BUILDING, tint=accent, uv=uv)

    def _balconies(
        self, front: Array, right: Array, out: Array, width: float, height: float, rng: np.random.Generator
    ) -> None:
        slab = self.texture(textures.planks, (self.seed, 6))
        tint = textures.ACCENTS[int(rng.integers(len(textures.ACCENTS)))]
        along = rng.uniform(0.15, 0.5) * width
        for level in np.arange(3.8, height - 2.5, 3.1):
            centre = front + (along + 1.2) * right + 0.5 * out
            size = np.abs(2.4 * right + out) + 0.95 * UP
            self.scene.box(centre, size, slab, Label.BUILDING, base=front[2] + level, tint=tint)
            under = front + along * right + level * UP
            self.scene.rectangle(under, 2.4 * right, out, slab, Label.BUILDING, tint=(0.6, 0.6, 0.6))

    def _garden(self, row: Frontage, along: float, width: float, rng: np.random.Generator) -> None:
        """A fence or a low wall, bushes and a tree, and a shed behind."""
        if rng.random() < 0.5:
            image, tint = self._variant(rng, textures.planks, 3), _pick(rng, _FENCE_TINTS)
            self._screen(row, along, width, image, Label.FENCE, rng.uniform(0.9, 1.7), tint, 2.0)
        else:
            image = self._variant(rng, textures.rubble, 3)
            self._screen(row, along, width, image, Label.WALL, rng.uniform(0.8, 1.6), WHITE, 3.0)
        for _ in range(int(rng.integers(1, 4))):
            self._crown(row.at(along + rng.uniform(1.0, width - 1.0), -rng.uniform(1.2, 3.5), 0.7), 0.9, rng)
        self._tree(row.at(along + rng.uniform(0.35, 0.65) * width, -rng.uniform(2.5, 4.0)), rng, 1.2)
        shed = row.at(along + 0.5 * width, -HOUSE_DEPTH_M + 0.9)
        size = np.abs(0.7 * width * row.right + 1.6 * row.out) + rng.uniform(2.2, 3.5) * UP
        planks = self._variant(rng, textures.planks, 3)
        self.scene.box(shed, size, planks, Label.BUILDING, base=KERB_M, tint=_pick(rng, _FENCE_TINTS))

    def _park(self, row: Frontage, along: float, width: float, rng: np.random.Generator) -> None:
        """Trees on a lawn behind a hedge of bushes, with an obelisk in the middle."""
        for _ in range(7):
            self._tree(row.at(along + rng.uniform(1.0, width - 1.0), -rng.uniform(2.0, 12.0)), rng, 1.3)
        for step in np.arange(0.8, width, 1.6):
            if abs(step - width / 2.0) > 2.0:
                self._crown(row.at(along + step, -0.9, 0.75), 0.95, rng)
        stone = self._variant(rng, textures.rubble, 3)
        centre = row.at(along + width / 2.0, -4.0)
        self.scene.box(centre, (2.4, 2.4, 0.8), stone, Label.OTHER, base=KERB_M)
        self.scene.box(centre, (1.1, 1.1, 6.5), stone, Label.OTHER, base=KERB_M + 0.8, taper=0.55)

    def _screen(
        self,
        row: Frontage,
        along: float,
        width: float,
        image: Texture,
        label: Label,
        height: float,
        tint: Colour,
        repeat_m: float,
    ) -> None:
        """A fence or a wall along the street, seen from both sides."""
        uv = (width / repeat_m, 1.0)
        rise = height * UP
        self.scene.rectangle(row.at(along), width * row.right, rise, image, label, tint=tint, uv=uv, patch_m=2.5)
        rear = row.at(along + width, -0.15)
        self.scene.rectangle(rear, -width * row.right, rise, image, label, tint=tint, uv=uv, patch_m=2.5)
        top = row.at(along, 0.0, KERB_M + height)
        self.scene.rectangle(top, width * row.right, -0.15 * row.out, image, label, tint=tint, uv=uv)

    # --- street furniture -------------------------------------------------------------------------------------------

    def furniture(self, row: Frontage, number: int) -> None:
        """Trees, lamps, signs, bins, benches and bill-boards near the kerb."""
        rng = self._rng(4, number)
        kerb = self.streets.sidewalk_m - 0.5
        if not row.inner and row.length < self.streets.block_depth_m:
            return
        trim = 3.0 if row.inner else HOUSE_DEPTH_M + self.streets.sidewalk_m + 3.0
        planter = rng.random() < 0.7
        along = trim + rng.uniform(0.0, 3.0)
        while along < row.length - trim:
            place = row.at(along, kerb)
            kinds = ["tree", "lamp", "sign", "bin", "box", "board", "gap"]
            shares = [0.38, 0.24, 0.12, 0.07, 0.06, 0.05, 0.08] if planter else [0, 0.40, 0.22, 0.1, 0.09, 0.09, 0.1]
            kind = rng.choice(kinds, p=shares)
            if kind == "tree":
                self._tree(place, rng, 1.0)
            elif kind == "lamp":
                self._lamp(place, row.out, rng)
            elif kind == "sign":
                self._sign(place, row, rng)
            elif kind == "bin":
                tint = _pick(rng, ((0.2, 0.4, 0.2), (0.3, 0.3, 0.32), (0.7, 0.45, 0.1)))
                self.scene.box(place, (0.5, 0.5, 1.0), self._plain, Label.OTHER, base=KERB_M, tint=tint)
            elif kind == "box":
                tint = _pick(rng, ((0.8, 0.7, 0.1), (0.7, 0.1, 0.1), (0.45, 0.5, 0.45)))
                self.scene.box(place, (0.7, 0.7, 1.5), self._plain, Label.OTHER, base=KERB_M, tint=tint)
            elif kind == "board":
                self._board(place, row, rng)
            along += rng.uniform(4.0, 7.5)

    @property
    def _plain(self) -> Texture:
        return self.texture(textures.plain, (self.seed, 9))

    def _pole(self, place: Array, height: float, width: float = 0.12, tint: Colour = (0.30, 0.32, 0.33)) -> None:
        size = (width, width, height)
        self.scene.box(place, size, self._plain, Label.POLE, base=place[2], tint=tint, yaw=np.pi / 4.0)

    def _lamp(self, place: Array, street: Array, rng: np.random.Generator) -> None:
        """A lamp post with an arm over the street, now and then with a banner."""
        self._pole(place, 5.2, 0.16)
        size = np.abs(1.2 * street + 0.2 * np.cross(street, UP)) + 0.16 * UP
        tint = (0.95, 0.90, 0.75)
        self.scene.box(place + 0.6 * street, size, self._plain, Label.POLE, base=place[2] + 5.1, tint=tint)
        if rng.random() < 0.3:
            flag = self._variant(rng, textures.poster, 5)
            self._panel(place + 3.2 * UP + 0.1 * street, street, 1.0, 1.2, flag)

    def _sign(self, place: Array, row: Frontage, rng: np.random.Generator) -> None:
        self._pole(place, 2.6, 0.08, (0.6, 0.6, 0.6))
        self._panel(place + 1.9 * UP - 0.32 * row.out, row.out, 0.64, 0.64, self._variant(rng, textures.sign, 9))

    def _panel(self, origin: Array, right: Array, width: float, height: float, image: Texture) -> None:
        """A thin upright board that faces traffic from both sides."""
        out = 0.05 * np.cross(right, UP)
        self.scene.rectangle(origin + out, width * right, height * UP, image, Label.SIGN)
        self.scene.rectangle(origin + width * right - out, -width * right, height * UP, image, Label.SIGN)

    def _board(self, place: Array, row: Frontage, rng: np.random.Generator) -> None:
        image = self._variant(rng, textures.poster, 5)
        size = np.abs(0.25 * row.right + 1.3 * row.out) + 2.3 * UP
        self.scene.box(place, size, (image, image, self._plain), Label.OTHER, base=KERB_M)

    def _tree(self, place: Array, rng: np.random.Generator, scale: float) -> None:
        height = scale * rng.uniform(2.4, 3.2)
        bark = _pick(rng, ((0.36, 0.27, 0.20), (0.44, 0.38, 0.32), (0.26, 0.21, 0.17)))
        size = (0.30 * scale, 0.30 * scale, height + 0.6)
        image = self.texture(textures.plain, (self.seed, 8), 0.3)
        self.scene.box(
            place, size, image, Label.VEGETATION, base=place[2], tint=bark, yaw=rng.uniform(0, 1.5), taper=0.7
        )
        radius = scale * rng.uniform(1.15, 1.7)
        top = place + (height + 0.75 * radius) * UP
        self._crown(top, radius, rng)
        for _ in range(2):
            shift = rng.normal(0.0, 0.45 * radius, 3) * [1.0, 1.0, 0.6] + [0.0, 0.0, 0.25 * radius]
            self._crown(top + shift, radius * rng.uniform(0.55, 0.8), rng)

    def _crown(self, centre: Array, radius: float, rng: np.random.Generator) -> None:
        """A lump of leaves."""
        points, triangles = _sphere()
        jitter = radius * rng.uniform(0.86, 1.14, (len(points), 1)) * [1.0, 1.0, rng.uniform(0.8, 1.1)]
        corners = (np.asarray(centre) + points * jitter)[triangles]
        normals = points[triangles]
        azimuth = np.arctan2(normals[..., 1], normals[..., 0]) / (2.0 * np.pi)
        azimuth = azimuth + (azimuth < azimuth.max(axis=1, keepdims=True) - 0.5)
        uv = np.stack([2.0 * azimuth, 1.1 * np.arcsin(normals[..., 2]) / np.pi], axis=-1) + rng.random(2)
        image = self._variant(rng, textures.leaves, 4, self.look)
        red, green, blue = rng.uniform(0.82, 1.0, 3).tolist()
        self.scene.faces(
            corners, uv, image, Label.VEGETATION, (red, green, blue),
            normals=normals, occlusion=0.72 + 0.28 * normals[..., 2],
        )  # fmt: skip
        self.scene.balls.append((np.asarray(centre), 0.9 * radius))

    def traffic_lights(self) -> None:
        """One per corner of the crossings in the middle street."""
        streets = self.streets
        off = streets.half_road_m + 0.5
        for y, side in zip(streets.crossings_y, (1.0, -1.0), strict=True):
            for x in (streets.crossings_x[1] - off, streets.crossings_x[1] + off):
                place = np.array([x, y + side * off, KERB_M])
                self._pole(place, 2.3)
                self.scene.box(
                    place, (0.32, 0.32, 0.95), self._plain, Label.TRAFFIC_LIGHT, base=2.4, tint=(0.16, 0.2, 0.16)
                )
                for k, tint in enumerate(((0.2, 0.75, 0.4), (0.9, 0.7, 0.1), (0.9, 0.15, 0.1))):
                    lens = place + (2.36 + 0.28 * k) * UP
                    self.scene.box(lens, (0.36, 0.36, 0.18), self._plain, Label.TRAFFIC_LIGHT, base=lens[2], tint=tint)

    def skyline(self) -> None:
        """Tall houses behind the ring and one tower, which show where one is."""
        rng, streets = self._rng(5), self.streets
        middle = np.array([streets.block_length_m, 0.5 * streets.block_depth_m])
        reach = middle + streets.half_street_m + HOUSE_DEPTH_M
        for k in range(12):
            angle = 2.0 * np.pi * (k + rng.uniform(0.1, 0.7)) / 12.0
            ray = np.array([np.cos(angle), np.sin(angle)])
            edge = np.min(reach / np.maximum(np.abs(ray), 1e-6))
            centre = middle + ray * (edge + rng.uniform(14.0, 45.0))
            tall = k == 0
            size = (4.5, 4.5, 34.0) if tall else (*rng.uniform(8.0, 16.0, 2), rng.uniform(15.0, 26.0))
            spec = self._facade(rng, (self.seed, 6, k % 4), 12.0, 18.0)
            image = self.texture(textures.facade, replace(spec, shop=False), self.look)
            roof = self._variant(rng, textures.roof, 2, self.look)
            self.scene.box(centre, size, (image, image, roof), Label.BUILDING, yaw=rng.uniform(0, 1.5))
            if tall:
                spire = np.array([*centre, 0.0])
                self.scene.box(
                    spire, (4.9, 4.9, 9.0), roof, Label.BUILDING, base=34.0, tint=(0.35, 0.5, 0.45), taper=0.05
                )

    # --- what moves -------------------------------------------------------------------------------------------------

    def traffic(self) -> None:
        """Cars at the kerbs and on the left lane, people on the sidewalks."""
        rng = np.random.default_rng((self.look.seed, 0xCA2))
        streets = self.streets
        for row in self.frontages:
            trim = 6.0 if row.inner else HOUSE_DEPTH_M + streets.half_street_m + streets.half_road_m + 6.0
            heading = float(np.arctan2(row.right[1], row.right[0])) + np.pi
            for along in np.arange(trim + rng.uniform(0.0, 3.0), row.length - trim, 6.0):
                if rng.random() < 0.42:
                    self._car(row.at(along, streets.sidewalk_m + 0.95, 0.0), heading + rng.normal(0.0, 0.02), rng)
            if row.inner and rng.random() < 0.5:
                place = row.at(row.length * rng.uniform(0.35, 0.65), streets.half_street_m - 1.6, 0.0)
                self._car(place, heading, rng)
            for along in rng.uniform(2.0, row.length - 2.0, int(rng.integers(0, 4))):
                self._person(row.at(along, rng.uniform(0.4, 1.6)), rng)

    def _car(self, place: Array, heading: float, rng: np.random.Generator) -> None:
        paint = _pick(rng, _PAINTS)
        side, end = self.texture(textures.car_side), self.texture(textures.car_end)
        glass, top = self.texture(textures.car_glass), self._plain
        length, height = rng.uniform(3.9, 4.7), rng.uniform(0.65, 0.8)
        self.scene.box(place, (length, 1.75, height), (side, end, top), Label.CAR, base=0.22, yaw=heading, tint=paint)
        cabin = place - 0.25 * np.array([np.cos(heading), np.sin(heading), 0.0])
        size = (0.58 * length, 1.6, rng.uniform(0.5, 0.75))
        base = 0.22 + height
        self.scene.box(cabin, size, glass, Label.CAR, base=base, yaw=heading, taper=0.78)
        lid = (0.78 * size[0], 0.78 * size[1], 0.03)
        self.scene.box(cabin, lid, top, Label.CAR, base=base + size[2], yaw=heading, tint=paint)
        self.scene.box(place, (length - 0.3, 1.6, 0.22), top, Label.CAR, yaw=heading, tint=(0.08, 0.08, 0.08))

    def _person(self, place: Array, rng: np.random.Generator) -> None:
        yaw, height = rng.uniform(0.0, 6.3), rng.uniform(0.9, 1.08)
        coat, legs = _pick(rng, _PAINTS), _pick(rng, ((0.15, 0.18, 0.3), (0.2, 0.2, 0.2), (0.4, 0.35, 0.25)))
        skin = _pick(rng, ((0.85, 0.65, 0.52), (0.55, 0.38, 0.28), (0.92, 0.75, 0.62)))
        parts = ((0.24, 0.34, 0.82, 0.0, legs), (0.28, 0.48, 0.62, 0.82, coat), (0.2, 0.2, 0.26, 1.48, skin))
        for x, y, z, base, tint in parts:
            self.scene.box(
                place, (x, y, z * height), self._plain, Label.PERSON, base=place[2] + base * height, yaw=yaw, tint=tint
            )


_FENCE_TINTS: tuple[Colour, ...] = ((0.55, 0.40, 0.26), (0.85, 0.85, 0.82), (0.35, 0.42, 0.36), (0.45, 0.45, 0.48))
_PAINTS: tuple[Colour, ...] = (
    (0.75, 0.10, 0.10),
    (0.12, 0.22, 0.50),
    (0.92, 0.92, 0.92),
    (0.12, 0.12, 0.13),
    (0.60, 0.62, 0.64),
    (0.85, 0.70, 0.15),
    (0.15, 0.40, 0.25),
    (0.45, 0.28, 0.16),
)


def _frontages(streets: Streets) -> Iterator[Frontage]:
    """The four rows of each block, then the four of the ring; the east-west ones own the corners."""
    walk, depth = streets.half_street_m, HOUSE_DEPTH_M
    y0, y1 = streets.crossings_y
    for x0, x1 in pairwise(streets.crossings_x):
        yield from _rows((x0 + walk, y0 + walk, x1 - walk, y1 - walk), -depth, inner=True)
    xs = streets.crossings_x
    yield from _rows((xs[0] - walk, y0 - walk, xs[-1] + walk, y1 + walk), depth, inner=False)


def _rows(rect: tuple[float, float, float, float], depth: float, *, inner: bool) -> Iterator[Frontage]:
    """Rows along the south, east, north and west edge; `depth` > 0 builds outside the rectangle, < 0 inside."""
    x0, y0, x1, y1 = rect
    corners = [np.array(c, np.float64) for c in ((x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0))]
    for k in range(4):
        begin, end = corners[k], corners[(k + 1) % 4]
        along = (end - begin) / np.linalg.norm(end - begin)
        trim = max(depth, 0.0) if k % 2 == 0 else min(depth, 0.0)
        begin, end = begin - trim * along, end + trim * along
        out = np.cross(along, UP)
        if not inner:
            begin, end, along, out = end, begin, -along, -out
        yield Frontage(begin, along, out, float(np.linalg.norm(end - begin)), inner)


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _sphere() -> tuple[Array, NDArray[np.int64]]:
    """Points (N, 3) and outward triangles (F, 4), last corner repeated, of a ball of 80 faces."""
    g = (1.0 + 5.0**0.5) / 2.0
    points = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g)]
    points += [(0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2)]
    faces += [(10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5)]
    faces += [(2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    vertices = [np.array(p) / np.linalg.norm(p) for p in points]
    middle: dict[tuple[int, int], int] = {}

    def half(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middle:
            middle[key] = len(vertices)
            vertices.append((vertices[a] + vertices[b]) / np.linalg.norm(vertices[a] + vertices[b]))
        return middle[key]

    small = []
    for a, b, c in faces:
        ab, bc, ca = half(a, b), half(b, c), half(c, a)
        small += [(a, ab, ca, ca), (b, bc, ab, ab), (c, ca, bc, bc), (ab, bc, ca, ca)]
    return np.array(vertices), np.array(small)
