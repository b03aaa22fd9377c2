from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import correlate
from torch import Tensor

from training.attention.deattention import DeAttention, DeAttentionModule
from training.attention.squeeze_excitation import SqueezeExcitation
from training.models.netvlad import NetVLAD
from vpr_ros.errors import ConfigError

SIZE = (4, 5)


def build(options: DeAttention, channels: int = 6) -> DeAttentionModule:
    """In evaluation mode, with random weights and statistics."""
    torch.manual_seed(0)
    module = options.build(channels, SIZE).double().eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.0)  # variances too
        for parameter in module.parameters():
            parameter.normal_()
    return module


def maps(channels: int = 6) -> Tensor:
    return torch.randn(2, channels, *SIZE, dtype=torch.float64)


@pytest.mark.parametrize(("padding", "of_numpy"), [("reflect", "reflect"), ("zeros", "constant")])
def test_the_mask_against_the_specification_with_loops(
    padding: Literal["reflect", "zeros"], of_numpy: Literal["reflect", "constant"]
) -> None:
    module, x = build(DeAttention(filters=(3, 2, 4), padding=padding)), maps()
    w = {name: tensor.numpy() for name, tensor in module.state_dict().items()}

    def normalised(plane: np.ndarray, name: str, k: int) -> np.ndarray:
        spread = np.sqrt(w[f"{name}.running_var"][k] + 1e-5)
        return (plane - w[f"{name}.running_mean"][k]) / spread * w[f"{name}.weight"][k] + w[f"{name}.bias"][k]

    with torch.no_grad():
        found = module(x).mask.numpy()
    for n, image in enumerate(x.numpy()):
        unit = np.zeros_like(image)
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                unit[:, i, j] = image[:, i, j] / np.linalg.norm(image[:, i, j])
        context = []
        for scale, radius in enumerate((1, 2, 3)):
            padded = np.pad(unit, ((0, 0), (radius, radius), (radius, radius)), mode=of_numpy)
            for k, filters in enumerate(w[f"context.{scale}.0.weight"]):
                answer = correlate(padded, filters, mode="valid")[0] + w[f"context.{scale}.0.bias"][k]
                context.append(normalised(np.maximum(answer, 0), f"context.{scale}.2", k))
        assert len(context) == 9
        accumulated = sum(w["accumulation.0.weight"][0, k, 0, 0] * plane for k, plane in enumerate(context))
        logits = normalised(np.maximum(accumulated + w["accumulation.0.bias"], 0), "accumulation.2", 0)
        np.testing.assert_allclose(found[n, 0], 1 / (1 + np.exp(-logits)), atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_the_two_versions(version: Literal[1, 2]) -> None:
    x = maps()
    features, weight, mask = build(DeAttention(version=version, squeeze_excitation=False))(x)
    assert features is x
    assert torch.equal(weight, mask if version == 1 else 1 + mask)


@pytest.mark.parametrize("version", [1, 2])
def test_squeeze_and_excitation_sees_the_weighted_map(version: Literal[1, 2]) -> None:
    module, x = build(DeAttention(version=version), channels=32), maps(32)
    squeeze = SqueezeExcitation(reduction=16).build(32, SIZE).double()
    squeeze.load_state_dict(module.channel.state_dict())
    features, weight, mask = module(x)
    paper = squeeze(x * mask if version == 1 else x + x * mask).features
    torch.testing.assert_close(features * weight, paper)


def test_the_mask_does_not_depend_on_the_length_of_local_descriptors() -> None:
    module, x = build(DeAttention()), maps()
    torch.testing.assert_close(module(x * (0.1 + torch.rand(2, 1, *SIZE))).mask, module(x).mask)


def test_multiplied_into_the_features_the_mask_would_cancel_in_netvlad() -> None:
    module, x, pool = build(DeAttention(squeeze_excitation=False)), maps(), NetVLAD(clusters=3).build(6, SIZE).double()
    features, weight, _ = module(x)
    torch.testing.assert_close(pool(features * weight), pool(features))
    assert (pool(features, weight) - pool(features)).abs().max() > 0.01


def test_about_a_million_weights_on_512_channels() -> None:
    head = DeAttention(squeeze_excitation=False).build(512, (30, 40))
    assert sum(parameter.numel() for parameter in head.parameters()) == pytest.approx(1.06e6, rel=0.002)


def test_filters_of_a_recipe() -> None:
    options = DeAttention.model_validate({"filters": [32, 32, 32]})
    assert options.build(8, SIZE).accumulation[0].in_channels == 96
    with pytest.raises(ValidationError, match="greater than 0"):
        DeAttention(filters=(32, 32, 0))


def test_a_map_too_small_to_be_reflected_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 4 x 4, it has 3 x 5: use larger images, .* or padding: zeros"):
        DeAttention().build(8, (3, 5))
    assert DeAttention(padding="zeros").build(8, (3, 5))(torch.randn(2, 8, 3, 5)).mask.shape == (2, 1, 3, 5)
    assert DeAttention().build(8, (4, 4))(torch.randn(2, 8, 4, 4)).mask.shape == (2, 1, 4, 4)
