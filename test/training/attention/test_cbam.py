from __future__ import annotations

import numpy as np
import torch
from scipy.signal import correlate

from training.attention.cbam import Cbam


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_against_the_paper_with_loops() -> None:
    torch.manual_seed(0)
    module, x = Cbam(reduction=2).build(6, (4, 5)).double(), torch.randn(2, 6, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        features, weight, mask = module(x)
    first, second = (module.mlp[i].weight.detach()[:, :, 0, 0].numpy() for i in (0, 2))
    filters = module.spatial.weight.detach().numpy()[0]  # (2, 7, 7)
    for n, image in enumerate(x.numpy()):
        logits = np.zeros(6)
        for pooled in (image.mean(axis=(1, 2)), image.max(axis=(1, 2))):
            logits += second @ np.maximum(first @ pooled, 0)
        expected = np.stack([image[c] * sigmoid(logits[c]) for c in range(6)])
        np.testing.assert_allclose(features[n].numpy(), expected, atol=1e-12)
        planes = np.pad(np.stack([expected.mean(axis=0), expected.max(axis=0)]), ((0, 0), (3, 3), (3, 3)))
        np.testing.assert_allclose(weight[n].numpy(), sigmoid(correlate(planes, filters, mode="valid")), atol=1e-12)
    assert torch.equal(mask, weight)
