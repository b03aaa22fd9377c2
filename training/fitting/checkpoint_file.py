"""Checkpoints on disk: torch's archive, with a checksum of all its bytes, written whole or not at all. Nothing pickled is run.

torch checks no checksum when it reads: a byte that a disk changed would become a weight. The sha256 is the comment of the
archive, which every reader of zip files skips: the file stays one that torch.load reads.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from training.files import write_whole
from vpr_ros.errors import TrainingError

_MARK = b"vpr_ros sha256 "
_COMMENT = len(_MARK) + hashlib.sha256().digest_size
_NO_COMMENT = struct.pack("<H", 0)
_COMMENT_LENGTH = struct.pack("<H", _COMMENT)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Raises TrainingError, the old file as it was, where the disk does not take it."""
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getbuffer()
    if content[-2:] != _NO_COMMENT:
        raise TrainingError(f"{path}: this torch {torch.__version__} writes archives of another form")
    content[-2:] = _COMMENT_LENGTH
    digest = hashlib.sha256(content).digest()
    del content  # or the stream could not grow
    stream.seek(0, io.SEEK_END)
    stream.write(_MARK + digest)
    write_whole(path, stream.getbuffer())


def load_checkpoint(path: Path, map_location: Any = None, command: str = "training.train") -> dict[str, Any]:
    """What `command` has saved. Raises TrainingError for a file that was changed, is damaged or no checkpoint.

    One without our checksum, made before there was one, is checked by that of each of its parts.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    if content[-_COMMENT:].startswith(_MARK):
        if hashlib.sha256(memoryview(content)[:-_COMMENT]).digest() != content[-_COMMENT:][len(_MARK) :]:
            raise _damaged(path)
    else:
        _check_parts(path, content, command)
    try:
        state = torch.load(io.BytesIO(content), map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # in foreign bytes the reader trips over anything
        raise _foreign(path, command) from error
    if not isinstance(state, dict):
        raise _foreign(path, command)
    return state


def _check_parts(path: Path, content: bytes, command: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            broken = archive.testzip()
    except Exception as error:  # as above
        raise _foreign(path, command) from error
    if broken is not None:
        raise _damaged(path)


def _damaged(path: Path) -> TrainingError:
    return TrainingError(f"{path} is damaged: its bytes do not have their checksum; --out FOLDER begins anew")


def _foreign(path: Path, command: str) -> TrainingError:
    return TrainingError(f"{path} cannot be read as a checkpoint of {command}")
