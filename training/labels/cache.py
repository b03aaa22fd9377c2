"""Labels are computed once: `label` keeps them on disk."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from scipy.sparse import csr_array, load_npz, save_npz

from training.data.image_set import ImageSet
from training.files import write_cache
from training.labels.rules import LabelRule

_VERSION = 1
"""Raise it when a rule computes something else from the same options."""
_LOG = logging.getLogger(__name__)


def label(images: ImageSet, rule: LabelRule, cache: Path | None = None) -> csr_array:
    """psi of all pairs of `images` by `rule` (see `Source.similarity`), from the folder `cache` if it is there.

    A cache file that is damaged or cannot be written costs a warning and the time to compute. Raises SourceError where
    the set lacks what the rule needs.
    """
    if cache is None:
        return rule.similarity(images)
    key = hashlib.sha256(f"{_VERSION}\n{images.fingerprint()}\n{rule.model_dump_json()}".encode()).hexdigest()
    path = cache / f"{rule.kind}-{key}.npz"
    matrix = _read(path, len(images))
    if matrix is None:
        matrix = rule.similarity(images)
        write_cache(path, lambda file: save_npz(file, matrix, compressed=False))
    return matrix


def _read(path: Path, count: int) -> csr_array | None:
    """The matrix in a cache file; None if there is none, or none that can be used."""
    if not path.exists():
        return None
    try:
        matrix = csr_array(load_npz(path))  # never unpickles
        matrix.check_format(full_check=True)
        if matrix.shape != (count, count):
            raise ValueError(f"shape {matrix.shape}, not {(count, count)}")
    except Exception as error:  # zipfile, zlib, numpy and scipy let out whatever damaged bytes cause
        _LOG.warning("%s is damaged (%s): labels are computed again", path, error)
        return None
    return matrix
