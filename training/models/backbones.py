"""Image -> feature map.

torchvision gives the convolutional networks, since its ImageNet weights are those the literature means; timm gives the
rest by name (DINOv2 and other transformers, newer convolutional networks).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from training.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from training.models.torchvision_wheel import import_torchvision
from training.options import Options
from vpr_ros.errors import ConfigError, ModelError

TIMM = "timm/"
CLASSIFIERS = ("classifier.", "fc.")
"""Where torchvision's networks keep what follows the feature map."""


class Backbone(Options):
    """A network up to its last feature map.

    - `name`: a VGG, ResNet, MobileNetV2, MobileNetV3 or EfficientNet of torchvision (`vgg16`, `resnet50`,
      `mobilenet_v3_large`, ...), or `timm/MODEL` (`timm/vit_small_patch14_dinov2.lvd142m`);
    - `weights`: `imagenet` downloads the library's (of timm those that the model's tag names), `none` is random, else a
      .safetensors or .pth file with the library's names;
    - `last_block`: where to stop (`layer3` of a ResNet, `features.28`, `blocks.8` of a ViT); None is the last feature
      map, of a VGG the last convolution without its ReLU and max-pool;
    - `train_from`: the first block that trains (`layer3`, `features.24`, `blocks.8`); those before it keep their
      weights. None trains all, `nothing` none;
    - `batch_norm`: `frozen` keeps the means and variances of the pretrained network, because those of a small batch make
      another network of every step. Blocks that do not train keep theirs in any case.
    """

    name: str
    weights: Literal["imagenet", "none"] | Path = "imagenet"
    last_block: str | None = None
    train_from: str | None = None
    batch_norm: Literal["frozen", "train"] = "frozen"

    def build(self, height: int, width: int) -> FeatureNetwork:
        """The network for images of `height` x `width` px, in training mode.

        Raises ConfigError for a name, block or size that is not possible, ModelError for weights that cannot be had.
        """
        network = self._timm(height, width) if self.name.startswith(TIMM) else self._torchvision()
        try:
            network.channels, *size = _map_shape(network, height, width)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"{self.name} cannot take {height} x {width} px: {' '.join(str(error).split())}"
            ) from error
        network.size = (size[0], size[1])
        return network.train()

    def _torchvision(self) -> FeatureNetwork:
        models = import_torchvision().models
        try:
            # the first version: it is the one of the papers, later ones were trained otherwise
            whole = models.get_model(self.name, weights="IMAGENET1K_V1" if self.weights == "imagenet" else None)
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"torchvision has no {self.name!r} with ImageNet weights; timm's are timm/MODEL"
            ) from error
        except (OSError, RuntimeError) as error:
            raise self._cannot_load(error) from error
        if isinstance(self.weights, Path):
            self._load_torchvision(whole, self.weights)
        parts: dict[str, nn.Module]
        if isinstance(whole, models.ResNet):
            children = [(name, child) for name, child in whole.named_children() if name not in ("avgpool", "fc")]
            last = self._position([name for name, _ in children])
            parts = dict(children[: last + 1])
        elif isinstance(whole, (models.VGG, models.MobileNetV2, models.MobileNetV3, models.EfficientNet)):
            last_of_all = -3 if isinstance(whole, models.VGG) else -1  # of a VGG: before the ReLU and the max-pool
            last = self._position([f"features.{i}" for i in range(len(whole.features))], last_of_all)
            parts = {"features": whole.features[: last + 1]}
        else:
            raise ConfigError(f"{self.name!r} of torchvision has no feature map that we know of; try timm/MODEL")
        network = FeatureNetwork(parts, self.batch_norm)
        self._freeze(network)
        return network

    def _load_torchvision(self, whole: nn.Module, path: Path) -> None:
        state = {name: tensor for name, tensor in read_weights(path).items() if not name.startswith(CLASSIFIERS)}
        try:
            missing, foreign = whole.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise self._cannot_load(error) from error
        missing = [name for name in missing if not name.startswith(CLASSIFIERS)]
        if missing or foreign:
            raise ModelError(f"{path} holds no weights of {self.name}: missing {missing[:3]}, foreign {foreign[:3]}")

    def _timm(self, height: int, width: int) -> FeatureNetwork:
        import_torchvision()  # timm does so too, but without the mending
        import timm

        name = self.name.removeprefix(TIMM)
        try:
            config: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
        except RuntimeError as error:
            raise ConfigError(f"timm has no {name!r}; timm.list_pretrained('*dinov2*') lists such names") from error
        arguments: dict[str, Any] = {"pretrained": self.weights != "none"}
        if isinstance(self.weights, Path):
            arguments["pretrained_cfg_overlay"] = {"state_dict": read_weights(self.weights)}
        if config.fixed_input_size:
            # position embeddings are resampled here, once, so that an exported network has no interpolation in it
            arguments["img_size"] = (height, width)
        try:
            model: Any = timm.create_model(name, **arguments)
        except (OSError, RuntimeError) as error:
            raise self._cannot_load(error) from error
        if isinstance(getattr(model, "patch_embed", None), timm.layers.PatchEmbed):
            self._check_patches(model.patch_embed.patch_size, height, width)
        last = self._position([level["module"] for level in model.feature_info])
        model.prune_intermediate_layers([last], prune_norm=False, prune_head=True)
        self._freeze(model)
        return FeatureNetwork({"timm": _TimmFeatures(model, last)}, self.batch_norm, config.mean, config.std)

    def _position(self, blocks: Sequence[str], last_of_all: int = -1) -> int:
        """Of the last block to keep."""
        if self.last_block is None:
            return range(len(blocks))[last_of_all]
        if self.last_block not in blocks:
            raise ConfigError(f"{self.name} has no block {self.last_block!r} to stop at; it has {', '.join(blocks)}")
        return blocks.index(self.last_block)

    def _freeze(self, network: nn.Module) -> None:
        """Modules are registered in the order in which they run: what comes before `train_from` does not train."""
        if self.train_from is None:
            return
        trains = False
        for name, module in network.named_modules():
            trains = trains or name == self.train_from
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(trains)
        if not trains and self.train_from != "nothing":
            blocks = [name for name, _ in network.named_modules() if name and name.count(".") <= 1]
            raise ConfigError(f"{self.name} has no block {self.train_from!r} to train from; it has {', '.join(blocks)}")

    def _check_patches(self, patch: tuple[int, int], height: int, width: int) -> None:
        for side, pixels, step in (("height", height, patch[0]), ("width", width, patch[1])):
            if pixels % step:
                below = pixels // step * step
                raise ConfigError(
                    f"{self.name} sees patches of {step} px: {side} {pixels} must be {below} or {below + step}"
                )

    def _cannot_load(self, error: Exception) -> ModelError:
        return ModelError(
            f"cannot load weights {str(self.weights)!r} of {self.name}: {' '.join(str(error).split())[:200]}; they are "
            "downloaded once, which needs a network: else set backbone.weights to a file with the library's names, or none"
        )


class FeatureNetwork(nn.Sequential):
    """(N, 3, H, W) float, normalised by `mean` and `std` (of values in [0, 1]) -> (N, channels, *size)."""

    channels: int
    size: tuple[int, int]

    def __init__(
        self,
        parts: dict[str, nn.Module],
        batch_norm: Literal["frozen", "train"],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(OrderedDict(parts))
        self.batch_norm, self.mean, self.std = batch_norm, mean, std

    def train(self, mode: bool = True) -> FeatureNetwork:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                trains = any(parameter.requires_grad for parameter in module.parameters())
                module.train(mode and trains and self.batch_norm == "train")
        return self


class _TimmFeatures(nn.Module):
    """A level of timm's feature maps: of a transformer the patch tokens after its last norm, without class and registers."""

    def __init__(self, model: Any, level: int) -> None:
        super().__init__()
        self.model, self.level = model, level

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_intermediates(x, indices=[self.level], norm=True, intermediates_only=True)[0]


def _map_shape(network: nn.Module, height: int, width: int) -> tuple[int, ...]:
    """(C, h, w), found on tensors without data: at once for any network and size."""
    bare = {name: tensor.to("meta") for name, tensor in chain(network.named_parameters(), network.named_buffers())}
    network.eval()  # batch statistics of one value do not exist
    return tuple(functional_call(network, bare, torch.empty(1, 3, height, width, device="meta")).shape[1:])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a torch state dict; code in it is never run. Raises ModelError."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"no weights at {path}; backbone.weights is a file, 'imagenet' (downloaded) or 'none'"
        ) from error
    except Exception as error:  # in a damaged file the readers trip over anything
        raise ModelError(f"cannot read weights {path}: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelError(
            f"{path} is no state dict: names and tensors only, as torch.save(network.state_dict(), path) writes"
        )
    return state
