"""PCA whitening of descriptors (Jegou and Chum, ECCV 2012)."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from vpr_ros.errors import ConfigError, TrainingError

LEAST_VARIANCE = 1e-9
"""Of a direction, as a share of the largest: below it whitening would blow up the rounding of float32."""


def pca_whitening(
    descriptors: ArrayLike, dim: int, power: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(dim, D) weight and (dim,) bias of y = L^-power U^T (x - m), fitted on (M, D) descriptors.

    m is their mean, U and L the `dim` largest eigenvectors and eigenvalues of their covariance; `power` 0.5 whitens
    fully, 0 only rotates. By singular values, never a D x D covariance: NetVLAD has D = 32768 and M is far less.

    Raises ConfigError for `dim` > D or M <= `dim` (M points span M - 1 dimensions), TrainingError for descriptors that are
    not finite or all the same.
    """
    x = np.array(descriptors, np.float64)
    count, size = x.shape
    if dim > size:
        raise ConfigError(f"whitening cannot make {dim} dimensions of {size}; lower network.dim")
    if count <= dim:
        raise ConfigError(f"whitening to {dim} dimensions needs more than {dim} images, got {count}")
    if not np.isfinite(x).all():
        raise TrainingError("some descriptors are not finite, the network is broken: was its learning rate too high?")
    mean = x.mean(axis=0)
    length = float(np.abs(x).max())
    x -= mean
    _, singular, directions = scipy.linalg.svd(x, full_matrices=False, overwrite_a=True, check_finite=False)
    variance = singular[:dim] ** 2 / count
    if np.sqrt(variance[0]) <= np.finfo(np.float32).eps * length:
        raise TrainingError(f"all {count} descriptors are the same: the network has collapsed, or the images are one")
    scale = np.maximum(variance, LEAST_VARIANCE * variance[0]) ** -power
    weight = scale[:, None] * directions[:dim]
    return weight, -weight @ mean
