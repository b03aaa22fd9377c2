from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.models.backbones import Backbone, FeatureNetwork
from training.models.torchvision_wheel import import_torchvision
from vpr_ros.errors import ConfigError, ModelError

torch.set_num_threads(1)  # the networks are tiny: more threads only wait for each other

TINY = "mobilenet_v3_small"
TINY_VIT = "timm/test_vit"  # patches of 16 px, 6 blocks, a class token: timm made it for tests


def random_weights(name: str) -> dict[str, torch.Tensor]:
    return import_torchvision().models.get_model(name, weights=None).state_dict()


def tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}


def build(name: str, height: int = 64, width: int = 96, **options: object) -> FeatureNetwork:
    return Backbone(name=name, **{"weights": "none", **options}).build(height, width)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "last_block", "channels", "stride"),
    [
        ("resnet18", None, 512, 32),
        ("resnet18", "layer3", 256, 16),
        ("resnet50", "layer3", 1024, 16),
        ("mobilenet_v2", None, 1280, 32),
        ("mobilenet_v2", "features.13", 96, 16),
        ("mobilenet_v3_small", None, 576, 32),
        ("mobilenet_v3_large", None, 960, 32),
        ("efficientnet_b0", None, 1280, 32),
        ("timm/test_efficientnet", None, 64, 32),
        ("timm/test_efficientnet", "blocks.1", 24, 4),
        (TINY_VIT, None, 64, 16),
        (TINY_VIT, "blocks.2", 64, 16),
    ],
)
def test_the_map_has_the_shape_that_the_network_says(
    name: str, last_block: str | None, channels: int, stride: int
) -> None:
    network = build(name, last_block=last_block).eval()
    with torch.no_grad():
        found = network(torch.rand(2, 3, 64, 96))
    assert (network.channels, network.size) == (channels, (64 // stride, 96 // stride))
    assert found.shape == (2, channels, *network.size)


def test_vgg16_ends_with_its_last_convolution() -> None:
    network = build("vgg16")
    assert (network.channels, network.size) == (512, (4, 6))  # stride 16: no fifth max-pool
    last = list(network.modules())[-1]
    assert isinstance(last, nn.Conv2d)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 13
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 96)).min() < 0  # no ReLU


def test_a_vit_gives_its_patch_tokens_in_their_places() -> None:
    network = build(TINY_VIT).eval()
    x = torch.rand(1, 3, 64, 96)
    model = network.timm.model
    with torch.no_grad():
        tokens = model.forward_features(x)[0, 1:]  # without the class token
        found = network(x)[0]
    for row in range(4):
        for column in range(6):
            torch.testing.assert_close(found[:, row, column], tokens[6 * row + column])


def test_cutting_a_vit_is_stopping_early() -> None:
    whole, cut = build(TINY_VIT).eval(), build(TINY_VIT, last_block="blocks.2").eval()
    cut.load_state_dict(whole.state_dict(), strict=False)
    assert len(cut.timm.model.blocks) == 3
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = whole.timm.model.forward_intermediates(x, indices=[2], norm=True, intermediates_only=True)[0]
        torch.testing.assert_close(cut(x), expected)


def test_normalisation_is_that_of_the_weights() -> None:
    assert build("resnet18").mean == (0.485, 0.456, 0.406)
    assert build(TINY_VIT).mean == (0.5, 0.5, 0.5)


def test_every_parameter_takes_part() -> None:  # or several processes would wait for its gradient
    for name in (TINY, TINY_VIT, "timm/test_efficientnet", "timm/test_convnext"):
        network = build(name)
        network(torch.rand(2, 3, 64, 96)).square().sum().backward()
        assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


# --- what trains ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "train_from", "first"),
    [
        ("resnet18", "layer3", "layer3.0.conv1.weight"),
        ("mobilenet_v2", "features.14", "features.14.conv.0.0.weight"),
        (TINY_VIT, "blocks.4", "timm.model.blocks.4.norm1.weight"),
    ],
)
def test_only_what_follows_train_from_trains(name: str, train_from: str, first: str) -> None:
    network = build(name, train_from=train_from)
    trains = [(key, parameter.requires_grad) for key, parameter in network.named_parameters()]
    position = [key for key, _ in trains].index(first)
    assert not any(flag for _, flag in trains[:position])
    assert all(flag for _, flag in trains[position:])


def test_nothing_and_everything_can_train() -> None:
    assert not any(parameter.requires_grad for parameter in build(TINY, train_from="nothing").parameters())
    assert all(parameter.requires_grad for parameter in build(TINY).parameters())


@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", (False, False)), ("train", (False, True))])
def test_batch_normalisation_keeps_its_statistics(batch_norm: str, moves: tuple[bool, bool]) -> None:
    network = build(TINY, batch_norm=batch_norm, train_from="features.2")
    means = [network.features[i].block[0][1].running_mean for i in (1, 2)]  # of a frozen block and of one that trains
    before = [mean.clone() for mean in means]
    network(torch.rand(2, 3, 64, 96))  # as built, and again after a validation
    network.eval()
    network.train()
    network(torch.rand(2, 3, 64, 96))
    assert tuple(not torch.equal(*pair) for pair in zip(before, means, strict=True)) == moves
    still = [mean.clone() for mean in means]
    network.eval()
    network(torch.rand(2, 3, 64, 96))
    assert all(torch.equal(*pair) for pair in zip(still, means, strict=True))


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_a_file(tmp_path: Path, suffix: str) -> None:
    state, path = random_weights(TINY), tmp_path / f"weights{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    for name, tensor in tensors_of(build(TINY, weights=path)).items():
        assert torch.equal(tensor, state[name])


def test_imagenet_is_the_first_version_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    models = import_torchvision().models
    cached = (
        tmp_path / "hub/checkpoints" / Path(models.get_model_weights("mobilenet_v3_large")["IMAGENET1K_V1"].url).name
    )
    cached.parent.mkdir(parents=True)
    state = random_weights("mobilenet_v3_large")
    torch.save(state, cached)
    for name, tensor in tensors_of(build("mobilenet_v3_large", weights="imagenet")).items():
        assert torch.equal(tensor, state[name])


def test_the_weights_at_hand(shared_data: Path) -> None:
    network = build("mobilenet_v2", weights=shared_data / "weights/mobilenet_v2_imagenet.pth")
    assert network.features[0][1].bias.abs().sum() > 0  # 0 in a random network


def test_weights_of_a_vit_are_fitted_to_the_image_size(tmp_path: Path) -> None:
    import timm

    native = timm.create_model("test_vit")  # 160 x 160: 100 patches
    torch.save(native.state_dict(), tmp_path / "vit.pth")
    model = build(TINY_VIT, weights=tmp_path / "vit.pth").timm.model
    assert model.pos_embed.shape[1] == 1 + 4 * 6
    assert torch.equal(model.blocks[5].mlp.fc1.weight, native.blocks[5].mlp.fc1.weight)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in (TINY, TINY_VIT):
        with pytest.raises(ModelError, match=r"no weights at .*none\.pth; backbone.weights is a file, 'imagenet'"):
            build(name, weights=tmp_path / "none.pth")


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(random_weights("resnet18"), path)
    with pytest.raises(ModelError, match=r"weights\.pth holds no weights of mobilenet_v3_small: missing \['features"):
        build(TINY, weights=path)
    with pytest.raises(ModelError, match=r"cannot load weights .*weights\.pth' of resnet50: .*size mismatch"):
        build("resnet50", weights=path)
    with pytest.raises(ModelError, match=r"cannot load weights .* of timm/test_vit: .*Missing key"):
        build(TINY_VIT, weights=path)


def test_a_file_that_holds_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.pth"  # has every tensor of a ResNet-18, and more
    torch.save(random_weights("resnet34"), path)
    with pytest.raises(ModelError, match=r"holds no weights of resnet18: missing \[\], foreign \['layer1\.2"):
        build("resnet18", weights=path)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"features.0.0.weight": Path("x")}, path)  # any class of Python: needs the pickle machine to build
    with pytest.raises(ModelError, match=r"cannot read weights .*evil"):
        build(TINY, weights=path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_corrupt_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"x": torch.rand(3)}, path)
    whole = path.read_bytes()
    unreadable_name = whole.replace(b"FloatStorage", b"Fl\xffatStorage")
    for content in (b"", b"not weights", whole[: len(whole) // 2], unreadable_name):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"cannot read weights .*weights"):
            build(TINY, weights=path)


def test_a_file_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {}}, path)
    with pytest.raises(ModelError, match="is no state dict"):
        build(TINY, weights=path)


def test_without_a_network_there_are_no_imagenet_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setattr(timm, "create_model", unreachable)
    for name in (TINY, TINY_VIT):
        with pytest.raises(
            ModelError, match=rf"cannot load weights 'imagenet' of {name}: .*set backbone.weights to a file"
        ):
            build(name, weights="imagenet")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="torchvision has no 'resnet19'"):
        build("resnet19")
    with pytest.raises(ConfigError, match=r"timm has no 'no_such_model'.*list_pretrained"):
        build("timm/no_such_model")
    with pytest.raises(ConfigError, match=r"timm has no 'test_vit\.nobody'"):
        build("timm/test_vit.nobody")
    with pytest.raises(ConfigError, match="'squeezenet1_1' of torchvision has no feature map that we know of"):
        build("squeezenet1_1")


def test_unknown_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"resnet18 has no block 'conv4' to stop at; it has conv1, .*layer4"):
        build("resnet18", last_block="conv4")
    with pytest.raises(ConfigError, match=r"has no block 'blocks\.9' to stop at; it has blocks\.0, .*blocks\.5"):
        build(TINY_VIT, last_block="blocks.9")
    with pytest.raises(ConfigError, match=r"resnet18 has no block 'layer4' to train from; it has .*layer3"):
        build("resnet18", last_block="layer3", train_from="layer4")


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="patches of 16 px: height 72 must be 64 or 80"):
        build(TINY_VIT, height=72)
    with pytest.raises(ConfigError, match="width 100 must be 96 or 112"):
        build(TINY_VIT, width=100)
    with pytest.raises(ConfigError, match=r"timm/test_maxvit cannot take 72 x 100 px: width \(25\) must be divisible"):
        build("timm/test_maxvit", height=72, width=100)
