"""Reads maps of before there were databases: NumPy `.npz` archives of arrays and one JSON text, never a pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr_ros.errors import MapError
from vpr_ros.map.keyframe_headers import Header
from vpr_ros.types import Keyframe, Thumbnail

FORMAT = "vpr_ros.place_map.1"
_SMALL_BYTES = 1 << 26
_MOST_SHRUNK = 20
"""An archive was stored as it is. Whoever compressed one gained a factor of two."""


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """What an archive holds; `links` are pairs of positions in `keyframes`."""

    dim: int
    model_id: str
    keyframes: tuple[Keyframe, ...]
    links: tuple[tuple[int, int], ...]


def read_archive(path: Path) -> Archive:
    """Raises MapError if it is missing, corrupt or of another format."""
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays["header"].tobytes())
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise MapError(f"{path} is not a map of this version ({FORMAT})")
        descriptors = _checked(arrays)
        keyframes = _keyframes(header["keyframes"], arrays)
        links = tuple((int(a), int(b)) for a, b in arrays["links"].tolist())
        return Archive(descriptors.shape[1], str(header["model_id"]), tuple(keyframes), links)
    except FileNotFoundError as error:
        raise MapError(f"there is no map {path}") from error
    except MapError:
        raise
    except MemoryError as error:
        raise MapError(f"cannot load map {path}: there is too little memory") from error
    except Exception as error:  # zipfile, zlib and numpy let out whatever damaged bytes cause
        raise MapError(f"{path} is corrupt or no map: {error}") from error


def _check_sizes(path: Path) -> None:
    """Before anything is unpacked. Raises MapError, and what `zipfile` raises for a file that is none of its kind."""
    with zipfile.ZipFile(path) as archive:
        for array in archive.infolist():
            if array.file_size > max(_SMALL_BYTES, _MOST_SHRUNK * array.compress_size):
                raise MapError(f"{path} is no map: {array.compress_size} bytes of it would become {array.file_size}")


def _checked(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The descriptors (N, D) of a file. Raises ValueError where a foreign or forged one would lead recognition astray."""
    descriptors, links = arrays["descriptors"], arrays["links"]
    if descriptors.ndim != 2 or descriptors.dtype != np.float32:
        raise ValueError(f"descriptors of shape {descriptors.shape} and type {descriptors.dtype}")
    if not np.allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-3):
        raise ValueError("descriptors that are not of unit length")
    if links.size and not (links.min() >= 0 and links.max() < len(descriptors)):
        raise ValueError("loop closures with keyframes that it does not have")
    return descriptors


def _keyframes(headers: Any, arrays: Mapping[str, NDArray[Any]]) -> list[Keyframe]:
    """Raises ValueError, TypeError or KeyError where something is not as it must be."""
    sizes, thumbnails = arrays["thumbnail_sizes"], arrays["thumbnails"]
    if not isinstance(headers, list) or not len(headers) == len(arrays["descriptors"]) == len(sizes):
        raise ValueError("its arrays disagree on the number of keyframes")
    if sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 0 or sizes.sum() != len(thumbnails)):
        raise ValueError("its pictures are not as long as it announces")
    ends = np.cumsum(sizes)
    keyframes = []
    for i, values in enumerate(headers):
        head = Header(values, i)
        jpeg, scale = thumbnails[ends[i] - sizes[i] : ends[i]].tobytes(), head.scale
        keyframes.append(
            Keyframe(
                ref=head.ref,
                descriptor=arrays["descriptors"][i],
                thumbnail=None if scale is None else Thumbnail(jpeg, scale),
                camera=head.camera,
                body_from_camera=head.pose("body_from_camera"),
                odom_from_body=head.pose("odom_from_body"),
                travelled_m=head.travelled_m,
                elapsed_ns=head.integer("elapsed_ns", 0, -(2**63), 2**63 - 1),
                odometry_segment=head.integer("odometry_segment", 0, 0, 2**63 - 1),
            )
        )
    return keyframes
