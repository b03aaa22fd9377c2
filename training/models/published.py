"""Published networks behind our contract: a torch.hub entry or an ONNX file, with its preprocessing declared in YAML.

    name: EigenPlaces ResNet-18 512
    licence: MIT
    source:
      kind: torch_hub
      repo: gmberton/eigenplaces
      entry: get_trained_model
      arguments: {backbone: ResNet18, fc_output_dim: 512}
      trust_repo: true
    preprocessing: {width: 512, height: 512, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}

An ONNX file has `source: {kind: onnx, path: network.onnx}` instead. `training/published/` has ready-made descriptions.

torch.hub downloads a repository, runs its Python code on this machine and unpickles its weights. Nothing here makes that
safe: whoever writes `trust_repo: true` says that they trust it. An ONNX file runs no code.
"""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from training.models.torchvision_wheel import import_torchvision
from training.options import Options, read_yaml
from vpr_ros.errors import ConfigError, ModelError
from vpr_ros.files import expanded

UNIT_TOLERANCE = 1e-3
"""A length within this of 1 is 1: half-precision networks are off by some 1e-4."""

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
"""What a published ONNX file may take, by ONNX Runtime's name."""


class Preprocessing(Options):
    """How a network wants its images: (scale * pixel - mean) / std, with pixels 0..255.

    `scale` makes 0..1 of them unless another is given; `mean` and `std` are on that scale, in the order of `channels`.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    scale: float = Field(1 / 255, gt=0)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) RGB -> what the network takes, in `layout`."""
        ordered = images if self.channels == "rgb" else images[..., ::-1]
        scale, mean, std = (np.array(value, np.float32) for value in (self.scale, self.mean, self.std))
        pixels = (ordered * scale - mean) / std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if self.layout == "nchw" else pixels)


class TorchHub(Options):
    """An entry of a repository's hubconf.py.

    `repo` is `owner/name[:branch, tag or commit]` on GitHub, or with `local` a folder (relative to the YAML file).
    `output` is the index or key of the descriptor where the network returns a tuple or a dict.
    """

    kind: Literal["torch_hub"] = "torch_hub"
    repo: str
    entry: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: int | str | None = None
    local: bool = False
    trust_repo: bool = False

    def open(self, declaration: Published, folder: Path) -> HubModel:
        """On the GPU if there is one. Raises ConfigError if nobody trusts the repository, ModelError if it does not load."""
        network = self._load(folder)
        digest = hashlib.sha256(declaration.model_dump_json().encode())
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return HubModel(
            declaration, digest.hexdigest(), Preprocessed(network, declaration, self.output).eval().to(device)
        )

    def _load(self, folder: Path) -> nn.Module:
        if not self.trust_repo:
            raise ConfigError(
                f"torch.hub would run the code of {self.repo} on this machine: "
                "if you trust it, write `trust_repo: true` under `source`"
            )
        repo = str(folder / expanded(self.repo)) if self.local else self.repo
        try:
            import_torchvision()  # before the repository does
            with _own_modules(Path(repo if self.local else torch.hub.get_dir())):
                network = torch.hub.load(
                    repo,
                    self.entry,
                    source="local" if self.local else "github",
                    trust_repo=True,
                    skip_validation=True,  # it asks GitHub's API, which limits the rate and knows heads of branches only
                    **self.arguments,
                )
        except EOFError as error:  # torch.hub asked, and there was no terminal
            raise ModelError(
                f"{self.repo} loads another repository that torch.hub does not trust yet: run this once in a terminal"
            ) from error
        except Exception as error:  # it is other people's code: anything can come
            raise ModelError(
                f"torch.hub entry {self.entry!r} of {self.repo} does not load: {first_line(error)}"
            ) from error
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"torch.hub entry {self.entry!r} of {self.repo} made a {type(network).__name__}, no network"
            )
        return network.eval()


class OnnxFile(Options):
    """An ONNX file (relative to the YAML file) with one input; `output` is needed where it has several."""

    kind: Literal["onnx"] = "onnx"
    path: Path
    output: str | None = None

    def open(self, declaration: Published, folder: Path) -> OnnxModel:
        """Raises ModelError for a file that is missing, no ONNX, or does not take the images that are declared."""
        path = folder / expanded(self.path)
        try:
            proto = onnx.load(path)
            content = proto.SerializeToString(deterministic=True)  # with what lay in other files
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except (DecodeError, onnx.checker.ValidationError) as error:
            raise ModelError(f"{path} is no whole ONNX model: {first_line(error)}") from error
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"ONNX Runtime cannot load {path}: {first_line(error)}") from error
        outputs = [value.name for value in session.get_outputs()]
        if self.output not in outputs and (self.output or len(outputs) != 1):
            raise ModelError(f"{path} has no single output {self.output or ''!r}: choose `output` of {outputs}")
        fixed_batch = _check_input(session, declaration.preprocessing, path)
        digest = hashlib.sha256(declaration.model_dump_json().encode() + content).hexdigest()
        return OnnxModel(declaration, digest, path, proto, session, self.output or outputs[0], fixed_batch)


class Published(Options):
    """A published network: where it comes from and what it takes.

    `normalise_output` false says that its output has unit length already, which is checked.
    """

    name: str = Field(min_length=1)
    licence: str = ""
    trained_on: str = ""
    source: Annotated[TorchHub | OnnxFile, Field(discriminator="kind")]
    preprocessing: Preprocessing
    normalise_output: bool = True


@dataclass(frozen=True, eq=False)
class PublishedModel(ABC):
    """A published network, loaded. `id` is the sha256 of its description and its weights."""

    declaration: Published
    id: str

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def width(self) -> int:
        return self.declaration.preprocessing.width

    @property
    def height(self) -> int:
        return self.declaration.preprocessing.height

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, height, width, 3) uint8 RGB -> (N, D) float32, unit length.

        Raises ModelError where the network does not keep that, ValueError for images of another size.
        """
        if images.shape[1:] != (self.height, self.width, 3):
            raise ValueError(f"{self.name} takes (N, {self.height}, {self.width}, 3) images, not {images.shape}")
        descriptors = self._run(images)
        check_descriptors(descriptors, images, self.name)
        return descriptors

    @abstractmethod
    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class HubModel(PublishedModel):
    network: Preprocessed

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return self.network(torch.from_numpy(images).to(self.network.mean.device)).cpu().numpy()


@dataclass(frozen=True, eq=False)
class OnnxModel(PublishedModel):
    """`fixed_batch`: the file takes one image at a time."""

    path: Path
    proto: onnx.ModelProto
    session: onnxruntime.InferenceSession
    output: str
    fixed_batch: bool

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        taken = self.session.get_inputs()[0]
        pixels = self.declaration.preprocessing.apply(images).astype(FLOATS[taken.type])
        batches = np.split(pixels, len(pixels)) if self.fixed_batch else [pixels]
        try:
            found = np.concatenate([self.session.run([self.output], {taken.name: batch})[0] for batch in batches])
        except Exception as error:  # onnxruntime raises its own classes, none of them public
            raise ModelError(f"{self.path} does not run on {batches[0].shape}: {first_line(error)}") from error
        if not _is_vector_per_image(found.shape):
            raise ModelError(f"{self.path} returns {found.shape}, not one vector per image (N, D)")
        vectors = found.reshape(len(found), -1).astype(np.float32)
        if self.declaration.normalise_output:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


class Preprocessed(nn.Module):
    """(N, H, W, 3) uint8 RGB -> (N, D) float: preprocessing, network, and L2 if the description asks for it."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, declaration: Published, output: int | str | None = None) -> None:
        super().__init__()
        self.network = network
        self.declaration = declaration
        self.output = output
        self.register_buffer("mean", torch.tensor(declaration.preprocessing.mean))
        self.register_buffer("std", torch.tensor(declaration.preprocessing.std))

    def forward(self, images: Tensor) -> Tensor:
        """Raises ModelError if the network does not return one vector per image."""
        how = self.declaration.preprocessing
        pixels = images.float() if how.channels == "rgb" else images.float().flip(-1)
        pixels = (pixels * how.scale - self.mean) / self.std
        vectors = self._vectors(self.network(pixels.permute(0, 3, 1, 2) if how.layout == "nchw" else pixels)).float()
        return functional.normalize(vectors, dim=1) if self.declaration.normalise_output else vectors

    def _vectors(self, found: Any) -> Tensor:
        if self.output is not None:
            try:
                found = found[self.output]
            except (LookupError, TypeError) as error:
                raise ModelError(
                    f"{self.declaration.name} has no output {self.output!r}: {first_line(error)}"
                ) from error
        if isinstance(found, Tensor) and _is_vector_per_image(found.shape):
            return found.flatten(1)
        what = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ModelError(
            f"{self.declaration.name} returns {what}, not one vector per image (N, D); "
            "`output` under `source` chooses one of several"
        )


def read_published(path: Path) -> Published:
    """Read a description. Raises ConfigError, one line that names the file and the key at fault."""
    return Published.checked(read_yaml(path), str(path))


def open_published(path: Path) -> HubModel | OnnxModel:
    """Load the network that a YAML file describes.

    Raises ConfigError for the description, ModelError for the network.
    """
    declaration = read_published(path)
    return declaration.source.open(declaration, path.parent)


def check_descriptors(descriptors: NDArray[np.float32], images: NDArray[np.uint8], name: str) -> None:
    """Raises ModelError unless there is one finite vector of unit length per image."""
    if descriptors.ndim != 2 or len(descriptors) != len(images):
        raise ModelError(f"{name} returns {descriptors.shape} for {len(images)} images, not (N, D)")
    lengths = np.linalg.norm(descriptors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
    if len(wrong):
        image, length = images[wrong[0]], lengths[wrong[0]]
        kind = "an image of one colour" if image.min() == image.max() else "an image"
        what = f"has length {length:.4g}, not 1" if np.isfinite(length) else "is not finite"
        raise ModelError(f"{name}: the descriptor of {kind} {what}")


def _check_input(session: onnxruntime.InferenceSession, how: Preprocessing, path: Path) -> bool:
    """Whether the batch size is fixed, at one. Raises ModelError if the file does not take what is declared."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in FLOATS:
        found = ", ".join(f"{value.name} {value.type}" for value in inputs)
        raise ModelError(f"{path} must take one batch of float images; it takes {found}")
    declared = (3, how.height, how.width) if how.layout == "nchw" else (how.height, how.width, 3)
    shape = inputs[0].shape
    fits = len(shape) == 4 and all(
        not isinstance(found, int) or found == wanted for found, wanted in zip(shape[1:], declared, strict=True)
    )
    if not fits:
        raise ModelError(f"{path} takes {shape}, but its description declares {['N', *declared]} ({how.layout})")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(f"{path} takes exactly {shape[0]} images at a time: export it for one, or for any number")
    return shape[0] == 1


def _is_vector_per_image(shape: tuple[int, ...] | torch.Size) -> bool:
    """(N, D), or (N, D, 1, 1) as poolings leave it."""
    return len(shape) >= 2 and all(size == 1 for size in shape[2:])


@contextmanager
def _own_modules(root: Path) -> Iterator[None]:
    """Forget the modules imported from below `root` meanwhile: `models` and `utils` of two repositories are not the same."""
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).resolve().is_relative_to(root.resolve()):
                del sys.modules[name]


def first_line(error: Exception) -> str:
    """Of what another library has to say."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
