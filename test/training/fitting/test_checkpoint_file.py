from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from training.fitting.checkpoint_file import load_checkpoint, save_checkpoint
from vpr_ros.errors import TrainingError

STATE = {"weight": torch.arange(24.0).reshape(4, 6), "step": 7, "name": "tiny"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(STATE, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_what_was_saved_is_loaded_also_by_torch_itself(path: Path) -> None:
    for state in (load_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(state.pop("weight"), STATE["weight"])
        assert state == {"step": 7, "name": "tiny"}


def test_any_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    content = path.read_bytes()
    refused = 0
    for at in np.linspace(0, len(content) - 1, 400).astype(int).tolist():
        changed = bytearray(content)
        changed[at] ^= 0x40
        path.write_bytes(changed)
        try:
            state = load_checkpoint(path)
        except TrainingError:
            refused += 1
        else:  # in the mark of the checksum: the checksums of the parts count then
            assert at >= len(content) - 64
            assert torch.equal(state["weight"], STATE["weight"])
    assert refused > 350


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TrainingError, match=r"last\.ckpt"):
        load_checkpoint(path)


def test_one_without_our_checksum_is_checked_by_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save(STATE, path)
    assert torch.equal(load_checkpoint(path)["weight"], STATE["weight"])
    content = bytearray(path.read_bytes())
    content[content.index(STATE["weight"].numpy().tobytes()) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"old\.ckpt is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("foreign", [[1, 2], torch.zeros(3), "text", None])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, foreign: object) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(foreign, path)
    with pytest.raises(TrainingError, match=r"x\.ckpt cannot be read as a checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(foreign if not torch.is_tensor(foreign) else 0))
    with pytest.raises(TrainingError, match=r"x\.ckpt cannot be read as a checkpoint"):
        load_checkpoint(path)
