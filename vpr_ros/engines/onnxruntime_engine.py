"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vpr_ros.errors import ModelError
from vpr_ros.model import MASK, PlaceModel


class OnnxRuntimeEngine:
    """Runs a `PlaceModel` with ONNX Runtime; `threads` 0 lets it choose."""

    name = "onnxruntime"

    def __init__(self, model: PlaceModel, threads: int = 0) -> None:
        self.model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # an idle robot must not burn a core: workers sleep instead of spinning between frames
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB uint8 of the model's size -> (N, D) float32, unit length."""
        return self._session.run([self._output], {self._input: images})[0]

    def describe_with_mask(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `describe`, and masks (N, h, w) float32 in [0, 1]. Raises ModelError for a model that has none."""
        if self.model.mask_size is None:
            raise ModelError(f"model {self.model.name} has no mask: it has no attention that makes one")
        descriptors, masks = self._session.run([self._output, MASK], {self._input: images})
        return descriptors, masks
