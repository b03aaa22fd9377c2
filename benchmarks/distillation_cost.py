"""What distillation costs: nothing on the robot, and in training little beside the steps, each against its plain peer.

    python benchmarks/distillation_cost.py
    python benchmarks/distillation_cost.py --networks baseline/network.safetensors student/network.safetensors

- inference: parameters, FLOPs and ONNX operators of a student that went through a second stage, against a baseline that
  went through the same stage without a teacher: two that are trained here for a few steps, or the two files;
- training: label maps against images, a teacher's step against a student's, a distilled step against a plain one, and
  describing and ranking all images against the steps of a second stage. What is compared takes turns in every round.

MobileNetV2 with random weights, on a GPU if there is one; images and label maps are synthetic. Only ratios are printed.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from training_cost import DEVICE, now, size  # first: it finds training, and mends torchvision before lightning has it

# isort: split
import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.catalog import open_sources
from training.data.batches import Batch, ImageFiles, TrainingBatches
from training.data.inputs import Semantic
from training.data.readers.rendered import LABEL_MAP_STEP
from training.data.source import Source
from training.distillation import Distillation, Distiller
from training.export.place_model import export_file
from training.fitting.run import train
from training.models.network_file import load_network
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.stopwatch import in_turns

WIDTH, HEIGHT = 640, 480
"""Of images, before they are read."""
SESSIONS = 2
TEXTURES = 48
"""Different images."""
CLASSES = 19
"""Of Cityscapes."""
GROUP = 3
"""Images of a query, its positive and a negative in a batch."""
ROUNDS = 11
STAGES, STAGE_STEPS = 3, 6
"""Rounds of describing and ranking, which are long, and the steps that each is compared with."""


def write_world(folder: Path, count: int) -> None:
    """Images that show nothing of their place and label maps that are those of the place: only the teacher can know."""
    rng = np.random.default_rng(0)
    for name in ("textures", "images", "labels"):
        (folder / name).mkdir()
    for number in range(TEXTURES):
        layers = [noise(rng, cells, 3, WIDTH, HEIGHT) for cells in (4, 16, 64)]
        image = np.mean(layers, axis=0).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "textures" / f"{number}.jpg"), image)
    for place in range(count // SESSIONS):
        scores = [noise(rng, 8, 1, WIDTH // LABEL_MAP_STEP, HEIGHT // LABEL_MAP_STEP) for _ in range(CLASSES)]
        labels = np.argmax(scores, axis=0).astype(np.uint8)
        for session in range(SESSIONS):
            name = f"{session}_{place:05d}"
            (folder / "images" / f"{name}.jpg").symlink_to(folder / "textures" / f"{rng.integers(TEXTURES)}.jpg")
            cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)


def noise(rng: np.random.Generator, cells: int, channels: int, width: int, height: int) -> Any:
    coarse = rng.uniform(0, 255, (cells, cells, channels)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def recipe_of(data: Path, options: argparse.Namespace, see: str = "rgb", **changes: Any) -> Recipe:
    width, height = options.size
    reader = {"kind": "named_places", "path": "images", "place": r"(?P<session>\d)_(?P<place>\d+)"}
    content = {
        "name": "distillation_cost",
        "data_root": str(data),
        "cache": str(data / "cache"),
        "network": {
            "width": width,
            "height": height,
            "input": {"kind": see},
            "dim": 256,
            # frozen, random batch normalisation lets the features vanish, and numbers near zero are slow
            "backbone": {"name": "mobilenet_v2", "weights": "none", "batch_norm": "train"},
        },
        "whitening": None,
        "sources": [
            {
                "reader": reader,
                "labels": {"kind": "same_place"},
                "label_maps": {"path": "labels", "images": "images"},
            }
        ],
        "sampling": {"kind": "groups", "groups": options.batch // GROUP, "group_size": GROUP},
        "loop": {"steps": 2, "workers": 0},
    }
    return Recipe.checked(content | changes, "distillation_cost")


def trained(data: Path, options: argparse.Namespace, name: str, see: str = "rgb", **changes: Any) -> Path:
    with redirect_stdout(io.StringIO()):
        return train(recipe_of(data, options, see, **changes), data / name)


# --- inference ------------------------------------------------------------------------------------------------------


def inference_cost(baseline: Path, student: Path, folder: Path) -> None:
    networks = {"baseline": load_network(baseline), "student": load_network(student)}
    first = networks["baseline"].options
    networks["teacher"] = PlaceNetwork(first.without_weights().model_copy(update={"input": Semantic()})).eval()
    print(f"inference, an image of {first.width}x{first.height}")
    print(f"{'':<12}{'parameters':>14}{'MFLOPs':>12}{'ONNX operators':>18}")
    graphs = {
        name: operators(export_file(path, folder / f"{name}.onnx").path)
        for name, path in (("baseline", baseline), ("student", student))
    }
    for name, network in networks.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        nodes = graphs[name].total() if name in graphs else "never exported"
        print(f"{name:<12}{count:>14,}{flops(network) / 1e6:>12,.2f}{nodes:>18}")
    of_baseline, of_student = graphs["baseline"], graphs["student"]
    differing = [kind for kind in sorted(of_baseline | of_student) if of_baseline[kind] != of_student[kind]]
    counts = ", ".join(f"{of_baseline[kind]} and {of_student[kind]} {kind}" for kind in differing)
    print(f"operators of baseline and student: {counts or 'the same, each as often'}")


@torch.no_grad()
def flops(network: PlaceNetwork) -> int:
    """Of one image."""
    options = network.options
    blank = torch.from_numpy(options.input.blank(options.width, options.height))
    with FlopCounterMode(display=False) as counter:
        network(blank[None])
    return counter.get_total_flops()


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


# --- training -------------------------------------------------------------------------------------------------------


class Branch:
    """A network in training, one batch at a time, as a bare torch loop does it."""

    def __init__(self, network: PlaceNetwork, recipe: Recipe, sources: Sequence[Source]) -> None:
        self.network, self.loss = network.to(DEVICE).train(), recipe.loss
        self.batches = TrainingBatches(sources, recipe.sampling, recipe.network, recipe.seed)
        self.files = ImageFiles(sources[0].images, recipe.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), recipe.optimiser.learning_rate)
        self.drawn = 0
        self.draw()

    def read(self) -> None:
        """As many files as a batch has, at network size."""
        for index in range(len(self.batch.images)):
            self.files[index]

    def draw(self) -> None:
        """The next batch, read and augmented."""
        self.batch: Batch = self.batches[self.drawn].to(DEVICE)
        self.drawn += 1

    def encode(self) -> Tensor:
        return self.network.encoding(self.batch.images)

    def step(self, distiller: Distiller | None = None) -> None:
        descriptors = self.network(self.batch.images)
        loss = self.loss(descriptors, self.batch.targets)
        if distiller:
            loss = loss + distiller.loss(descriptors, self.batch.views)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def by_name(rounds: int, contestants: Mapping[str, Callable[[], object]]) -> dict[str, NDArray[np.float64]]:
    """Seconds of each in every round, in turns, however long that takes."""
    calls = list(contestants.values())
    return dict(zip(contestants, in_turns(calls, rounds, warm_up=1, limit_s=math.inf, clock=now), strict=True))


def print_ratio(label: str, seconds: NDArray[np.float64], peer: NDArray[np.float64]) -> None:
    """The median over the rounds."""
    ratio = np.divide(seconds, peer)
    print(f"{label:<56}{np.median(ratio):>8.3f}   {ratio.min():.3f} to {ratio.max():.3f}")


def training_cost(data: Path, options: argparse.Namespace, start: Path, teacher: Path) -> None:
    see_colours, see_labels = recipe_of(data, options), recipe_of(data, options, "semantic")
    sources = open_sources(see_colours.sources, see_colours.data_root, see_colours.cache)
    student = Branch(load_network(start), see_colours, sources)
    of_teacher = Branch(load_network(teacher), see_labels, sources)
    distillation = Distillation(teacher=teacher)
    distiller = distillation.prepare(student.network, sources, see_colours.seed).distiller
    seconds = by_name(
        ROUNDS,
        {
            "images": student.read,
            "label maps": of_teacher.read,
            "batch of images": student.draw,
            "batch of label maps": of_teacher.draw,
            "normalise": student.encode,
            "one-hot": of_teacher.encode,
            "student": student.step,
            "teacher": of_teacher.step,
            "distilled": partial(student.step, distiller),
        },
    )
    title = f"training: {ROUNDS} rounds of a batch of {options.batch}"
    print(f"\n{title:<56}{'median':>8}   least to most")
    for label, one, peer in (
        ("weighted one-hot encoding, of a teacher's step", "one-hot", "teacher"),
        ("normalisation, of a student's step", "normalise", "student"),
        ("a teacher's step, of a student's", "teacher", "student"),
        ("a step with distillation, of one without", "distilled", "student"),
        ("label maps read, of images", "label maps", "images"),
        ("a batch of label maps read and augmented, of images", "batch of label maps", "batch of images"),
    ):
        print_ratio(label, seconds[one], seconds[peer])

    def second_stage() -> None:
        for _ in range(STAGE_STEPS):
            student.draw()
            student.step(distiller)

    seconds = by_name(
        STAGES,
        {"prepare": partial(distillation.prepare, student.network, sources, see_colours.seed), "steps": second_stage},
    )
    preparing, steps = seconds["prepare"], seconds["steps"] / STAGE_STEPS * options.steps
    print(f"\nsecond stage: {STAGES} rounds of {options.steps} steps on {len(sources[0].images)} images")
    print_ratio("describing by both branches and ranking, of all of it", preparing, preparing + steps)


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs=2, type=Path, metavar="FILE", help="baseline and student, trained before")
    parser.add_argument("--size", type=size, default="320x240", help="of images in the network, px (default: 320x240)")
    parser.add_argument("--batch", type=int, default=24, help=f"images, a multiple of {GROUP} (default: 24)")
    parser.add_argument("--images", type=int, default=240, help="of the training set (default: 240)")
    parser.add_argument("--steps", type=int, default=800, help="of a second stage (default: 800)")
    options = parser.parse_args()
    if options.batch % GROUP:
        parser.error(f"--batch must be a multiple of {GROUP}")

    print(f"MobileNetV2 on {DEVICE.type}, threads: {torch.get_num_threads()}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_world(data, options.images)
        start, teacher = trained(data, options, "start"), trained(data, options, "teacher", "semantic")
        if options.networks:
            baseline, student = options.networks
        else:
            baseline = trained(data, options, "baseline", start=start)
            student = trained(data, options, "student", start=start, distillation={"teacher": teacher})
        inference_cost(baseline, student, data)
        training_cost(data, options, start, teacher)


if __name__ == "__main__":
    main()
