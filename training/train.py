"""Train a place-recognition model from a recipe.

    python -m training.train training/recipes/first_model.yaml
    python -m training.train training/recipes/first_model.yaml steps=20 --out /tmp/short

Writes checkpoint.pt (tensors and plain values only), recipe.yaml and log.csv into the output folder.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from training.data.augment import random_view
from training.data.catalog import open_sources
from training.data.sources import Source, View, draw_batch, similarity_matrix
from training.losses.graded_contrastive import graded_contrastive_batch
from training.models.place_network import PlaceNetwork
from vpr_ros.errors import ConfigError
from vpr_ros.images import resize

Recipe = dict[str, Any]


def read_recipe(path: Path, overrides: list[str]) -> Recipe:
    """The recipe with `key=value` overrides (YAML values). Raises ConfigError for an unknown key."""
    recipe = yaml.safe_load(path.read_text())
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in recipe:
            raise ConfigError(f"{path} has no {key!r}; it has {', '.join(recipe)}")
        recipe[key] = yaml.safe_load(value)
    return recipe


def batches(recipe: Recipe, sources: list[Source], shares: list[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (images (B, H, W, 3) uint8, psi (B, B))."""
    rng = np.random.default_rng(recipe["seed"])
    while True:
        views = draw_batch(rng, sources, shares, recipe["groups"], recipe["group_size"])
        images = [_render(rng, view, sources, recipe) for view in views]
        yield torch.from_numpy(np.stack(images)), torch.from_numpy(similarity_matrix(views, sources))


def _render(rng: np.random.Generator, view: View, sources: list[Source], recipe: Recipe) -> np.ndarray:
    image = sources[view.source].images[view.index]
    return random_view(rng, image, view.crop, recipe["width"], recipe["height"])


def load_start(network: PlaceNetwork, recipe: Recipe) -> None:
    """ImageNet weights where they are at hand."""
    weights = Path(recipe["imagenet_weights"])
    if weights.exists():
        network.backbone.load_imagenet(weights)
    else:
        print(f"{weights} is not there: the backbone starts from random weights and will be far worse")


def whiten(network: PlaceNetwork, recipe: Recipe, sources: list[Source], shares: list[float]) -> None:
    """Set the projection to PCA whitening of the training images, as many of each source as its share."""
    rng = np.random.default_rng(recipe["seed"])
    device = network.projection.weight.device
    pooled = []
    network.eval()
    for source, share in zip(tqdm(sources, desc="whitening", unit="source"), shares, strict=True):
        wanted = max(1, round(recipe["whitening_images"] * share / sum(shares)))
        chosen = rng.choice(len(source.images), size=min(wanted, len(source.images)), replace=False)
        for part in np.array_split(chosen, 1 + len(chosen) // 32):
            images = np.stack([resize(source.images[i], recipe["width"], recipe["height"]) for i in part])
            with torch.no_grad():
                pooled.append(network.pooled(torch.from_numpy(images).to(device)))
    network.whiten(torch.cat(pooled), recipe["whitening_power"])


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < recipe["warmup_steps"]:
        return (step + 1) / recipe["warmup_steps"]
    done = (step - recipe["warmup_steps"]) / max(1, recipe["steps"] - recipe["warmup_steps"])
    return 0.5 * (1 + math.cos(math.pi * done))


def train(recipe: Recipe, out: Path) -> Path:
    """Run a recipe; the path of the checkpoint. Raises FloatingPointError on a loss that is not finite."""
    commit = _commit()  # of the code that runs, whatever happens to the checkout meanwhile
    torch.manual_seed(recipe["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sources, shares = open_sources(recipe["sources"], Path(recipe["data_root"]))
    for source in sources:
        print(f"{source.name}: {len(source.images)} images")
    network = PlaceNetwork(recipe["dim"]).to(device)
    load_start(network, recipe)
    whiten(network, recipe, sources, shares)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_share(step, recipe))
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    network.train()
    with (out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["step", "loss"])
        stream = batches(recipe, sources, shares)
        bar = tqdm(range(recipe["steps"]), desc="train", unit="step")
        for step in bar:
            images, psi = next(stream)
            loss = graded_contrastive_batch(network(images.to(device)), psi.to(device), recipe["margin"])
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower learning_rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.4f}")
            log.writerow([step, f"{loss.item():.6f}"])
    # the loss moved the features: without whitening them again recall is far below where it started
    whiten(network, recipe, sources, shares)
    checkpoint = out / "checkpoint.pt"
    state = {"state": network.state_dict(), "recipe": recipe, "commit": commit, "sources": [s.name for s in sources]}
    torch.save(state, checkpoint)
    return checkpoint


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="a YAML file of training/recipes/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a value of the recipe")
    parser.add_argument("--out", type=Path, default=None, help="output folder (default: .training/RECIPE)")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    checkpoint = train(recipe, arguments.out or Path(".training") / arguments.recipe.stem)
    print(f"wrote {checkpoint}; now: python -m training.export {checkpoint}")


if __name__ == "__main__":
    main()
