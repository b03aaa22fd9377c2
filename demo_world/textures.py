"""Procedural textures of the demo world. Each takes its own random generator, so that one never disturbs another."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo_world.appearance import Appearance, Colour

FloatImage = NDArray[np.float32]
"""(H, W, 3) float32, RGB in [0, 255]; row 0 is the top."""


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """(H, W, 3) uint8 RGB with sides that are powers of two; `lit` when the light is already painted in."""

    image: NDArray[np.uint8]
    lit: bool = False


BRICKS: tuple[Colour, ...] = ((0.66, 0.36, 0.28), (0.58, 0.30, 0.24), (0.72, 0.52, 0.38), (0.50, 0.40, 0.36))
PLASTERS: tuple[Colour, ...] = (
    (0.90, 0.84, 0.68),
    (0.88, 0.72, 0.52),
    (0.76, 0.82, 0.80),
    (0.92, 0.90, 0.86),
    (0.86, 0.64, 0.56),
    (0.70, 0.76, 0.86),
    (0.80, 0.84, 0.66),
)
STONES: tuple[Colour, ...] = ((0.72, 0.68, 0.60), (0.64, 0.64, 0.64), (0.80, 0.74, 0.62))
ACCENTS: tuple[Colour, ...] = (
    (0.15, 0.30, 0.22),
    (0.20, 0.25, 0.45),
    (0.55, 0.15, 0.15),
    (0.85, 0.80, 0.70),
    (0.35, 0.22, 0.14),
    (0.95, 0.93, 0.90),
    (0.80, 0.55, 0.12),
    (0.12, 0.45, 0.50),
)
_WORDS = [
    "CAFE",
    "BAKERY",
    "BOOKS",
    "HOTEL",
    "OPTIK",
    "TAXI",
    "PIZZA",
    "SUSHI",
    "FLOWERS",
    "BANK",
    "APOTHEKE",
    "TAILOR",
    "CINEMA",
    "BAR",
    "VINO",
    "RADIO",
    "SHOES",
    "TOYS",
    "BUTCHER",
    "FLORIST",
    "MUSIC",
    "POST",
    "MARKET",
    "KEBAB",
    "BIKES",
    "NOODLES",
    "TEA",
    "PHONES",
    "LAUNDRY",
    "THEATRE",
    "SALON",
    "DENTIST",
    "GALLERY",
    "PUB",
]
_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)


@dataclass(frozen=True, slots=True)
class Facade:
    """What a house front is made of; the painter adds detail from `seed`."""

    seed: tuple[int, ...]
    wall: str
    """brick, plaster, stone or glass"""
    colour: Colour
    accent: Colour
    width_m: float
    height_m: float
    shop: bool


def noise(rng: np.random.Generator, shape: tuple[int, int], coarse: int, octaves: int = 3) -> NDArray[np.float32]:
    """(H, W) smooth noise in about [-1, 1]; the coarsest octave has `coarse` cells across."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cells = coarse << octave
        grid = rng.uniform(-1.0, 1.0, (max(2, cells * shape[0] // shape[1]), cells)).astype(np.float32)
        total += cv2.resize(grid * 0.5**octave / 1.4, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(total, np.float32)


def grain(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) noise of single texels, softened a little, standard deviation about 0.5."""
    return cv2.GaussianBlur(rng.normal(0.0, 1.0, shape).astype(np.float32), (3, 3), 0.7)


def facade(spec: Facade, look: Appearance) -> Texture:
    """A house front with windows, a ground floor with doors or a shop, stains and posters."""
    rng = np.random.default_rng(spec.seed)
    size = 512
    per_m = np.array([size / spec.width_m, size / spec.height_m])
    canvas = _wall(rng, spec.wall, spec.colour, (size, size), per_m)
    glow = np.zeros((size, size, 3), np.float32)
    ground_m = 3.7 if spec.shop else 3.2
    floors = max(1, round((spec.height_m - ground_m - 0.5) / 3.1))
    floor_m = (spec.height_m - ground_m - 0.5) / floors
    _cornices(rng, canvas, spec, per_m, ground_m, floor_m)
    lit = np.random.default_rng((*spec.seed, 7)).random((floors + 1, 16)) < look.lit_windows
    painter = _Painter(rng, canvas, glow, per_m, spec)
    for floor in range(floors):
        painter.window_row(ground_m + floor * floor_m, floor_m, lit[floor])
    painter.ground_floor(ground_m, bool(lit[-1].any()))
    painter.clutter(ground_m)
    stains = 1.0 + 0.10 * noise(rng, (size, size), 5) + 0.03 * grain(rng, (size, size))
    stains *= np.linspace(1.03, 0.90, size, dtype=np.float32)[:, None]
    canvas *= stains[..., None]
    if look.lit_windows == 0.0:
        return Texture(_bytes(canvas))
    return Texture(_bytes(0.82 * canvas * np.array(look.ambient, np.float32) + glow), lit=True)


def side_wall(spec: Facade) -> Texture:
    """The windowless flank of the same house, 8 m x 8 m."""
    rng = np.random.default_rng((*spec.seed, 1))
    wall = "plaster" if spec.wall == "glass" else spec.wall
    canvas = _wall(rng, wall, spec.colour, (256, 256), np.array([32.0, 32.0]))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.1, 0.75, 2) * 256
        _rect(canvas, x - 3, y - 3, 33, 45, _shade(spec.accent, 0.9))
        _rect(canvas, x, y, 27, 39, (60, 70, 85))
    canvas *= (1.0 + 0.16 * noise(rng, (256, 256), 4) + 0.04 * grain(rng, (256, 256)))[..., None]
    return Texture(_bytes(canvas))


class _Painter:
    """Draws the parts of one house front; lengths are in metres, heights above the street."""

    def __init__(
        self,
        rng: np.random.Generator,
        canvas: FloatImage,
        glow: FloatImage,
        per_m: NDArray[np.float64],
        spec: Facade,
    ) -> None:
        self.rng, self.canvas, self.glow, self.per_m, self.spec = rng, canvas, glow, per_m, spec
        self.columns = max(2, round(spec.width_m / rng.uniform(2.2, 3.4)))
        self.window_m = (float(rng.uniform(0.9, 1.5)), float(rng.uniform(1.3, 2.0)))
        self.mullions = int(rng.integers(1, 4))
        self.shutters = spec.wall == "plaster" and rng.random() < 0.5
        self.arched = rng.random() < 0.25

    def window_row(self, base_m: float, floor_m: float, lit: NDArray[np.bool_]) -> None:
        """The windows of one upper floor."""
        step = self.spec.width_m / self.columns
        width, height = self.window_m
        if self.spec.wall == "glass":
            width, height = step * 0.92, floor_m * 0.80
        height = min(height, floor_m - 0.7)
        for column in range(self.columns):
            x = (column + 0.5) * step - width / 2.0
            self._window(x, base_m + 0.45 * (floor_m - height), width, height, bool(lit[column % 16]))

    def _window(self, x: float, y: float, width: float, height: float, lit: bool) -> None:
        rng, frame = self.rng, _shade(self.spec.accent, 1.0)
        if self.shutters:
            for shift in (-0.62 * width, width * 1.04):
                self._box(x + shift, y, width * 0.58, height, _shade(self.spec.accent, 0.85))
                for slat in np.arange(0.08, height, 0.16):
                    self._box(x + shift, y + slat, width * 0.58, 0.03, _shade(self.spec.accent, 0.6))
        surround = (235, 230, 220) if self.spec.wall != "glass" else (70, 75, 80)
        self._box(x - 0.12, y - 0.10, width + 0.24, height + 0.24, surround)
        self._box(x - 0.2, y - 0.2, width + 0.4, 0.12, tuple(0.75 * c for c in surround))
        if self.arched:
            self._arch(x + width / 2.0, y + height, width / 2.0, surround)
        self._box(x, y, width, height, frame)
        pane_w, pane_h = width / self.mullions, height / 2.0
        curtain = rng.random()
        shine = rng.uniform(0.6, 1.5)
        for i in range(self.mullions):
            for j in range(2):
                tone = shine * rng.uniform(0.85, 1.15) * (1.0 + 0.35 * j)
                glass = (48 * tone, 60 * tone, 78 * tone)
                self._box(x + i * pane_w + 0.05, y + j * pane_h + 0.05, pane_w - 0.1, pane_h - 0.1, glass, lit)
        if curtain < 0.45:
            drop = height * rng.uniform(0.3, 0.9)
            cloth = (200 + 40 * rng.random(), 190 + 40 * rng.random(), 170 + 50 * rng.random())
            self._box(x + 0.06, y + height - drop, width * rng.uniform(0.15, 0.9), drop, cloth, lit)
        elif curtain < 0.6:
            self._box(x, y - 0.05, width, 0.28, (70, 120, 50))
            for _ in range(5):
                self._box(x + width * rng.uniform(0, 0.9), y + 0.08, 0.12, 0.12, tuple(rng.uniform(80, 255, 3)))

    def _arch(self, x: float, y: float, radius: float, colour: tuple[float, ...]) -> None:
        centre = (round(x * self.per_m[0]), round(512 - y * self.per_m[1]))
        axes = (round((radius + 0.12) * self.per_m[0]), round(0.45 * self.per_m[1]))
        cv2.ellipse(self.canvas, centre, axes, 0, 180, 360, colour, -1)

    def ground_floor(self, height_m: float, lit: bool) -> None:
        """A shop with a sign, or doors and windows."""
        if self.spec.shop:
            self._shop(height_m, lit)
            return
        rng, width = self.rng, self.spec.width_m
        door = rng.uniform(0.1, 0.8) * (width - 1.4)
        self._box(door - 0.2, 0.0, 1.6, 2.6, (225, 220, 210))
        self._box(door, 0.0, 1.2, 2.4, _shade(self.spec.accent, 0.9))
        self._box(door + 0.15, 1.5, 0.9, 0.7, (50, 62, 80), lit)
        self._box(door + 0.15, 0.25, 0.4, 1.0, _shade(self.spec.accent, 0.65))
        self._box(door + 0.65, 0.25, 0.4, 1.0, _shade(self.spec.accent, 0.65))
        self._text(str(rng.integers(1, 199)), door + 1.5, 2.1, 0.35, (30, 40, 120))
        step = width / self.columns
        for column in range(self.columns):
            x = (column + 0.5) * step
            if not door - 0.9 < x < door + 2.1:
                self._window(x - self.window_m[0] / 2.0, 0.9, self.window_m[0], min(1.7, self.window_m[1]), False)

    def _shop(self, height_m: float, lit: bool) -> None:
        rng, width = self.rng, self.spec.width_m
        front, trim = _shade(self.spec.accent, 0.9), _shade(self.spec.accent, 0.6)
        self._box(0.15, 0.0, width - 0.3, height_m - 0.1, front)
        panes = max(2, round(width / rng.uniform(1.6, 2.6)))
        door = int(rng.integers(panes))
        step = (width - 0.7) / panes
        for pane in range(panes):
            x, sill = 0.35 + pane * step, 0.12 if pane == door else 0.55
            self._box(x + 0.06, sill, step - 0.12, 2.55 - sill, (58, 66, 76), lit)
            self._goods(x + 0.1, sill, step - 0.2, pane == door)
            self._box(x - 0.05, 0.0, 0.1, 2.6, trim)
        ink = (245, 240, 225) if sum(self.spec.accent) < 1.6 else (40, 30, 60)
        board = trim if sum(self.spec.accent) < 1.6 else _shade(self.spec.accent, 1.0)
        self._box(0.25, 2.75, width - 0.5, height_m - 2.95, board)
        words = " ".join(rng.choice(_WORDS, 1 if width < 8.0 else 2, replace=False))
        self._text(words, 0.6 + rng.uniform(0, 0.2) * width, 2.93, height_m - 3.3, ink)

    def _goods(self, x: float, y: float, width: float, is_door: bool) -> None:
        rng = self.rng
        if is_door:
            self._box(x + width * 0.8, y + 0.9, 0.06, 0.35, (230, 220, 150))
            return
        for _ in range(int(rng.integers(3, 9))):
            wide, high = rng.uniform(0.12, 0.45, 2).tolist()
            left, colour = x + rng.uniform(0.0, max(width - wide, 0.05)), tuple(rng.uniform(60, 250, 3))
            self._box(left, y + rng.uniform(0.02, 1.2), wide, high, colour)

    def clutter(self, ground_m: float) -> None:
        """Drain pipe, posters, meter boxes and graffiti: what tells one dull wall from the next."""
        rng, spec = self.rng, self.spec
        if rng.random() < 0.6:
            self._box(rng.choice([0.1, spec.width_m - 0.25]), 0.0, 0.14, spec.height_m - 0.3, (95, 95, 100))
        for _ in range(int(rng.integers(0, 5))):
            x = rng.uniform(0.3, spec.width_m - 1.0)
            self._box(
                x, rng.uniform(0.7, 1.4), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.9), tuple(rng.uniform(50, 250, 3))
            )
        for _ in range(int(rng.integers(0, 3))):
            points = rng.uniform([0.3, 0.4], [spec.width_m - 0.3, 1.6], (1, 2)) + rng.normal(0.0, 0.35, (7, 2))
            pixels = np.round(points * self.per_m * [1, -1] + [0, 512]).astype(np.int32)
            cv2.polylines(self.canvas, [pixels], False, tuple(rng.uniform(20, 240, 3).tolist()), 3, cv2.LINE_AA)
        if rng.random() < 0.4:
            x, y = rng.uniform(0.2, spec.width_m - 1.5), rng.uniform(ground_m, spec.height_m - 1.5)
            self._box(x, y, 0.9, 0.6, (215, 215, 210))
            self._box(x + 0.25, y + 0.1, 0.4, 0.4, (120, 120, 120))

    def _text(self, text: str, x: float, y: float, height_m: float, colour: tuple[float, ...]) -> None:
        font, height = int(self.rng.choice(_FONTS)), max(8.0, height_m * self.per_m[1])
        scale = height / 22.0
        (wide, _), _ = cv2.getTextSize(text, font, scale, 2)
        room = 512 - x * self.per_m[0] - 12
        if wide > room > 0:
            scale *= room / wide
        origin = (round(x * self.per_m[0]), round(512 - y * self.per_m[1]))
        _write(self.canvas, text, origin, font, scale, colour, 2)

    def _box(
        self, x: float, y: float, width: float, height: float, colour: tuple[float, ...], lit: bool = False
    ) -> None:
        left, bottom = x * self.per_m[0], 512 - y * self.per_m[1]
        wide, high = width * self.per_m[0], height * self.per_m[1]
        _rect(self.canvas, left, bottom - high, wide, high, colour)
        light = np.array([255.0, 205.0, 120.0]) * (0.35 + 0.0025 * np.mean(colour)) if lit else np.zeros(3)
        _rect(self.glow, left, bottom - high, wide, high, tuple(light))


def _wall(
    rng: np.random.Generator, kind: str, colour: Colour, shape: tuple[int, int], per_m: NDArray[np.float64]
) -> FloatImage:
    """Bare wall of brick, plaster, stone or glass; `per_m` is texels a metre across and up."""
    canvas = np.empty((*shape, 3), np.float32)
    canvas[:] = np.array(colour, np.float32) * 255.0
    if kind == "plaster":
        canvas *= (1.0 + 0.05 * noise(rng, shape, 12) + 0.04 * grain(rng, shape))[..., None]
    elif kind == "glass":
        canvas[:] = np.array([95.0, 100.0, 108.0])
    else:
        stone_m = (0.9, 0.45) if kind == "stone" else (0.42, 0.16)
        canvas *= _courses(rng, shape, stone_m[0] * per_m[0], stone_m[1] * per_m[1])[..., None]
        canvas *= (1.0 + 0.05 * grain(rng, shape))[..., None]
    return canvas


def _courses(rng: np.random.Generator, shape: tuple[int, int], wide: float, high: float) -> NDArray[np.float32]:
    """(H, W) brightness of masonry: every stone its own shade, pale joints between."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    row = (rows / high).astype(int)
    across = columns / wide + 0.5 * (row % 2)
    tones = rng.normal(1.0, 0.11, (row.max() + 1, int(across.max()) + 1))
    shade = tones[row, across.astype(int)]
    joint = (rows % high < max(1.0, 0.08 * high)) | ((across % 1.0) * wide < max(1.0, 0.06 * wide))
    return np.where(joint, 0.82 if high > 12 else 1.12, shade).astype(np.float32)


def _cornices(
    rng: np.random.Generator,
    canvas: FloatImage,
    spec: Facade,
    per_m: NDArray[np.float64],
    ground_m: float,
    floor_m: float,
) -> None:
    """Bands between the floors, a base and an eave."""
    wide = canvas.shape[1]
    pale = _shade(spec.colour, 1.25)
    if spec.wall != "glass" and rng.random() < 0.6:
        for y in np.arange(ground_m, spec.height_m - 1.0, floor_m):
            _rect(canvas, 0, 512 - y * per_m[1], wide, 0.22 * per_m[1], pale)
            _rect(canvas, 0, 512 - (y - 0.22) * per_m[1], wide, 0.06 * per_m[1], _shade(spec.colour, 0.6))
    _rect(canvas, 0, 512 - 0.5 * per_m[1], wide, 0.5 * per_m[1], _shade(spec.colour, 0.55))
    _rect(canvas, 0, 0, wide, 0.35 * per_m[1], _shade(spec.accent, 0.9))
    _rect(canvas, 0, 0.35 * per_m[1], wide, 0.10 * per_m[1], _shade(spec.colour, 0.5))


def road(seed: tuple[int, ...], look: Appearance, marking: str) -> Texture:
    """A square of asphalt as wide as the road, driven along the image's v axis.

    `marking`: line (dashed middle), zebra (a crossing) or none.
    """
    rng = np.random.default_rng(seed)
    size = 512
    canvas = np.full((size, size, 3), (112.0, 112.0, 116.0), np.float32)
    for _ in range(int(rng.integers(2, 6))):
        x, y, w, h = rng.uniform(0, size, 4) * [1, 1, 0.3, 0.4]
        _rect(canvas, x, y, w, h, (float(rng.uniform(75, 130)),) * 3)
    for _ in range(5):
        walk = np.cumsum(rng.normal(0.0, 16.0, (24, 2)), axis=0) + rng.uniform(0, size, 2)
        cv2.polylines(canvas, [walk.astype(np.int32)], False, (66, 66, 68), 2, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        centre = tuple(rng.integers(60, size - 60, 2).tolist())
        cv2.circle(canvas, centre, 20, (70, 68, 66), -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, 16, (98, 94, 90), 3, cv2.LINE_AA)
    if marking == "line":
        _rect(canvas, size / 2 - 4, 60, 9, 230, (225, 225, 220))
        for edge in (0.215, 0.785):
            _rect(canvas, size * edge - 3, 0, 6, size, (190, 190, 188))
    elif marking == "zebra":
        for stripe in range(9):
            _rect(canvas, (stripe + 0.25) * size / 9, 30, size / 18, size - 60, (222, 222, 218))
    canvas *= (1.0 + 0.09 * noise(rng, (size, size), 6, 4) + 0.09 * grain(rng, (size, size)))[..., None]
    wheels = np.abs(np.abs(np.linspace(-4.5, 4.5, size)) - 1.3)
    kept = np.clip(0.25 + 0.55 * np.abs(wheels - 0.7), 0.0, 1.0).astype(np.float32)
    return Texture(_bytes(_snow(rng, canvas, 0.75 * look.snow * kept[None, :])))


def paving(seed: tuple[int, ...], look: Appearance) -> Texture:
    """Sidewalk slabs, 2.5 m x 2.5 m."""
    rng = np.random.default_rng(seed)
    size = 256
    canvas = np.full((size, size, 3), (168.0, 162.0, 154.0), np.float32)
    canvas *= _courses(rng, (size, size), size / 4, size / 5)[..., None]
    canvas *= (1.0 + 0.06 * noise(rng, (size, size), 5) + 0.05 * grain(rng, (size, size)))[..., None]
    return Texture(_bytes(_snow(rng, canvas, np.full((size, size), 0.75 * look.snow))))


def lawn(seed: tuple[int, ...], look: Appearance) -> Texture:
    """Grass, 4 m x 4 m."""
    rng = np.random.default_rng(seed)
    size = 256
    canvas = np.full((size, size, 3), 255.0, np.float32) * np.array(look.grass, np.float32)
    canvas *= (1.0 + 0.22 * noise(rng, (size, size), 8, 4) + 0.22 * grain(rng, (size, size)))[..., None]
    return Texture(_bytes(_snow(rng, canvas, np.full((size, size), 0.95 * look.snow))))


def leaves(seed: tuple[int, ...], look: Appearance) -> Texture:
    """A crown seen from outside: clumps of light and dark leaves."""
    rng = np.random.default_rng(seed)
    size = 256
    canvas = np.full((size, size, 3), 255.0, np.float32) * np.array(look.foliage, np.float32)
    tone = 0.95 + 0.28 * noise(rng, (size, size), 10, 3)
    for shade in (0.55, 0.75, 1.0, 1.25, 1.5):
        for x, y in rng.uniform(0, size, (130, 2)):
            axes = (int(rng.integers(3, 8)), int(rng.integers(2, 5)))
            cv2.ellipse(tone, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, shade, -1)
    canvas *= tone[..., None]
    canvas *= 1.0 + 0.08 * noise(rng, (size, size), 4)[..., None] * np.array([1.0, 0.0, -0.5], np.float32)
    return Texture(_bytes(_snow(rng, canvas, np.full((size, size), 0.45 * look.snow), 24)))


def roof(seed: tuple[int, ...], look: Appearance) -> Texture:
    """Tiles, 4 m x 4 m, grey enough to be tinted."""
    rng = np.random.default_rng(seed)
    canvas = np.full((128, 128, 3), 200.0, np.float32)
    canvas *= _courses(rng, (128, 128), 10.0, 14.0)[..., None]
    return Texture(_bytes(_snow(rng, canvas, np.full((128, 128), 0.95 * look.snow))))


def plain(seed: tuple[int, ...], rough: float = 0.08) -> Texture:
    """A nearly white surface with some grain: paint, metal, cloth, bark; colour comes from the tint."""
    rng = np.random.default_rng(seed)
    tone = 232.0 * (1.0 + rough * noise(rng, (64, 64), 4) + 0.6 * rough * grain(rng, (64, 64)))
    return Texture(_bytes(np.repeat(tone[..., None], 3, axis=2)))


def planks(seed: tuple[int, ...]) -> Texture:
    """Upright boards, 2 m x 1 m; colour comes from the tint."""
    rng = np.random.default_rng(seed)
    tone = np.repeat(rng.normal(205.0, 22.0, 12), 11)[:128] * np.ones((64, 1))
    tone[:, ::11] = 70.0
    tone[10:14] *= 0.7
    tone *= 1.0 + 0.06 * grain(rng, (64, 128))
    return Texture(_bytes(np.repeat(tone[..., None].astype(np.float32), 3, axis=2)))


def rubble(seed: tuple[int, ...]) -> Texture:
    """A low wall of rough stone, 3 m x 1.2 m."""
    rng = np.random.default_rng(seed)
    canvas = _wall(rng, "stone", STONES[int(rng.integers(len(STONES)))], (128, 256), np.array([85.0, 106.0]))
    return Texture(_bytes(canvas * (1.0 + 0.15 * noise(rng, (128, 256), 8))[..., None]))


def sign(seed: tuple[int, ...]) -> Texture:
    """A traffic sign or a street name."""
    rng = np.random.default_rng(seed)
    canvas = np.full((128, 128, 3), 240.0, np.float32)
    kind = int(rng.integers(4))
    if kind == 0:
        cv2.circle(canvas, (64, 64), 60, (200, 25, 30), -1, cv2.LINE_AA)
        cv2.circle(canvas, (64, 64), 44, (245, 245, 245), -1, cv2.LINE_AA)
        _write(canvas, str(10 * rng.integers(2, 7)), (28, 82), _FONTS[0], 1.8, (20, 20, 20), 4)
    elif kind == 1:
        canvas[:] = (30, 70, 160)
        _write(canvas, "P", (36, 98), _FONTS[0], 3.0, (250, 250, 250), 7)
    elif kind == 2:
        corners = np.array([[64, 6], [122, 120], [6, 120]])
        cv2.fillPoly(canvas, [corners], (205, 25, 30))
        cv2.fillPoly(canvas, [(corners - [64, 82]) * 2 // 3 + [64, 82]], (250, 245, 235))
        _write(canvas, "!", (54, 108), _FONTS[0], 1.8, (20, 20, 20), 5)
    else:
        canvas[:] = (200, 25, 30)
        _rect(canvas, 18, 52, 92, 24, (250, 250, 250))
    return Texture(_bytes(canvas))


def poster(seed: tuple[int, ...]) -> Texture:
    """A bill-board: big shapes and a word."""
    rng = np.random.default_rng(seed)
    canvas = np.empty((128, 256, 3), np.float32)
    canvas[:] = rng.uniform(60, 240, 3)
    for _ in range(6):
        centre, radius = tuple(rng.integers(0, 256, 2).tolist()), int(rng.integers(10, 50))
        cv2.circle(canvas, centre, radius, tuple(rng.uniform(20, 250, 3).tolist()), -1, cv2.LINE_AA)
    _write(canvas, str(rng.choice(_WORDS)), (16, 90), _FONTS[1], 1.8, (250, 250, 250), 4)
    return Texture(_bytes(canvas))


def car_side() -> Texture:
    """A car's flank: doors, wheels; near white, so that a tint paints it."""
    canvas = np.full((64, 256, 3), 225.0, np.float32)
    for x in (80, 130, 178):
        _rect(canvas, x, 0, 2, 52, (120, 120, 120))
    _rect(canvas, 0, 50, 256, 14, (45, 45, 48))
    for x in (50, 206):
        cv2.circle(canvas, (x, 44), 22, (25, 25, 28), -1, cv2.LINE_AA)
        cv2.circle(canvas, (x, 44), 12, (170, 170, 175), -1, cv2.LINE_AA)
    return Texture(_bytes(canvas))


def car_end() -> Texture:
    """A car's front or back: lamps, bumper, number plate."""
    canvas = np.full((64, 128, 3), 225.0, np.float32)
    _rect(canvas, 0, 44, 128, 20, (50, 50, 54))
    _rect(canvas, 6, 14, 24, 16, (250, 235, 200))
    _rect(canvas, 98, 14, 24, 16, (250, 235, 200))
    _rect(canvas, 42, 36, 44, 11, (248, 248, 240))
    return Texture(_bytes(canvas))


def car_glass() -> Texture:
    """Car windows in their frame."""
    canvas = np.full((64, 128, 3), 60.0, np.float32)
    for x in (6, 68):
        _rect(canvas, x, 8, 54, 56, (95, 112, 130))
        _rect(canvas, x, 8, 54, 16, (150, 165, 180))
    return Texture(_bytes(canvas))


def sky(look: Appearance, seed: tuple[int, ...]) -> Texture:
    """The whole sky: columns go half around the horizon, rows from the zenith down to it."""
    rng = np.random.default_rng(seed)
    high, wide = 256, 512
    share = np.linspace(0.0, 1.0, high, dtype=np.float32)[:, None, None] ** 2.0
    zenith, horizon = (np.array(c, np.float32) * 255.0 for c in (look.zenith, look.horizon))
    canvas = (1.0 - share) * zenith + share * horizon + np.zeros((high, wide, 1), np.float32)
    billow = noise(rng, (high, wide), 8, 5)
    seam = np.abs(np.linspace(-1.0, 1.0, wide, dtype=np.float32)) ** 8
    billow += 0.5 * seam * (billow[:, ::-1] - billow)
    clear = np.quantile(billow, 1.0 - look.clouds)
    cover = np.clip((billow - clear) * 3.0 + 0.1, 0.0, 0.85)[..., None] * (1.0 - share**6)
    white = np.clip(np.array(look.ambient, np.float32) * 255.0 * 1.55, 0.0, 250.0)
    return Texture(_bytes(canvas * (1.0 - cover) + white * (0.9 + 0.12 * billow[..., None]) * cover))


def _snow(rng: np.random.Generator, canvas: FloatImage, depth: NDArray[np.floating], coarse: int = 6) -> FloatImage:
    """Whitens where the uneven cover is deep enough; `depth` in [0, 1]; `coarse` drifts across."""
    shape = (canvas.shape[0], canvas.shape[1])
    patchy = noise(rng, shape, coarse, 3)
    cover = np.clip((depth - 0.5 + 0.35 * patchy) * 2.5 + 0.5, 0.0, 1.0) * (depth > 0.0)
    white = np.array([240.0, 243.0, 250.0]) * (0.97 + 0.04 * patchy[..., None])
    return (canvas * (1.0 - cover[..., None]) + white * cover[..., None]).astype(np.float32)


def _rect(
    canvas: FloatImage, x: float, y: float, width: float, height: float, colour: tuple[float, ...] | NDArray
) -> None:
    left, top = max(0, round(x)), max(0, round(y))
    canvas[top : max(0, round(y + height)), left : max(0, round(x + width))] = colour


def _write(
    canvas: FloatImage,
    text: str,
    origin: tuple[int, int],
    font: int,
    scale: float,
    colour: tuple[float, ...],
    thickness: int,
) -> None:
    """Text, its lower left corner at `origin`; OpenCV writes on 8-bit images only."""
    ink = np.zeros(canvas.shape[:2], np.uint8)
    cv2.putText(ink, text, origin, font, scale, 255, thickness, cv2.LINE_AA)
    share = ink[..., None] / np.float32(255.0)
    canvas += share * (np.array(colour, np.float32) - canvas)


def _shade(colour: Colour, factor: float) -> tuple[float, float, float]:
    red, green, blue = (min(255.0, 255.0 * factor * c) for c in colour)
    return (red, green, blue)


def _bytes(canvas: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)
