"""Local features: points of an image that are found again in another view, and what their surroundings look like.

SIFT and ORB are built in; an ONNX file of one of the forms that `OnnxFeatures` names will do as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vpr_ros.errors import ModelError
from vpr_ros.files import expanded
from vpr_ros.images import resize
from vpr_ros.recognition.grey import Grey
from vpr_ros.types import LocalFeatures

Floats = NDArray[np.float32]
CELL = 8
"""Dense networks say where in a cell of 8 x 8 px a point lies, if anywhere."""
CHANCE = 1 / (CELL**2 + 1)
"""What a network that sees nothing gives each pixel of a cell and "nowhere"; a point is likelier."""
NEIGHBOURHOOD_PX = 5
"""A point is the likeliest pixel of a square with this side, as in XFeat."""
SIZE_MULTIPLE = 32
"""Networks that take any size halve it up to five times."""
_TRIAL = np.zeros((256, 256), np.uint8)


class LocalFeatureExtractor(Protocol):
    """Anything that finds local features in grey images. `name` is for people; `id` changes whenever the features do."""

    name: str
    id: str

    def extract(self, grey: Grey) -> LocalFeatures:
        """The strongest features of (H, W) uint8; points in px, the centre of the first pixel at (0, 0)."""

    def vectors(self, features: LocalFeatures) -> Floats:
        """(N, D): descriptors as vectors that Euclidean distance compares."""


def open_features(features: str, max_features: int) -> LocalFeatureExtractor:
    """`sift`, `orb` or the path of an ONNX file; at most `max_features` per image.

    Raises ModelError for a file that is missing or no network of local features.
    """
    if features in BUILTIN:
        return BUILTIN[features](max_features)
    return OnnxFeatures(Path(features), max_features)


class Sift:
    """SIFT (Lowe, IJCV 2004), compared as RootSIFT."""

    name = id = "sift"

    def __init__(self, max_features: int) -> None:
        self._max_features = max_features
        self._detector = cv2.SIFT_create(nfeatures=max_features)

    def extract(self, grey: Grey) -> LocalFeatures:
        points, descriptors = _detect(self._detector, grey, self._max_features)
        return LocalFeatures(points, _root_sift(descriptors))

    def vectors(self, features: LocalFeatures) -> Floats:
        return features.descriptors.astype(np.float32)


class Orb:
    """ORB (Rublee et al., ICCV 2011): 256 bits per feature, compared by Hamming's distance."""

    name = id = "orb"

    def __init__(self, max_features: int) -> None:
        self._max_features = max_features
        self._detector = cv2.ORB_create(nfeatures=max_features)

    def extract(self, grey: Grey) -> LocalFeatures:
        return LocalFeatures(*_detect(self._detector, grey, self._max_features))

    def vectors(self, features: LocalFeatures) -> Floats:
        """Bits, whose squared Euclidean distance is Hamming's."""
        return np.unpackbits(features.descriptors.view(np.uint8), axis=1).astype(np.float32)


BUILTIN: Mapping[str, Callable[[int], LocalFeatureExtractor]] = {"sift": Sift, "orb": Orb}


class OnnxFeatures:
    """Local features of a network in an ONNX file; descriptors become float32 of unit length.

    Its one input is float (1, 1 or 3, H, W) in [0, 1]: the image stretched to H x W or, where these are not fixed, to
    multiples of 32. The image is grey, three times over for a network of colour images. Its outputs are either

    - sparse, told by their names: `keypoints` (N, 2), x and y in px of the input; `scores` (N,); `descriptors` (N, D);
      each may have a first axis of 1 before these; or
    - dense, told by their shapes, as SuperPoint (DeTone et al., CVPRW 2018) and XFeat (Potje et al., CVPR 2024) make
      them: logits (1, 65, H/8, W/8) of where in its cell of 8 x 8 px a point lies, row by row, the last for "nowhere";
      descriptors (1, D, H/8, W/8); and, where there is one, the reliability (1, 1, H/8, W/8) that weights the points.
    """

    def __init__(self, path: Path, max_features: int) -> None:
        """Raises ModelError for a file that is missing, no ONNX model or of another form."""
        self._path, self._max_features = expanded(path), max_features
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"cannot read local features {path}: {error.strerror}; built in are sift and orb"
            ) from error
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"{path} is corrupt or no ONNX model") from error
        self.name, self.id = path.stem, hashlib.sha256(content).hexdigest()
        self._input, (self._channels, *self._size) = self._checked_input()
        self.extract(_TRIAL)  # what a network puts out is known for sure once it has run

    def extract(self, grey: Grey) -> LocalFeatures:
        image = self._fitted(grey)
        points, scores, descriptors = self._read(image)
        strongest = np.argsort(-scores, kind="stable")[: self._max_features]
        scale = np.array(image.shape[::-1]) / grey.shape[::-1]
        in_grey = (points[strongest] + 0.5) / scale - 0.5  # pixel centres are at integers
        return LocalFeatures(in_grey.astype(np.float32), _unit(descriptors[strongest], axis=1))

    def vectors(self, features: LocalFeatures) -> Floats:
        return features.descriptors.astype(np.float32, copy=False)

    def _checked_input(self) -> tuple[str, list[Any]]:
        """Name and (channels, H, W) of the input; a size that is no number is free."""
        inputs = self._session.get_inputs()
        shapes = [i.shape for i in inputs if i.type == "tensor(float)" and len(i.shape) == 4 and i.shape[1] in (1, 3)]
        if len(inputs) != 1 or not shapes:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(f"{self._path} must take one image, float (1, 1 or 3, H, W); it takes {found}")
        return inputs[0].name, shapes[0][1:]

    def _fitted(self, grey: Grey) -> Grey:
        height, width = (
            fixed if isinstance(fixed, int) else max(1, round(free / SIZE_MULTIPLE)) * SIZE_MULTIPLE
            for fixed, free in zip(self._size, grey.shape, strict=True)
        )
        return resize(grey, width, height)

    def _read(self, image: Grey) -> tuple[Floats, Floats, Floats]:
        """Points (N, 2) in px of `image`, scores (N,) and descriptors (N, D)."""
        planes = np.repeat(image[None, None].astype(np.float32) / 255, self._channels, axis=1)
        try:
            outputs = self._session.run(None, {self._input: planes})
            arrays = [np.asarray(output, np.float32) for output in outputs]
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{self._path} cannot be run on an image of {image.shape[1]} x {image.shape[0]} px: {reason}"
            ) from error
        named = {output.name: array for output, array in zip(self._session.get_outputs(), arrays, strict=True)}
        found = _sparse(named) or _dense(named, image.shape)
        if found is None:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in named.items())
            raise ModelError(
                f"{self._path} has no outputs of local features: for {image.shape[1]} x {image.shape[0]} px it makes "
                f"{shapes}; they must be keypoints (N, 2), scores (N,) and descriptors (N, D), or maps of an eighth of "
                "the size: 65 channels of logits, descriptors and at most one reliability"
            )
        return found


def _sparse(outputs: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats] | None:
    """Points, scores and descriptors of a network that chooses them itself; None where outputs have another form."""
    ranks = {"keypoints": 2, "scores": 1, "descriptors": 2}
    if not outputs.keys() >= ranks.keys():
        return None
    points, scores, descriptors = (
        outputs[name][0] if outputs[name].ndim == rank + 1 else outputs[name] for name, rank in ranks.items()
    )
    fits = points.shape == (scores.size, 2) and descriptors.shape[:-1] == scores.shape == (scores.size,)
    return (points, scores, descriptors) if fits else None


def _dense(outputs: Mapping[str, Floats], size: tuple[int, ...]) -> tuple[Floats, Floats, Floats] | None:
    """The same from maps of cells, of an image of `size`; None where outputs have another form."""
    cells = tuple(length // CELL for length in size)
    if any(value.ndim != 4 or len(value) != 1 or value.shape[2:] != cells for value in outputs.values()):
        return None
    maps = {value.shape[1]: value[0] for value in outputs.values()}
    are_alike = len(maps) < len(outputs)
    logits, reliability = maps.pop(CELL**2 + 1, None), maps.pop(1, np.ones((1, *cells), np.float32))
    if logits is None or len(maps) != 1 or are_alike:
        return None
    (descriptors,) = maps.values()
    likelihood = _likelihood(logits)
    neighbourhood = np.ones((NEIGHBOURHOOD_PX, NEIGHBOURHOOD_PX), np.uint8)
    points = np.argwhere((likelihood == cv2.dilate(likelihood, neighbourhood)) & (likelihood > CHANCE))[:, ::-1]
    scores = likelihood[points[:, 1], points[:, 0]] * _sample(reliability, points)[:, 0]
    return points.astype(np.float32), scores, _sample(_unit(descriptors, axis=0), points)


def _likelihood(logits: Floats) -> Floats:
    """(65, h, w) logits of cells -> (8 h, 8 w): how likely a point lies in each pixel."""
    _, rows, columns = logits.shape
    odds = np.exp(logits - logits.max(axis=0))
    pixels = (odds / odds.sum(axis=0))[:-1].reshape(CELL, CELL, rows, columns)
    return np.ascontiguousarray(pixels.transpose(2, 0, 3, 1)).reshape(rows * CELL, columns * CELL)


def _sample(maps: Floats, points: NDArray[Any]) -> Floats:
    """(C, h, w) maps of cells at points (N, 2), x and y in px -> (N, C), bilinear."""
    last = np.array(maps.shape[:0:-1]) - 1
    cells = np.clip((points + 0.5) / CELL - 0.5, 0, last).astype(np.float32)
    low = cells.astype(int)
    (left, top), (right, bottom), (x, y) = low.T, np.minimum(low + 1, last).T, (cells - low).T
    above = maps[:, top, left] * (1 - x) + maps[:, top, right] * x
    below = maps[:, bottom, left] * (1 - x) + maps[:, bottom, right] * x
    return (above * (1 - y) + below * y).T.astype(np.float32)


def _unit(vectors: Floats, axis: int) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=axis, keepdims=True), 1e-9)


def _detect(detector: Any, grey: Grey, most: int) -> tuple[Floats, NDArray[Any]]:
    """(N, 2) points and (N, D) descriptors of OpenCV's `detector`, the strongest first."""
    keypoints, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, detector.descriptorSize()), np.uint8)
    strongest = np.argsort([-k.response for k in keypoints], kind="stable")[:most]
    return np.array([k.pt for k in keypoints], dtype=np.float32)[strongest], descriptors[strongest]


def _root_sift(descriptors: NDArray[Any]) -> NDArray[np.uint8]:
    """RootSIFT (Arandjelovic and Zisserman, CVPR 2012) in one byte per bin: Euclid then compares as Hellinger does."""
    share = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)
    return np.clip(np.sqrt(share) * 512.0, 0, 255).astype(np.uint8)
