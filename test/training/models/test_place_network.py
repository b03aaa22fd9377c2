from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from small_worlds import texture
from torch import Tensor

from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.errors import ConfigError

torch.set_num_threads(1)  # the networks are tiny: more threads only wait for each other

WIDTH, HEIGHT = 96, 64
TINY = {"name": "resnet18", "weights": "none", "last_block": "layer2"}  # (128, 8, 12)


def options(backbone: dict[str, Any] = TINY, **others: Any) -> NetworkOptions:
    return NetworkOptions.model_validate({"width": WIDTH, "height": HEIGHT, "backbone": backbone, **others})


def network(backbone: dict[str, Any] = TINY, **others: Any) -> PlaceNetwork:
    torch.manual_seed(0)
    return PlaceNetwork(options(backbone, **others)).eval()


def images(count: int = 3) -> Tensor:
    return torch.from_numpy(np.stack([texture(seed, WIDTH, HEIGHT) for seed in range(count)]))


POOLS: tuple[dict[str, Any], ...] = (
    {"kind": "average"},
    {"kind": "max"},
    {"kind": "gem", "p": 2.2},  # an exporter that loses the power shows
    {"kind": "netvlad", "clusters": 8},
    {"kind": "mixvpr", "depth": 2, "channels": 16, "rows": 2},
    {"kind": "salad", "clusters": 8, "cluster_dim": 16, "scene_dim": 16},
)


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool["kind"])
@pytest.mark.parametrize("dim", [None, 24])
@torch.no_grad()
def test_descriptors_have_unit_length_and_are_one_per_image(pool: dict[str, Any], dim: int | None) -> None:
    net = network(pool=pool, dim=dim)
    together = net(images())
    assert together.dtype == torch.float32
    assert together.shape == (3, net.dim) == (3, dim or net.pool.dim)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(together, torch.cat([net(image[None]) for image in images()]), atol=1e-5, rtol=0)
    torch.testing.assert_close(net.pooled(images()).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool["kind"])
@torch.no_grad()
def test_mixed_precision_keeps_the_contract(pool: dict[str, Any]) -> None:
    net = network(pool=pool, dim=24)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(images())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    assert (found * net(images())).sum(dim=1).min() > 0.99


@torch.no_grad()
def test_preprocessing_is_that_of_the_backbone() -> None:
    for backbone, mean, std in (
        (TINY, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ({"name": "timm/test_vit", "weights": "none"}, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ):
        net = network(backbone)
        x = (images().numpy() / 255.0 - np.array(mean)) / np.array(std)
        expected = net.backbone(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)))
        torch.testing.assert_close(net.features(images()), expected, atol=1e-4, rtol=1e-4)


ATTENTION = ("se", "bam", "cbam", "crn", "deattention")


@pytest.mark.parametrize("kind", ATTENTION)
@torch.no_grad()
def test_attention_changes_the_descriptor_until_it_is_left_out(kind: str) -> None:
    plain, net = network(dim=8), network(attention={"kind": kind}, dim=8)
    net.load_state_dict(plain.state_dict(), strict=False)
    described, mask = net.with_mask(images())
    assert torch.equal(described, net(images()))
    assert (mask is None) == (kind in ("se", "bam"))
    assert mask is None or mask.shape == (3, 1, 8, 12)
    assert (described - plain(images())).abs().max() > 1e-4
    with net.without_attention():
        torch.testing.assert_close(net(images()), plain(images()))
    assert torch.equal(described, net(images()))


@torch.no_grad()
def test_a_weight_in_the_features_is_lost_on_netvlad() -> None:
    """As in the public code of the de-attention paper: without squeeze-and-excitation the mask does nothing there."""
    attention = {"kind": "deattention", "squeeze_excitation": False}
    pool = {"kind": "netvlad", "clusters": 4}
    plain = network(pool=pool)
    weighing, multiplying = (network(pool=pool, attention=attention, weight_features=w) for w in (False, True))
    for net in (weighing, multiplying):
        net.load_state_dict(plain.state_dict(), strict=False)
        net.attention.accumulation[0].weight.abs_().mul_(30)  # a mask that is not the same everywhere
    torch.testing.assert_close(multiplying(images()), plain(images()), atol=1e-5, rtol=0)
    assert (weighing(images()) - plain(images())).abs().max() > 1e-4


def test_training_leaves_batch_normalisation_as_it_was() -> None:
    net = network().train()
    before = net.backbone.bn1.running_mean.clone()
    net(images()).sum().backward()
    assert torch.equal(before, net.backbone.bn1.running_mean)


def test_weights_keep_their_names() -> None:
    names = network({"name": "mobilenet_v2", "weights": "none"}, dim=8).state_dict().keys()
    first = {"encoding.mean", "encoding.std", "pool.p", "projection.weight", "projection.bias"}
    assert {name for name in names if not name.startswith("backbone.")} == first
    assert {name.split(".")[1] for name in names if name.startswith("backbone.")} == {"features"}
    assert "backbone.features.18.1.running_var" in names


def test_options_survive_their_own_text() -> None:
    for pool in POOLS:
        made = options({**TINY, "weights": "some/file.pth"}, pool=pool, dim=8)
        assert NetworkOptions.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "wrong", [{"pool": {"kind": "sum"}}, {"pool": {"kind": "gem", "k": 3}}, {"dim": 0}, {"width": 16}, {"size": 3}]
)
def test_options_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        options(**wrong)


# --- what is fitted, not learnt ---------------------------------------------------------------------------------------


def test_whitening_whitens_the_projection() -> None:
    net, pooled = network(dim=8), torch.nn.functional.normalize(torch.rand(60, 128), dim=1)
    net.whiten(pooled)
    white = net.projection(pooled).detach().numpy()
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(8), atol=1e-3)
    with pytest.raises(ConfigError, match="more than 8 images, got 8"):
        net.whiten(pooled[:8])
    with pytest.raises(ConfigError, match=r"no projection to whiten: set network\.dim"):
        network().whiten(pooled)


# --- export -----------------------------------------------------------------------------------------------------------

EXPORTED: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    *((TINY, pool) for pool in POOLS),
    ({"name": "vgg16", "weights": "none", "last_block": "features.14"}, POOLS[2]),
    ({"name": "mobilenet_v2", "weights": "none", "last_block": "features.13"}, POOLS[2]),
    ({"name": "mobilenet_v3_small", "weights": "none"}, POOLS[2]),
    ({"name": "timm/test_vit", "weights": "none"}, POOLS[2]),
    ({"name": "timm/test_vit", "weights": "none", "last_block": "blocks.2"}, POOLS[3]),
    ({"name": "timm/test_efficientnet", "weights": "none"}, POOLS[2]),
)


def take_statistics(net: PlaceNetwork) -> None:
    """Of batch normalisation: with those of a network that saw nothing, an image fades away before the last layer."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()(images(8))
    net.eval()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("backbone", "pool"), EXPORTED, ids=lambda each: each.get("kind") or each["name"])
@torch.no_grad()
def test_the_exported_network_is_the_same(backbone: dict[str, Any], pool: dict[str, Any], tmp_path: Path) -> None:
    net = network({**backbone, "batch_norm": "train"}, pool=pool, dim=24)
    take_statistics(net)
    path = str(tmp_path / "model.onnx")
    axes = {"images": {0: "n"}, "descriptors": {0: "n"}}
    torch.onnx.export(
        net,
        (images(1),),
        path,
        input_names=["images"],
        output_names=["descriptors"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, expected = session.run(None, {"images": images().numpy()})[0], net(images()).numpy()
    assert found.shape == (3, 24)
    assert (found * expected).sum(axis=1).min() >= 0.9999
    assert expected[0] @ expected[1] < 0.999  # other images have other descriptors: the above says something
