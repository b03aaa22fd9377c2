"""Our segmentation network as one ONNX file: uint8 (n, H, W, 3) RGB of any size in, logits (n, classes, h, w) out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from training.files import write_whole
from training.models.published import first_line
from training.semantics.network import SegmentationNetwork
from training.semantics.onnx_segmenter import FORMAT
from vpr_ros.errors import ModelError

LARGEST_DIFFERENCE = 1e-3
"""Of a logit, between the file and torch; logits span about +-10."""
_OPSET = 17


def export(network: SegmentationNetwork, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a network on the CPU. Its size, and how closely the file agrees with torch, are added to `metadata`.

    Raises ModelError, leaving what was at `path`, where torch cannot export it or the file answers otherwise.
    """
    network.eval()
    width, height = network.options.width, network.options.height
    proto = _graph(network, height, width)
    difference = max(_difference(network, proto, *shape) for shape in ((1, height, width), (2, height // 2, width)))
    if not difference < LARGEST_DIFFERENCE:
        raise ModelError(f"the exported network differs from torch: a logit by {difference:.2g}; {path} is not written")
    known = {
        "format": FORMAT,
        "width": str(width),
        "height": str(height),
        "exported_with": f"torch {torch.__version__}, onnx {onnx.__version__}",
        "parity": f"largest difference of a logit {difference:.1e}",
    }
    helper.set_model_props(proto, {**metadata, **known})
    write_whole(path, proto.SerializeToString())


def _graph(network: SegmentationNetwork, height: int, width: int) -> onnx.ModelProto:
    """It sees two images, because an axis of length 1 can be mistaken for one that broadcasts."""
    content = io.BytesIO()
    axes = {0: "n", 1: "height", 2: "width"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what tracing might get wrong: `_difference` shows whether it did
            torch.onnx.export(
                network,
                (torch.zeros(2, height, width, 3, dtype=torch.uint8),),
                content,  # type: ignore[arg-type]  # torch's annotation has forgotten it
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": axes, "logits": {0: "n", 2: "rows", 3: "columns"}},
                opset_version=_OPSET,
                dynamo=False,
            )
    except RuntimeError as error:
        raise ModelError(f"torch cannot export the network: {first_line(error)}") from error
    return onnx.load_from_string(content.getvalue())


def _difference(network: SegmentationNetwork, proto: onnx.ModelProto, images: int, height: int, width: int) -> float:
    """The largest of a logit, over random images."""
    random = np.random.default_rng(0).integers(0, 256, (images, height, width, 3), np.uint8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": random})
    with torch.no_grad():
        expected = network(torch.from_numpy(random)).numpy()
    return float(np.abs(found - expected).max())
