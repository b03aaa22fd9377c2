"""Run the recipe of a segmentation network: train it, measure it, and write it as one ONNX file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from training.data.batches import WORKERS
from training.data.classes import ClassTable, read_table
from training.files import write_whole
from training.fitting import checkpoint_file
from training.fitting.learning_rate import learning_rate_share
from training.options import Options, differences, parse_overrides, read_yaml
from training.recipe import Optimiser
from training.semantics.accuracy import confusion, intersection_over_union, pixel_accuracy
from training.semantics.export import export
from training.semantics.labelled import IGNORED, CropBatches, Crops, LabelledFolder, class_count, read_targets
from training.semantics.network import SegmentationNetwork, SegmentationOptions
from training.semantics.onnx_segmenter import fitted, largest
from vpr_ros.errors import TrainingError
from vpr_ros.files import check_writable
from vpr_ros.images import read_image, resize
from vpr_ros.types import Image

LOCAL = ("data_root", "loop.workers", "loop.validate_every")
"""What may differ when a run is resumed: nothing that changes a loss."""


class SegmentationLoop(Options):
    steps: int = Field(ge=0)
    batch: int = Field(default=8, gt=0)
    workers: int = Field(default=1, ge=0)
    """Processes that read and augment images."""
    validate_every: int = Field(default=200, gt=0)
    """Steps between validations, each with a checkpoint."""


class SegmentationRecipe(Options):
    """`crop_width` x `crop_height` is what the network sees while it trains, of images as large as they are."""

    name: str
    seed: int = Field(default=0, ge=0)
    table: str
    data_root: Path
    train: LabelledFolder
    validation: LabelledFolder
    test: LabelledFolder
    network: SegmentationOptions
    crop_width: int = Field(gt=0)
    crop_height: int = Field(gt=0)
    crops: Crops = Crops()
    rare_classes: float = Field(default=1.1, gt=1)
    """c of the weight 1 / ln(c + share of the pixels) that a class has in the loss (Paszke et al., ENet, 2016, with 1.02):
    the smaller, the more a rare class counts."""
    optimiser: Optimiser = Optimiser()
    loop: SegmentationLoop


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> SegmentationRecipe:
    """With overrides `key=value`. Raises ConfigError naming the file and the key at fault."""
    return SegmentationRecipe.checked(read_yaml(path, parse_overrides(overrides)), str(path))


def train(recipe: SegmentationRecipe, out: Path, *, resume: bool = False) -> SegmentationNetwork:
    """Run a recipe: the trained network, in evaluation mode.

    Raises TrainingError for a loss that is not finite, a full disk, a folder that holds another run, or a checkpoint of
    another recipe; SourceError, ImageError and ModelError for what the recipe names and is not as it should be.
    """
    checkpoint = out / "last.ckpt"
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out} holds a run already: --resume goes on with it, --out chooses another folder")
    check_writable(out)
    torch.manual_seed(recipe.seed)
    table, pairs = read_table(recipe.table), recipe.train.pairs(recipe.data_root)
    validation = recipe.validation.pairs(recipe.data_root)
    network = SegmentationNetwork(recipe.network, class_count(table))
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    optimiser = make_optimiser(network, recipe.optimiser)
    first = load_checkpoint(checkpoint, recipe, network, optimiser) if checkpoint.exists() else 0
    write_whole(out / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).encode())
    weights = class_weights(pairs, table, recipe.rare_classes)
    losses: list[float] = []
    loader = training_batches(recipe, pairs, table, first)
    for step, (images, targets) in enumerate(tqdm(loader, desc="training", unit="step", disable=None), first):
        for group in optimiser.param_groups:
            group["lr"] = recipe.optimiser.learning_rate * learning_rate_share(
                step, recipe.optimiser, recipe.loop.steps
            )
        losses.append(training_step(network, optimiser, images, targets, weights, step))
        done = step + 1
        if done % recipe.loop.validate_every == 0 or done == recipe.loop.steps:
            save_checkpoint(checkpoint, recipe, network, optimiser, done)
            counts = measure(labels_of(network), validation, table)
            log(out / "log.csv", done, float(np.mean(losses)), float(np.nanmean(intersection_over_union(counts))))
            losses.clear()
    return network.cpu().eval()


def make_optimiser(network: SegmentationNetwork, options: Optimiser) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if options.kind == "adamw":
        return torch.optim.AdamW(trained, options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(trained, options.learning_rate, options.momentum, weight_decay=options.weight_decay)


def training_batches(
    recipe: SegmentationRecipe, pairs: list[tuple[Path, Path]], table: ClassTable, first: int
) -> Iterable[tuple[Tensor, Tensor]]:
    """From step `first` on."""
    loop = recipe.loop
    batches = CropBatches(pairs, table, recipe.crops, loop.batch, recipe.crop_width, recipe.crop_height, recipe.seed)
    return DataLoader(
        Subset(batches, range(first, loop.steps)),
        batch_size=None,
        num_workers=loop.workers,
        multiprocessing_context=WORKERS if loop.workers else None,
    )


def training_step(
    network: SegmentationNetwork,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    weights: Tensor,
    step: int,
) -> float:
    """The loss: weighted cross-entropy at the resolution of the labels."""
    network.train()
    device = network.mean.device
    logits = functional.interpolate(
        network(images.to(device)), size=targets.shape[-2:], mode="bilinear", align_corners=False
    )
    loss = functional.cross_entropy(logits, targets.to(device), weights.to(device), ignore_index=IGNORED)
    if not math.isfinite(loss.item()):
        raise TrainingError(f"the loss is {loss.item()} at step {step}; lower optimiser.learning_rate")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def class_weights(pairs: Sequence[tuple[Path, Path]], table: ClassTable, offset: float) -> Tensor:
    """(classes,) 1 / ln(offset + share of the labelled pixels)."""
    classes = class_count(table)
    pixels = sum(np.bincount(read_targets(path, table).ravel(), minlength=IGNORED + 1)[:classes] for _, path in pairs)
    return torch.from_numpy(1 / np.log(offset + pixels / np.sum(pixels))).float()


Label = Callable[[Image, int, int], NDArray[np.uint8]]
"""Image, height, width -> (height, width) class ids."""


def labels_of(network: SegmentationNetwork) -> Label:
    """As training.segment makes them with the exported network."""
    pixels_of = (network.options.width, network.options.height)

    def label(image: Image, height: int, width: int) -> NDArray[np.uint8]:
        seen = resize(image, *fitted(image.shape[1], image.shape[0], pixels_of))
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(seen[None]).to(network.mean.device))
        return largest(logits.cpu().numpy(), height, width)

    return label


def measure(label: Label, pairs: Sequence[tuple[Path, Path]], table: ClassTable) -> NDArray[np.int64]:
    """(classes, classes) the confusion over all images, each at the resolution of its labels."""
    classes = class_count(table)
    counts = np.zeros((classes, classes), np.int64)
    for image, labels in tqdm(pairs, desc="measuring", unit="image", disable=None):
        truth = read_targets(labels, table)
        counts += confusion(truth, label(read_image(image), *truth.shape), classes)
    return counts


def accuracy_lines(counts: NDArray[np.int64], table: ClassTable) -> Iterable[str]:
    for number, iou in enumerate(intersection_over_union(counts)):
        yield f"{table.classes[number].name:>20}  {iou:.3f}"
    yield f"{'mIoU':>20}  {np.nanmean(intersection_over_union(counts)):.3f}"
    yield f"{'pixel accuracy':>20}  {pixel_accuracy(counts):.3f}"


def write_model(
    network: SegmentationNetwork, recipe: SegmentationRecipe, path: Path, made_by: str
) -> NDArray[np.int64]:
    """Write the ONNX file, with its accuracy on the test images in its metadata: their confusion.

    What is measured is the network; `export` makes sure that the file answers the same.
    Raises ModelError, leaving what was at `path`, where it does not.
    """
    table = read_table(recipe.table)
    counts = measure(labels_of(network), recipe.test.pairs(recipe.data_root), table)
    by_class = intersection_over_union(counts)
    iou = {table.classes[i].name: None if np.isnan(share) else round(share, 4) for i, share in enumerate(by_class)}
    metadata = {
        "name": recipe.name,
        "table": recipe.table,
        "recipe": json.dumps(recipe.model_dump(mode="json")),
        "trained_on": f"{recipe.train.images} ({len(recipe.train.pairs(recipe.data_root))} images)",
        "test_miou": f"{np.nanmean(by_class):.4f}",
        "test_iou": json.dumps(iou),
        "commit": made_by,
    }
    export(network, path, metadata)
    return counts


def log(path: Path, step: int, loss: float, miou: float) -> None:
    print(f"step {step}: loss {loss:.3f}, validation mIoU {miou:.3f}")
    new = not path.exists()
    with path.open("a", newline="") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(("step", "loss", "validation_miou"))
        rows.writerow((step, f"{loss:.4f}", f"{miou:.4f}"))


def save_checkpoint(
    path: Path, recipe: SegmentationRecipe, network: SegmentationNetwork, optimiser: torch.optim.Optimizer, step: int
) -> None:
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    checkpoint_file.save_checkpoint({**state, "recipe": recipe.model_dump(mode="json")}, path)


def load_checkpoint(
    path: Path, recipe: SegmentationRecipe, network: SegmentationNetwork, optimiser: torch.optim.Optimizer
) -> int:
    """Steps that are done. Raises TrainingError for a file that is damaged or of another recipe."""
    state = checkpoint_file.load_checkpoint(path, network.mean.device, "training.train_segmentation")
    if not state.keys() >= {"recipe", "network", "optimiser", "step"}:
        raise TrainingError(f"{path} is no checkpoint of training.train_segmentation")
    changed = [key for key in differences(state["recipe"], recipe.model_dump(mode="json")) if key not in LOCAL]
    if changed:
        raise TrainingError(f"{path} was made with another recipe: {', '.join(changed)} differ")
    try:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} does not fit the network of the recipe: {' '.join(str(error).split())[:200]}"
        ) from error
