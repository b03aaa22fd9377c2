"""Draws the demo world on the CPU with Panda3D's software renderer; no window system, no GPU, no shaders."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from demo_world import textures
from demo_world.appearance import Appearance
from demo_world.lighting import light_corners
from demo_world.scenery import Label, Scene, Surface, build, face_normals, grid_quads
from demo_world.streets import Streets
from vpr_ros.errors import ConfigError, VprError
from vpr_ros.types import Camera, Image, Pose

DEMO_CAMERA = Camera(fx=400.0, fy=400.0, cx=319.5, cy=239.5, width=640, height=480)
"""77 degrees wide, 62 high."""

_NEAR_M, _FAR_M = 0.2, 500.0
_CELL_M = 16.0
_OVERSAMPLING = 2
_RENDERER_OPTIONS = """
load-display p3tinydisplay
window-type offscreen
audio-library-name null
notify-level-x11display fatal
"""
_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4), ("uv", "<f4", 2)])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera sees. `depth` and `labels` are None unless the ground truth was asked for.

    `depth` (H, W) float32 is the distance along the optical axis in metres, inf for sky, at the pixel's centre.
    `labels` (H, W) uint8 are Cityscapes train ids, 19 for other things.
    """

    image: Image
    depth: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None


class DemoWorld:
    """Two city blocks to drive around, the same for the same `seed`, in whatever light and weather.

    Raises VprError without Panda3D, ConfigError for a camera with distortion. Several worlds may be open at once, but
    use each from the thread that made it. Close it after use, or use it in a `with` statement.
    """

    def __init__(
        self,
        seed: int = 0,
        appearance: Appearance | None = None,
        camera: Camera = DEMO_CAMERA,
        streets: Streets | None = None,
    ) -> None:
        if camera.distortion or camera.fisheye:
            raise ConfigError("the demo world renders ideal pinhole cameras: remove the distortion")
        self.camera = camera
        self.appearance = appearance or Appearance()
        self._stage = _Stage(camera)
        scene = build(seed, self.appearance, streets or Streets())
        self._faces = _Faces(scene.surfaces)
        self._picture = self._stage.add_layer(_OVERSAMPLING)
        self._draw_picture(scene, seed)
        self._numbers = self._stage.add_layer(1)
        self._draw_numbers()

    def render(self, world_from_camera: Pose, *, ground_truth: bool = False) -> View:
        """The view from a (4, 4) optical frame: x right, y down, z forward; the world's z points up, in metres."""
        image = self._shrink(self._stage.shoot(self._picture, world_from_camera))
        hazy = np.isfinite(self.appearance.visibility_m)
        if not (ground_truth or hazy):
            return View(image)
        colour = self._stage.shoot(self._numbers, world_from_camera)[::-1].view("<u4")[..., 0]
        face = (colour & 0xFFFFFF).astype(np.int64)
        depth = self._faces.depth(face, self.camera, world_from_camera)
        if hazy:
            image = self._haze(image, depth)
        return View(image, depth, self._faces.labels[face]) if ground_truth else View(image)

    def close(self) -> None:
        """Frees the renderer; the world draws nothing after."""
        self._stage.close()

    def __enter__(self) -> DemoWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw_picture(self, scene: Scene, seed: int) -> None:
        rgba = np.full((len(self._faces.corners), 4, 4), 255, np.uint8)
        rgba[..., :3] = np.round(255.0 * np.clip(light_corners(scene, self.appearance), 0.0, 1.0))
        uv = np.concatenate([surface.uv for surface in scene.surfaces])
        paints = list(dict.fromkeys(surface.texture for surface in scene.surfaces))
        uploaded = [self._stage.upload(paint.image) for paint in paints]
        number = {paint: k for k, paint in enumerate(paints)}
        counts = [len(surface.corners) for surface in scene.surfaces]
        paint_of = np.repeat([number[surface.texture] for surface in scene.surfaces], counts)
        for rows in self._faces.groups(paint_of):
            self._stage.add_faces(
                self._picture, self._faces.corners[rows], rgba[rows], uv[rows], uploaded[paint_of[rows[0]]]
            )
        self._stage.add_sky(self._picture, textures.sky(self.appearance, (seed, 8)).image)

    def _draw_numbers(self) -> None:
        """Every face in a colour that is its number, counted from 1; 0 is sky."""
        numbers = np.arange(1, len(self._faces.corners) + 1)
        rgba = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255, np.full_like(numbers, 255)], axis=1)
        rgba = np.repeat(rgba[:, None, :], 4, axis=1).astype(np.uint8)
        for rows in self._faces.groups(np.zeros_like(numbers)):
            self._stage.add_faces(self._numbers, self._faces.corners[rows], rgba[rows])

    def _shrink(self, bgra: NDArray[np.uint8]) -> Image:
        size = (self.camera.width, self.camera.height)
        small = cv2.resize(bgra, size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(cv2.flip(small, 0), cv2.COLOR_BGRA2RGB).astype(np.uint8, copy=False)

    def _haze(self, image: Image, depth: NDArray[np.float32]) -> Image:
        clear = np.exp(np.where(np.isinf(depth), 0.0, depth) / np.float32(-self.appearance.visibility_m))
        veil = np.array(self.appearance.horizon, np.float32) * np.float32(255.0)
        hazed = cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB) * (image - veil) + veil
        return np.round(hazed).astype(np.uint8)


class _Faces:
    """All faces of the world as arrays; face n of a picture of numbers is row n - 1."""

    def __init__(self, surfaces: list[Surface]) -> None:
        self.corners = np.concatenate([surface.corners for surface in surfaces])
        self._normals = face_normals(self.corners)
        self._offsets = np.einsum("fi,fi->f", self._normals, self.corners[:, 0])
        classes = [np.full(len(surface.corners), surface.label, np.uint8) for surface in surfaces]
        self.labels = np.concatenate([np.array([Label.SKY], np.uint8), *classes])

    def groups(self, kind: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows that lie near each other and are of one kind: what the renderer culls and draws at once."""
        cell = np.floor(self.corners[:, :, :2].mean(axis=1) / _CELL_M).astype(np.int64)
        key = np.column_stack([cell, kind])
        order = np.lexsort(key.T)
        ends = np.flatnonzero(np.any(np.diff(key[order], axis=0) != 0, axis=1)) + 1
        return np.split(order, ends)

    def depth(self, face: NDArray[np.int64], camera: Camera, world_from_camera: Pose) -> NDArray[np.float32]:
        """(H, W) depth in m: where the ray of each pixel's centre meets the plane of the face it shows.

        The renderer rounds corners to pixels, so that a pixel at a rim may miss its face by a little: such a depth is
        held within the depths of the face's corners.
        """
        rotation, centre = world_from_camera[:3, :3], world_from_camera[:3, 3]
        tilt = (self._normals @ rotation) / (self._offsets - self._normals @ centre + 1e-12)[:, None]
        across, down = tilt[:, 0] / camera.fx, tilt[:, 1] / camera.fy
        level = tilt[:, 2] - across * camera.cx - down * camera.cy
        z = np.maximum((self.corners - centre) @ rotation[:, 2], 1e-3)
        sky = np.zeros(1)
        across, down, level, least, most = (
            np.concatenate([sky, per_face])[face]
            for per_face in (across, down, level, 1.0 / z.max(axis=1), 1.0 / z.min(axis=1))
        )
        inverse = across * np.arange(camera.width) + down * np.arange(camera.height)[:, None] + level
        with np.errstate(divide="ignore"):
            return (1.0 / np.clip(inverse, least, most)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Layer:
    """An off-screen buffer, the pixels that it copies to memory and the scene that it draws.

    The `carriage` goes where the camera is but keeps its bearing; the `eye` turns on it.
    """

    buffer: Any
    pixels: Any
    root: Any
    carriage: Any
    eye: Any


class _Stage:
    """A thin layer over Panda3D's software renderer: layers seen by one camera."""

    def __init__(self, camera: Camera) -> None:
        self._p3d = _panda3d()
        self._camera = camera
        self._engine = self._p3d.GraphicsEngine(None)
        self._pipe = _software_pipe(self._p3d)
        self._layers: list[_Layer] = []

    def add_layer(self, scale: int) -> _Layer:
        """An empty layer, drawn at `scale` times the camera's size."""
        p3d, number = self._p3d, len(self._layers)
        size = p3d.WindowProperties.size(self._camera.width * scale, self._camera.height * scale)
        properties = p3d.FrameBufferProperties(p3d.FrameBufferProperties.get_default())
        flags = p3d.GraphicsPipe.BF_refuse_window | p3d.GraphicsPipe.BF_resizeable
        buffer = self._engine.make_output(self._pipe, f"layer{number}", number, properties, size, flags)
        if buffer is None:
            raise VprError("Panda3D could not open an off-screen buffer of its software renderer")
        pixels = p3d.Texture()
        buffer.add_render_texture(pixels, p3d.GraphicsOutput.RTM_copy_ram)
        buffer.set_clear_color((0.0, 0.0, 0.0, 1.0))
        buffer.set_active(False)
        root = p3d.NodePath(f"scene{number}")
        root.set_bin(_near_first_bin(p3d), 0)
        carriage = root.attach_new_node("carriage")
        eye = carriage.attach_new_node(p3d.Camera("eye", self._lens()))
        buffer.make_display_region().set_camera(eye)
        self._layers.append(_Layer(buffer, pixels, root, carriage, eye))
        return self._layers[-1]

    def _lens(self) -> Any:
        """The pinhole camera. A pixel's centre has whole coordinates, as in OpenCV, so column 0 begins at -0.5."""
        k = self._camera
        lens = self._p3d.PerspectiveLens()
        lens.set_film_size(k.width / k.fx, k.height / k.fy)
        lens.set_focal_length(1.0)
        lens.set_film_offset(((k.width - 1) / 2.0 - k.cx) / k.fx, (k.cy - (k.height - 1) / 2.0) / k.fy)
        lens.set_near_far(_NEAR_M, _FAR_M)
        return lens

    def upload(self, image: NDArray[np.uint8]) -> Any:
        """A texture of an RGB image, sampled with mipmaps."""
        p3d = self._p3d
        texture = p3d.Texture()
        texture.setup_2d_texture(image.shape[1], image.shape[0], p3d.Texture.T_unsigned_byte, p3d.Texture.F_rgb)
        texture.set_ram_image(np.ascontiguousarray(image[::-1, :, ::-1]).tobytes())
        texture.set_minfilter(p3d.SamplerState.FT_linear_mipmap_nearest)
        texture.set_magfilter(p3d.SamplerState.FT_linear)
        return texture

    def add_faces(
        self,
        layer: _Layer,
        corners: NDArray[np.float64],
        rgba: NDArray[np.uint8],
        uv: NDArray[np.float64] | None = None,
        texture: Any = None,
    ) -> Any:
        """Adds quads (F, 4, 3) with corner colours (F, 4, 4) and texture coordinates (F, 4, 2)."""
        p3d = self._p3d
        vertices = np.zeros(corners.shape[:2], _VERTEX)
        vertices["xyz"], vertices["rgba"] = corners, rgba
        if uv is not None:
            vertices["uv"] = uv
        data = p3d.GeomVertexData("faces", p3d.GeomVertexFormat.get_v3c4t2(), p3d.Geom.UH_static)
        data.unclean_set_num_rows(vertices.size)
        data.modify_array_handle(0).copy_data_from(vertices.tobytes())
        triangles = _triangles(corners)
        primitive = p3d.GeomTriangles(p3d.Geom.UH_static)
        primitive.set_index_type(p3d.Geom.NT_uint32)
        indices = primitive.modify_vertices()
        indices.unclean_set_num_rows(triangles.size)
        indices.modify_handle().copy_data_from(triangles.tobytes())
        geometry = p3d.Geom(data)
        geometry.add_primitive(primitive)
        node = p3d.GeomNode("faces")
        node.add_geom(geometry)
        path = layer.root.attach_new_node(node)
        if texture is not None:
            path.set_texture(texture)
        return path

    def add_sky(self, layer: _Layer, image: NDArray[np.uint8]) -> None:
        """A dome around the camera, drawn last, where nothing else is."""
        azimuth = np.linspace(2.0 * np.pi, 0.0, 25)
        height = np.radians([-12.0, 0.0, 10.0, 22.0, 38.0, 60.0, 89.9])
        a, h = np.meshgrid(azimuth, height)
        directions = np.stack([np.cos(h) * np.cos(a), np.cos(h) * np.sin(a), np.sin(h)], axis=-1)
        corners = grid_quads(0.9 * _FAR_M * directions)
        uv = grid_quads(np.stack([a / np.pi, np.maximum(h / (np.pi / 2.0), 0.004)], axis=-1))
        white = np.full((len(corners), 4, 4), 255, np.uint8)
        dome = self.add_faces(layer, corners, white, uv, self.upload(image))
        dome.set_bin("fixed", 0)
        dome.node().set_bounds(self._p3d.OmniBoundingVolume())
        dome.reparent_to(layer.carriage)

    def shoot(self, layer: _Layer, world_from_camera: Pose) -> NDArray[np.uint8]:
        """(H, W, 4) uint8 as the renderer keeps it: BGRA, the lowest row first."""
        if not self._layers:
            raise VprError("this demo world is closed")
        right, down, forward = world_from_camera[:3, :3].T
        rows = np.eye(4)
        rows[:3, :3] = right, forward, -down
        layer.carriage.set_pos(*world_from_camera[:3, 3].tolist())
        layer.eye.set_mat(self._p3d.LMatrix4(*rows.ravel().tolist()))
        layer.buffer.set_active(True)
        self._engine.render_frame()
        layer.buffer.set_active(False)
        size = (layer.pixels.get_y_size(), layer.pixels.get_x_size(), 4)
        return np.frombuffer(layer.pixels.get_ram_image(), np.uint8).reshape(size)

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        if not self._layers:
            return
        for layer in self._layers:
            layer.root.get_children().detach()
            # The software renderer forgets to free the pixels of a closed buffer: leave it but one.
            layer.buffer.set_size(1, 1)
            layer.buffer.set_active(True)
        self._engine.render_frame()
        self._engine.remove_all_windows()
        self._layers.clear()
        for _ in range(3):  # states hold each other, and these the textures
            self._p3d.RenderState.garbage_collect()
            self._p3d.TransformState.garbage_collect()


def _triangles(corners: NDArray[np.float64]) -> NDArray[np.uint32]:
    """(T, 3) vertex numbers: two triangles for a quad, one where the last corner repeats."""
    first = 4 * np.arange(len(corners), dtype=np.uint32)[:, None]
    both = (first + np.array([0, 1, 2, 0, 2, 3], np.uint32)).reshape(-1, 2, 3)
    is_quad = np.any(corners[:, 2] != corners[:, 3], axis=1)
    return both.reshape(-1, 3)[np.column_stack([np.ones_like(is_quad), is_quad]).ravel()]


def _near_first_bin(p3d: Any) -> str:
    """Drawing what is near first spares painting what it hides."""
    manager = p3d.CullBinManager.get_global_ptr()
    if manager.find_bin("near first") < 0:
        manager.add_bin("near first", p3d.CullBinManager.BT_front_to_back, 20)
    return "near first"


def _panda3d() -> Any:
    try:
        from panda3d import core
    except ImportError as error:
        raise VprError("the demo world needs Panda3D: pip install vpr_ros[demo]") from error
    core.load_prc_file_data("vpr_ros", _RENDERER_OPTIONS)
    return core


def _software_pipe(p3d: Any) -> Any:
    selection = p3d.GraphicsPipeSelection.get_global_ptr()
    selection.load_aux_modules()
    for kind in range(selection.get_num_pipe_types()):
        if selection.get_pipe_type(kind).get_name() == "TinyOffscreenGraphicsPipe":
            return selection.make_pipe(selection.get_pipe_type(kind))
    raise VprError("this build of Panda3D lacks its software renderer (p3tinydisplay)")
