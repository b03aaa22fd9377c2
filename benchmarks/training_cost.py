"""What labels, the training loop and hard-negative mining cost, each against its plain peer in the same run.

    python benchmarks/training_cost.py
    python benchmarks/training_cost.py --size 320x240 --batch 48 --workers 8 --steps 50    # with a GPU

- labels: fields of view of images along a city's streets, of which pairs are compared with shapely's polygons;
- loop: the Lightning loop of training.train, which logs and checks, against the same step as a bare torch loop, which does
  not. They take turns; batches that the workers of one prepared during the turn of the other do not count;
- sampling: an epoch of mined triplets against GCL's pairs, on as many images, both in that Lightning loop, in turns.

MobileNetV2 with random weights, on a GPU if there is one; images and city are synthetic. Only ratios mean something.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # training is no installed package
import training.fitting  # noqa: F401  # first: lightning would import torchvision before it is mended

# isort: split
import cv2
import numpy as np
import shapely
import torch
from lightning.pytorch import Callback
from numpy.typing import NDArray
from torch import Tensor

from training.catalog import open_sources
from training.data.batches import TrainingBatches, batch_loader
from training.data.image_set import ImageSet
from training.data.source import Source
from training.fitting.learning_rate import learning_rate_share
from training.fitting.module import PlaceTraining
from training.fitting.trainer import make_trainer
from training.labels.field_of_view import FieldOfView
from training.labels.pairs import pairs_within
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe

ROUNDS, EPOCHS = 11, 3
EPOCH_TURNS = 4
"""An epoch is as long as so many turns of the loops."""
DEVICE = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
STREETS, BLOCK_M, STEP_M = 41, 100.0, 5.0
"""The city: as many streets each way, and a photograph every few metres of a drive from end to end."""
TEXTURES = 48
"""Different files that the images to train on are."""
QUEUE = 4
"""Batches that each worker of `batch_loader` prepares ahead."""
NEGATIVES = 10
TUPLE = 2 + NEGATIVES
"""Images of a mined tuple: query, positive and hard negatives."""
IMAGES_PER_QUERY = 60
"""Of the city, for each query that is mined: so many that few queries have a positive in common, as in a large set."""
SAMPLE = 1000
"""Pairs compared with shapely, of every block of neighbours."""
ARC_POINTS = 33
"""Of a polygon, whose overlap is then off by up to 0.001: a tenth of what the labels may be."""


def city(count: int) -> ImageSet:
    """Drives along random streets, as many as `count` photographs need; their files do not exist."""
    rng = np.random.default_rng(0)
    along = np.arange(0, (STREETS - 1) * BLOCK_M, STEP_M)
    drives = -(-count // len(along))
    along = along + rng.uniform(0, STEP_M, (drives, 1))
    across = rng.integers(STREETS, size=(drives, 1)) * BLOCK_M + rng.normal(0, 2, (drives, 1))
    positions = np.stack([along, across + rng.normal(0, 0.5, along.shape)], axis=-1)
    northward, back = rng.integers(2, size=(2, drives)).astype(bool)
    positions[northward] = positions[northward, :, ::-1]
    headings = (northward * np.pi / 2 + back * np.pi)[:, None] + rng.normal(0, 0.05, along.shape)
    return ImageSet.of(
        "city",
        [Path(f"{i}.jpg") for i in range(count)],
        positions_m=positions.reshape(-1, 2)[:count],
        headings_rad=headings.reshape(-1)[:count],
    )


def now() -> float:
    if DEVICE.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def print_table(title: str, unit: str, rows: Mapping[str, Sequence[float]]) -> None:
    """The median over the rounds of each row, and of its ratio to the first row in the same round."""
    print(f"\n{title}\n{'':<44}{unit:>14}{'ratio':>8}   least to most")
    peer = next(iter(rows.values()))
    for label, values in rows.items():
        ratio = np.divide(values, peer)
        spread = "" if values is peer else f"   {ratio.min():.2f} to {ratio.max():.2f}"
        print(f"{label:<44}{np.median(values):>14,.2f}{np.median(ratio):>8.2f}{spread}")


# --- labels ---------------------------------------------------------------------------------------------------------


def label_cost(count: int) -> None:
    images, view = city(count), FieldOfView()
    before = peak_memory()
    start = time.perf_counter()
    psi = view.similarity(images)
    seconds = time.perf_counter() - start
    peak = peak_memory()
    stored = psi.data.nbytes + psi.indices.nbytes + psi.indptr.nbytes
    near, first, second = pairs_in_reach(images.positions_m, 2 * view.radius_m)
    print(f"labels: fields of view of {count:,} images, {near:,} pairs in reach, {psi.nnz // 2:,} that overlap")
    print(f"{'all labels':<44}{seconds:>12.1f} s   {near / seconds:,.0f} pairs/s")
    print(f"{'their matrix':<44}{stored / 1e6:>11.0f} MB   N x N floats would be {4 * count**2 / 1e6:,.0f} MB")
    print(f"{'peak memory of the process':<44}{peak / 1e6:>11.0f} MB   {before / 1e6:.0f} MB before")

    poses = np.column_stack([images.positions_m, images.headings_rad])
    polygons = sectors(poses, view)
    polygonal: list[float] = []
    exact: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        shared = shapely.area(shapely.intersection(polygons[first], polygons[second])) / shapely.area(polygons[first])
        polygonal.append(len(first) / (time.perf_counter() - start))
        start = time.perf_counter()
        overlap = view.overlap(poses[first], poses[second])
        exact.append(len(first) / (time.perf_counter() - start))
    difference = np.abs(overlap - shared).max()
    print_table(
        f"labels: {ROUNDS} rounds of {len(first):,} of the pairs, which differ by at most {difference:.4f}",
        "pairs/s",
        {"shapely, its polygons made before": polygonal, "FieldOfView.overlap": exact},
    )


def peak_memory() -> int:
    """Of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def pairs_in_reach(positions: NDArray[np.float64], radius: float) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """How many there are, and a random sample i < j of them."""
    rng = np.random.default_rng(0)
    count, samples = 0, []
    for i, j in pairs_within(positions, radius):
        count += len(i)
        drawn = rng.choice(len(i), min(SAMPLE, len(i)), replace=False)
        samples.append((i[drawn], j[drawn]))
    first, second = (np.concatenate(part) for part in zip(*samples, strict=True))
    return count, first, second


def sectors(poses: NDArray[np.float64], view: FieldOfView) -> NDArray[Any]:
    """(N,) polygons."""
    half = np.radians(view.angle_deg) / 2
    directions = poses[:, 2:] + np.linspace(-half, half, ARC_POINTS)
    arc = view.radius_m * np.stack([np.cos(directions), np.sin(directions)], axis=-1)
    apex = poses[:, None, :2]
    return shapely.polygons(np.concatenate([apex, apex + arc], axis=1))


# --- the loop -------------------------------------------------------------------------------------------------------


def write_city(folder: Path, count: int) -> None:
    """`count` of the city's images as the reader `utm_folder` wants them, each file many times."""
    (folder / "textures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(TEXTURES):
        noise = [rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32) for cells in (4, 16, 64)]
        layers = [cv2.resize(layer, (320, 240), interpolation=cv2.INTER_CUBIC) for layer in noise]
        cv2.imwrite(str(folder / "textures" / f"{number}.jpg"), np.mean(layers, axis=0).clip(0, 255).astype(np.uint8))
    images = city(count)
    compass = (90 - np.degrees(images.headings_rad)) % 360
    for role in ("database", "queries"):
        (folder / "images" / "train" / role).mkdir(parents=True)
    for i, ((east, north), heading) in enumerate(zip(images.positions_m, compass, strict=True)):
        role = "queries" if i % 2 else "database"
        name = f"@{east:.3f}@{north:.3f}@@@@@@@{heading:.3f}@.jpg"
        (folder / "images" / "train" / role / name).symlink_to(folder / "textures" / f"{i % TEXTURES}.jpg")


def recipe_of(data: Path, options: argparse.Namespace, steps: int, **changes: Any) -> Recipe:
    width, height = options.size
    content = {
        "name": "training_cost",
        "data_root": str(data),
        "cache": str(data / "cache"),
        "network": {
            "width": width,
            "height": height,
            "dim": 256,
            # frozen, random batch normalisation lets the features vanish, and numbers near zero are slow
            "backbone": {"name": "mobilenet_v2", "weights": "none", "batch_norm": "train"},
        },
        "whitening": None,
        "sources": [{"reader": {"kind": "utm_folder"}, "labels": {"kind": "field_of_view"}}],
        "sampling": {"kind": "pairs", "queries": options.batch // 2},
        "loss": {"kind": "graded_contrastive", "average": "pairs"},
        "loop": {"steps": steps, "workers": options.workers},
    }
    return Recipe.checked(content | changes, "training_cost")


def seeded_network(recipe: Recipe) -> PlaceNetwork:
    torch.manual_seed(recipe.seed)
    return PlaceNetwork(recipe.network)


def bare_loop(recipe: Recipe, sources: Sequence[Source]) -> Iterator[Tensor]:
    """Trains as `PlaceTraining` does, and yields the loss after each step."""
    network = seeded_network(recipe).to(DEVICE)
    batches = TrainingBatches(sources, recipe.sampling, recipe.network, recipe.seed)
    steps, options = recipe.loop.steps, recipe.optimiser
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    share = partial(learning_rate_share, options=options, steps=steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    for batch in batch_loader(batches, 0, steps, 0, rank=0, ranks=1, workers=recipe.loop.workers):
        here = batch.to(DEVICE)
        loss = recipe.loss(network(here.images), here.targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield loss.detach()


class Turns(Callback):
    """After every `warm_up` + `steps` batches of Lightning, as many of the bare loop."""

    def __init__(self, bare: Iterator[Tensor], warm_up: int, steps: int) -> None:
        self.bare, self.warm_up, self.steps = bare, warm_up, steps
        self.lightning_s: list[float] = []
        self.bare_s: list[float] = []
        self.losses: list[Tensor] = []
        self.bare_losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])
        done = len(self.losses) % (self.warm_up + self.steps)
        if done == self.warm_up:
            self.start = now()
        elif done == 0:
            self.lightning_s.append(now() - self.start)
            self.bare_losses += [next(self.bare) for _ in range(self.warm_up)]
            start = now()
            self.bare_losses += [next(self.bare) for _ in range(self.steps)]
            self.bare_s.append(now() - start)


def loop_cost(data: Path, options: argparse.Namespace) -> None:
    warm_up = QUEUE * max(1, options.workers)
    recipe = recipe_of(data, options, ROUNDS * (warm_up + options.steps))
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    turns = Turns(bare_loop(recipe, sources), warm_up, options.steps)
    module = PlaceTraining(recipe, seeded_network(recipe), sources)
    make_trainer(recipe, data / "loop", turns).fit(module)
    if DEVICE.type == "cpu" and turns.losses != turns.bare_losses:  # a GPU adds up in another order every time
        raise SystemExit(f"the loops differ: losses {torch.stack([*turns.losses, *turns.bare_losses]).tolist()}")
    images = options.steps * options.batch
    print_table(
        f"loop: {ROUNDS} rounds of {options.steps} batches of {options.batch} images",
        "images/s",
        {
            "bare torch loop": [images / seconds for seconds in turns.bare_s],
            "Lightning": [images / seconds for seconds in turns.lightning_s],
        },
    )


# --- sampling -------------------------------------------------------------------------------------------------------


class TimedTraining(PlaceTraining):
    """Training that knows where the time of an epoch goes."""

    mining_s = start_s = steps_s = 0.0
    images = described = 0

    def train_dataloader(self) -> Any:
        start = now()
        loader = super().train_dataloader()
        self.clock = now()
        self.mining_s = self.clock - start
        return loader

    def describe(self, source: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        self.described += len(indices)
        return super().describe(source, indices)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.start_s = now() - self.clock
            self.clock = now()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.images += len(batch.images)
        if self.batches_done == self.recipe.loop.steps:
            self.steps_s = now() - self.clock


def queries_of_epoch(options: argparse.Namespace) -> int:
    return EPOCH_TURNS * options.steps * (options.batch // TUPLE)


def sampling_cost(data: Path, options: argparse.Namespace) -> None:
    steps, queries = EPOCH_TURNS * options.steps, queries_of_epoch(options)
    triplets = {
        "sampling": {
            "kind": "mined_triplets",
            "tuples": options.batch // TUPLE,
            "negatives": NEGATIVES,
            "refresh_queries": queries,
            "pool": queries,  # as many: the proportion of the defaults
            "margin": 2,  # every negative is near enough: tuples are full, whatever random weights see
        },
        "loss": {"kind": "triplet"},
    }
    pairs, mined = recipe_of(data, options, steps), recipe_of(data, options, steps, **triplets)
    sources = open_sources(pairs.sources, pairs.data_root, pairs.cache)

    def epoch(recipe: Recipe, name: str) -> TimedTraining:
        module = TimedTraining(recipe, seeded_network(recipe), sources)
        make_trainer(recipe, data / name, Callback()).fit(module)
        if module.images != steps * options.batch:
            raise SystemExit(f"{name}: {module.images} images, not {steps * options.batch}: raise --steps")
        return module

    gcl, hard = zip(*((epoch(pairs, f"pairs {n}"), epoch(mined, f"mined {n}")) for n in range(EPOCHS)), strict=True)
    print_table(
        f"sampling: {EPOCHS} rounds of an epoch of {steps * options.batch} images",
        "seconds",
        {
            "GCL's pairs, graded contrastive loss": [run.steps_s for run in gcl],
            "mined triplets, triplet loss": [run.mining_s + run.steps_s for run in hard],
            "  of this, steps": [run.steps_s for run in hard],
            "  of this, mining": [run.mining_s for run in hard],
        },
    )
    print(
        f"a mining, once an epoch: {queries} queries, {queries} images in the pool, {NEGATIVES} negatives for each; "
        f"with all positives {hard[0].described} images to describe"
    )
    start_s = np.median([run.start_s for run in hard])
    print(f"not counted: new workers after a mining, {start_s:.2f} s however long the epoch")


def size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8, help="batches of a turn, a quarter of an epoch (default: 8)")
    parser.add_argument("--size", type=size, default="96x72", help="of images in the network, in px (default: 96x72)")
    parser.add_argument("--batch", type=int, default=12, help=f"images, a multiple of {TUPLE} (default: 12)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read images (default: 1)")
    parser.add_argument("--labels", type=int, default=100_000, help="images to label (default: 100000)")
    options = parser.parse_args()
    if options.batch % TUPLE:
        parser.error(f"--batch must be a multiple of {TUPLE}, the images of a mined tuple")

    label_cost(options.labels)  # first: what training needs would hide what this needs
    # a thread that shares its core with a worker keeps the others waiting, now in one loop and now in the other
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - options.workers))
    width, height = options.size
    print(
        f"\nMobileNetV2, {options.batch} images of {width}x{height} a batch, on {DEVICE.type}; "
        f"threads: {torch.get_num_threads()}, workers: {options.workers}"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_city(Path(folder), IMAGES_PER_QUERY * queries_of_epoch(options))
        loop_cost(Path(folder), options)
        sampling_cost(Path(folder), options)


if __name__ == "__main__":
    main()
