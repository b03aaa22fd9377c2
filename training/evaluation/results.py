"""The numbers: each model's score on each group of queries, and how it differs from the first model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.protocol import Part, RetrievalProtocol
from training.evaluation.answers import Answers, answer
from training.evaluation.bootstrap import Bootstrap, confidence_interval, paired_difference, resampling_units
from training.evaluation.describers import Describer
from training.evaluation.descriptor_cache import DescriptorCache
from training.evaluation.metrics import average_precision, right_within
from training.evaluation.rerank import Reranker
from training.files import write_whole
from vpr_ros.evaluation.metrics import Curve, precision_recall


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """`value[k - 1]` is recall@k, with the 95 % confidence interval `low`, `high`: (20,) float64 each.

    `units` names what was resampled. A difference of two recalls has this form too. The interval is NaN where there is
    one unit only.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    units: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN becomes None."""
        numbers = {"recall": self.value, "low": self.low, "high": self.high}
        lists = {name: [None if np.isnan(x) else x for x in values.tolist()] for name, values in numbers.items()}
        return {**lists, "units": self.units}


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Of one group of queries: `counted` of `queries` can be read and have a right answer; recall and mAP@20 are theirs.

    Both are None where there are no such queries. `best_match` is the precision-recall curve of the first answers to
    all queries, those without a right answer included, over their similarity or, re-ranked, their inliers; only for loop
    closure, where a robot must know when to stay silent.
    """

    group: str
    queries: int
    counted: int
    recall: Recall | None
    mean_average_precision: float | None
    best_match: Curve | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; of the curve only its summary."""
        curve = self.best_match
        return {
            "group": self.group,
            "queries": self.queries,
            "counted": self.counted,
            "recall": self.recall.to_dict() if self.recall else None,
            "mean_average_precision_at_20": self.mean_average_precision,
            "best_match_average_precision": curve.average_precision if curve else None,
            "max_recall_at_full_precision": curve.max_recall_at_full_precision if curve else None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One model on one protocol, or a model and a re-ranker. `scores` begins with that of all queries."""

    name: str
    id: str
    answers: Answers
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All models on one protocol. `gains` holds, for each result after the first, its recall minus that of the first.

    A gain is None where no query counts.
    """

    protocol: RetrievalProtocol
    results: tuple[Result, ...]
    gains: tuple[Recall | None, ...]

    def to_dict(self) -> dict[str, Any]:
        first = self.results[0]
        return {
            "protocol": self.protocol.name,
            "rule": self.protocol.rule,
            "queries": sum(len(part.queries) for part in self.protocol.parts),
            "database": sum(len(part.database) for part in self.protocol.parts),
            "models": [
                {
                    "name": result.name,
                    "id": result.id,
                    "unreadable": [str(path) for path in result.answers.unreadable],
                    "scores": [score.to_dict() for score in result.scores],
                }
                for result in self.results
            ],
            "gains": [
                {"model": result.name, "over": first.name, **gain.to_dict()}
                for result, gain in zip(self.results[1:], self.gains, strict=True)
                if gain
            ],
        }


def evaluate(
    describers: Sequence[Describer],
    protocol: RetrievalProtocol,
    cache: DescriptorCache,
    bootstrap: Bootstrap,
    reranker: Reranker | None = None,
) -> Evaluation:
    """With a `reranker` each model has two results: its own, then that of its answers re-ranked.

    Raises SourceError where no image of a set can be read, ModelError where descriptors are not finite.
    """
    results = []
    for describer in describers:
        answers = answer(describer, protocol, cache)
        results.append(_result(describer.name, describer.id, protocol, answers, bootstrap))
        if reranker:
            name, id = f"{describer.name} + {reranker.name}", f"{describer.id} + {reranker.id}"
            results.append(_result(name, id, protocol, reranker.rerank(answers, protocol), bootstrap))
    first, *others = (result.answers for result in results)
    return Evaluation(protocol, tuple(results), tuple(_gain(protocol, first, other, bootstrap) for other in others))


def _result(name: str, id: str, protocol: RetrievalProtocol, answers: Answers, bootstrap: Bootstrap) -> Result:
    scores = (_score(protocol, answers, group, queries, bootstrap) for group, queries in _groups(protocol))
    return Result(name, id, answers, tuple(scores))


def _groups(protocol: RetrievalProtocol) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """All queries; those of each part and of each condition, where there are several."""
    parts = np.concatenate([np.full(len(part.queries), part.queries.name) for part in protocol.parts])
    conditions = np.concatenate([_conditions(part) for part in protocol.parts])
    yield "all", np.ones(len(parts), np.bool_)
    for names in (parts, conditions):
        if len(distinct := np.unique(names)) > 1:
            yield from ((str(name), names == name) for name in distinct)


def _conditions(part: Part) -> NDArray[np.str_]:
    """(Q,) the condition of each query, after that of the database where it has one: "summer → winter"."""
    conditions = np.where(part.queries.conditions == "", "condition unknown", part.queries.conditions)
    of_database = np.unique(part.database.conditions)
    if len(of_database) > 1 or of_database[0] == "":
        return conditions
    return np.char.add(f"{of_database[0]} → ", conditions)


def _score(
    protocol: RetrievalProtocol, answers: Answers, name: str, group: NDArray[np.bool_], bootstrap: Bootstrap
) -> Score:
    counted = answers.counted & group
    is_causal = all(part.stop is not None for part in protocol.parts)
    precision = average_precision(answers.right[counted], answers.positives[counted])
    return Score(
        group=name,
        queries=int(group.sum()),
        counted=int(counted.sum()),
        recall=_recall(protocol, answers, counted, bootstrap) if counted.any() else None,
        mean_average_precision=float(precision.mean()) if counted.any() else None,
        best_match=_best_match(answers, group) if is_causal else None,
    )


def _recall(protocol: RetrievalProtocol, answers: Answers, counted: NDArray[np.bool_], bootstrap: Bootstrap) -> Recall:
    right = right_within(answers.right[counted])
    units = resampling_units(protocol.sequences[counted])
    low, high = confidence_interval(right, units, bootstrap)
    return Recall(right.mean(axis=0), low, high, units.label)


def _gain(protocol: RetrievalProtocol, first: Answers, other: Answers, bootstrap: Bootstrap) -> Recall | None:
    both = first.counted & other.counted
    if not both.any():
        return None
    units = resampling_units(protocol.sequences[both])
    right_first, right_other = (right_within(answers.right[both]) for answers in (first, other))
    gain, low, high = paired_difference(right_first, right_other, units, bootstrap)
    return Recall(gain, low, high, units.label)


def _best_match(answers: Answers, group: NDArray[np.bool_]) -> Curve:
    right = answers.right[:, 0] & group
    return precision_recall(answers.confidence, right, answers.wrong & group, int((answers.counted & group).sum()))


def write_results(path: Path, evaluations: Sequence[Evaluation], bootstrap: Bootstrap, created: str) -> None:
    """Writes a JSON file; `created` says when, for people. Raises TrainingError where the disk does not take it."""
    results = {
        "created": created,
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed},
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
    }
    write_whole(path, (json.dumps(results, indent=1) + "\n").encode())
