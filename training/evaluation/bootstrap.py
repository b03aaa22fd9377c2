"""How far chance could have moved a share: percentile intervals over whole sequences.

Images of one drive succeed and fail together. To resample images would call them independent and make the interval too
narrow: what is resampled are the drives, or blocks of neighbouring images where there are too few drives (Carlstein 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
_FEWEST_SEQUENCES = 5
_SHORTEST_BLOCK = 10


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How often units are drawn with replacement; equal seeds draw alike."""

    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is resampled: query i belongs to unit `index[i]`, (Q,) int64 from 0. `label` names the units for people."""

    index: NDArray[np.int64]
    label: str


def resampling_units(sequences: NDArray[np.str_]) -> Units:
    """The units of Q >= 1 queries, from the sequence of each (Q,), in the order in which they were taken.

    Fewer than 5 sequences are cut into blocks of about sqrt(Q) queries, at least 10: with more queries there are more
    blocks, and longer ones.
    """
    names, index = np.unique(sequences, return_inverse=True)
    if len(names) >= _FEWEST_SEQUENCES:
        return Units(index.astype(np.int64), f"{len(names)} sequences")
    length = max(_SHORTEST_BLOCK, round(math.sqrt(len(sequences))))
    blocks: list[NDArray[np.intp]] = []
    for sequence in range(len(names)):
        rows = np.flatnonzero(index == sequence)
        blocks += np.array_split(rows, max(1, round(len(rows) / length)))
    units = np.empty(len(sequences), np.int64)
    units[np.concatenate(blocks)] = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    return Units(units, f"{len(blocks)} blocks of {len(sequences) / len(blocks):.0f} images")


def confidence_interval(
    values: ArrayLike, units: Units, bootstrap: Bootstrap = Bootstrap()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of the 95 % interval of the mean over queries of (Q, ...) values; NaN where there is one unit."""
    values = np.asarray(values, np.float64)
    sizes = np.bincount(units.index)
    if len(sizes) < 2:
        unknown = np.full(values.shape[1:], np.nan)
        return unknown, unknown
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, units.index, values)
    # how often each unit is drawn: sums of units are all that a mean needs, so no query is ever copied
    rng = np.random.default_rng(bootstrap.seed)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=bootstrap.resamples)
    means = np.tensordot(drawn, sums, axes=1).T / (drawn @ sizes)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=-1)
    return low.T, high.T


def paired_difference(
    right_a: ArrayLike, right_b: ArrayLike, units: Units, bootstrap: Bootstrap = Bootstrap()
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The mean of `right_b` minus that of `right_a`, both (Q, ...) and of the same queries, with its low and high end.

    The same units are drawn for both, so that a drive which is hard for both does not widen the interval.
    """
    difference = np.asarray(right_b, np.float64) - np.asarray(right_a, np.float64)
    return difference.mean(axis=0), *confidence_interval(difference, units, bootstrap)
