from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from training.attention.squeeze_excitation import SqueezeExcitation


def test_against_the_paper_with_loops() -> None:
    torch.manual_seed(0)
    module, x = SqueezeExcitation(reduction=2).build(6, (3, 4)).double(), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    first, second = (parameter.detach()[:, :, 0, 0].numpy() for parameter in module.parameters())
    assert first.shape == (3, 6)
    expected = np.zeros(x.shape)
    for n in range(2):
        squeezed = np.array([x[n, c].numpy().mean() for c in range(6)])
        hidden = [max(float(row @ squeezed), 0.0) for row in first]
        for c in range(6):
            expected[n, c] = x[n, c].numpy() / (1 + np.exp(-float(second[c] @ hidden)))
    features, weight, mask = module(x)
    np.testing.assert_allclose(features.detach(), expected, atol=1e-12)
    assert weight is None
    assert mask is None


def test_a_fresh_one_halves_every_channel_about() -> None:
    torch.manual_seed(0)
    gates = SqueezeExcitation().build(512, (3, 4)).gates(torch.randn(2, 512, 3, 4))
    torch.testing.assert_close(gates, torch.full_like(gates, 0.5), atol=0.1, rtol=0)


def test_a_reduction_to_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        SqueezeExcitation(reduction=0)
