"""What all attention modules promise."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from training.attention import AnyAttention, Attended
from training.models.netvlad import NetVLAD

CHANNELS, SIZE = 32, (5, 6)
KINDS = ("se", "bam", "cbam", "crn", "deattention")
PARAMETERS_OF_512 = {
    "se": 2 * 512 * 32,
    "bam": (2 * 512 * 32 + 32 + 512 + 2 * 512) + (512 * 32 + 32) + 2 * (9 * 32 * 32 + 32) + (32 + 1 + 2),
    "cbam": 2 * 512 * 32 + 2 * 49,
    "crn": 512 * (32 * 9 + 32 * 25 + 20 * 49) + 84 + 84 + 1,
    "deattention": 512 * (32 * 9 + 32 * 25 + 20 * 49) + 84 + 2 * 84 + (84 + 1 + 2) + 2 * 512 * 32,
}


def build(kind: str, channels: int = CHANNELS) -> nn.Module:
    torch.manual_seed(0)
    return TypeAdapter(AnyAttention).validate_python({"kind": kind}).build(channels, SIZE)


def trained(kind: str) -> nn.Module:
    """In evaluation mode, with statistics that it has seen."""
    module = build(kind)
    for _ in range(3):
        module(torch.randn(4, CHANNELS, *SIZE))
    return module.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_ranges(kind: str, training: bool) -> None:
    features, weight, mask = build(kind).train(training)(torch.randn(2, CHANNELS, *SIZE))
    assert features.shape == (2, CHANNELS, *SIZE)
    assert (weight is None, mask is None) == (kind in ("se", "bam"), kind in ("se", "bam"))
    if weight is not None:
        assert weight.shape == mask.shape == (2, 1, *SIZE)
        assert (weight >= 0).all()
        assert (mask > 0).all()
        assert (mask <= 1).all()
        assert len(mask.unique()) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_is_attended_as_in_a_batch(kind: str) -> None:
    module, x = trained(kind), torch.randn(3, CHANNELS, *SIZE)
    with torch.no_grad():
        for alone, batched in zip(module(x[1:2]), module(x), strict=True):
            if batched is not None:
                torch.testing.assert_close(alone, batched[1:2])


@pytest.mark.parametrize("kind", KINDS)
def test_everything_learns(kind: str) -> None:
    module, pool = build(kind), NetVLAD(clusters=3).build(CHANNELS, SIZE)
    attended = module(torch.randn(4, CHANNELS, *SIZE))
    pool(attended.features, attended.weight)[:, 0].sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(parameter.grad.abs().max() > 1e-6 for parameter in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_on_512_channels(kind: str) -> None:
    assert sum(parameter.numel() for parameter in build(kind, 512).parameters()) == PARAMETERS_OF_512[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_channels_than_the_reduction_will_do(kind: str) -> None:
    assert build(kind, 8)(torch.randn(2, 8, *SIZE)).features.shape == (2, 8, *SIZE)


class Outputs(nn.Module):
    """Those that are there."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(output for output in self.module(x) if output is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_graph_takes_any_batch(kind: str) -> None:
    network, content = Outputs(trained(kind)).eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one
        torch.onnx.export(
            network,
            (torch.randn(2, CHANNELS, *SIZE),),
            content,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(content.getvalue(), providers=["CPUExecutionProvider"])
    for images in (1, 3):
        x = torch.randn(images, CHANNELS, *SIZE)
        with torch.no_grad():
            expected = network(x)
        for found, wanted in zip(session.run(None, {"x": x.numpy()}), expected, strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_only_features_must_be_there() -> None:
    x = torch.randn(1, 2, 3, 4)
    assert Attended(x) == (x, None, None)


def test_a_kind_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="'se', 'bam', 'cbam', 'crn', 'deattention'"):
        TypeAdapter(AnyAttention).validate_python({"kind": "transformer"})
