"""Shares and averages of ranked answers. The curve of the best match is `vpr_ros.evaluation.metrics.precision_recall`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RANKS = (1, 5, 10, 20)
"""The k of recall@k that tables show."""


def right_within(right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of ranked answers (Q, K), whether a right one is among the first k + 1, (Q, K): the mean over Q is recall@(k + 1)."""
    return np.logical_or.accumulate(right, axis=1)


def average_precision(right: NDArray[np.bool_], positives: NDArray[np.int64]) -> NDArray[np.float64]:
    """(Q,) AP@K of ranked answers (Q, K), as MSLS defines it (`mapk` of mapillary_sls).

    The sum of the precision at each right answer, over min(K, P) where the database holds P = `positives[q]` >= 1 right
    answers: 1 where nothing wrong comes before them. Its mean over the queries is mAP@K.
    """
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    return (precision * right).sum(axis=1) / np.minimum(positives, right.shape[1])
