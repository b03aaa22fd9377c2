"""`network.safetensors`: a trained network on disk, to evaluate, whiten and export. No pickle: nothing in it can run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from training.files import write_whole
from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.errors import ModelError

FORMAT = "vpr_ros.network.2"


def save_network(network: PlaceNetwork, path: Path, metadata: Mapping[str, str]) -> None:
    """Weights, the options that build the network, and `metadata`. Raises TrainingError where the disk is full."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    plain = {**metadata, "format": FORMAT, "options": network.options.model_dump_json()}
    write_whole(path, save(state, plain))


def read_metadata(path: Path) -> dict[str, str]:
    """Everything in the file but its weights. Raises ModelError if `save_network` did not write it."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no network of training.train: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is no network of training.train: its metadata has no format {FORMAT!r}")
    return metadata


def load_network(path: Path) -> PlaceNetwork:
    """In evaluation mode, on the CPU. Raises ModelError for a file that is not a network or does not fit its options."""
    metadata = read_metadata(path)
    try:
        options = NetworkOptions.model_validate_json(metadata["options"])
        network = PlaceNetwork(options.without_weights())
        network.load_state_dict(load_file(path))
    except (KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{path} does not fit the network that it describes: {reason}") from error
    return network.eval()
