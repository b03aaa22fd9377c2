"""What made a network: the recipe, the data and the state of the code, kept in the file."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.source import Source
from training.recipe import Recipe


def data_fingerprint(sources: Sequence[Source], networks: Sequence[Path] = ()) -> str:
    """sha256 of images and labels, and of the networks that training begins with."""
    digest = hashlib.sha256()
    for network in networks:
        digest.update(network.read_bytes())
    for source in sources:
        digest.update(source.images.fingerprint().encode())
        digest.update(np.ascontiguousarray(source.similarity.data).tobytes())
    return digest.hexdigest()


def weights_id(recipe: Recipe) -> str:
    """What the pretrained weights are: a name, or the sha256 of their file; empty where the file is not there."""
    weights = recipe.network.backbone.weights
    if not isinstance(weights, Path):
        return weights
    try:
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError:
        return ""


def record(recipe: Recipe, sources: Sequence[Source], data: str, made_by: str) -> dict[str, str]:
    """The metadata of a trained network."""
    return {
        "name": recipe.name,
        "recipe": json.dumps(recipe.model_dump(mode="json")),
        "trained_on": "; ".join(f"{source.images.name} ({len(source.images)} images)" for source in sources),
        "data": data,
        "commit": made_by,
    }


def commit() -> str:
    """The state of this checkout, "unknown" outside of one."""
    root = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
