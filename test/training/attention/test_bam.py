from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate

from training.attention.bam import Bam

DILATION = 2


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(C, h, w) by dilated 3 x 3 filters, which are 5 x 5 with holes."""
    wide = np.zeros((*weight.shape[:2], 2 * DILATION + 1, 2 * DILATION + 1))
    wide[:, :, ::DILATION, ::DILATION] = weight
    padded = np.pad(x, ((0, 0), (DILATION, DILATION), (DILATION, DILATION)))
    return np.stack([correlate(padded, wide[k], mode="valid")[0] + bias[k] for k in range(len(wide))])


def test_against_the_paper_with_loops() -> None:
    torch.manual_seed(0)
    module = Bam(reduction=2, dilation=DILATION).build(6, (5, 7)).double().eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.0)  # variances too
        for parameter in module.parameters():
            parameter.normal_()
    w = {name: tensor.numpy() for name, tensor in module.state_dict().items()}

    def normalised(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(w[f"{name}.running_var"] + 1e-5)
        return (x - w[f"{name}.running_mean"]) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    image = torch.randn(6, 5, 7, dtype=torch.float64)
    x = image.numpy()
    hidden = np.maximum(w["channel.0.0.weight"][:, :, 0, 0] @ x.mean(axis=(1, 2)) + w["channel.0.0.bias"], 0)
    channel = normalised(w["channel.0.2.weight"][:, :, 0, 0] @ hidden + w["channel.0.2.bias"], "channel.1")
    inner = np.einsum("kc,chw->khw", w["spatial.0.weight"][:, :, 0, 0], x) + w["spatial.0.bias"][:, None, None]
    for layer in (2, 4):
        inner = convolved(np.maximum(inner, 0), w[f"spatial.{layer}.weight"], w[f"spatial.{layer}.bias"])
    last = np.einsum("c,chw->hw", w["spatial.6.weight"][0, :, 0, 0], np.maximum(inner, 0)) + w["spatial.6.bias"]
    spatial = normalised(last, "spatial.7")
    expected = np.zeros_like(x)
    for c in range(6):
        expected[c] = x[c] * (1 + 1 / (1 + np.exp(-(channel[c] + spatial))))
    with torch.no_grad():
        np.testing.assert_allclose(module(image[None]).features[0].numpy(), expected, atol=1e-10)


def test_elements_grow_by_one_to_two() -> None:
    x = torch.randn(4, 32, 5, 6)
    ratio = Bam().build(32, (5, 6))(x).features / x
    assert (ratio > 1).all()
    assert (ratio < 2).all()


def test_one_image_gives_no_batch_statistics() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Bam().build(32, (5, 6))(torch.randn(1, 32, 5, 6))
