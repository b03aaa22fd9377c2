"""From cases to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vpr_ros.engines.backend import BuildProgress, UnsupportedPrecision
from vpr_ros.engines.benchmark.case import Case, Settings
from vpr_ros.engines.benchmark.checks import FAIL, Check, check_engine
from vpr_ros.engines.benchmark.measure import build_engine, engine_recall, measure_engine, reference_recall
from vpr_ros.engines.benchmark.process import in_process
from vpr_ros.engines.benchmark.row import BenchmarkRow
from vpr_ros.errors import EngineError
from vpr_ros.printable import on_one_line


def run(cases: Iterable[Case], settings: Settings, progress: BuildProgress) -> Iterator[BenchmarkRow]:
    """A row for each case, as soon as it is known.

    What a library does wrong is a row with its reason. Raises what `settings.recall_of` does, but for EngineError.
    """
    recalls: dict[tuple[str, ...], float] = {}

    def recall(key: tuple[str, ...], work: Callable[..., float], *arguments: object) -> float | None:
        """Images of a recording come one by one, whatever the batch: once for all batches."""
        if settings.recall_of and key not in recalls:
            recalls[key] = in_process(progress, work, *arguments, settings)
        return recalls.get(key)

    for case in cases:
        model, backend = case.model, case.backend
        # before anything else: mistakes in the recording shall show at once
        of_reference = recall((model.id,), reference_recall, model)
        if missing := case.missing():
            yield BenchmarkRow.of(case, reason=missing)
            continue
        try:
            file, build_s = in_process(progress, build_engine, case, settings)
            measured = in_process(progress, measure_engine, case, settings, file, build_s)
            of_engine = recall((model.id, backend.name, case.precision), engine_recall, case, file)
        except UnsupportedPrecision as error:
            yield BenchmarkRow.of(case, reason=str(error))
        except EngineError as error:
            reason = on_one_line(error)
            yield BenchmarkRow.of(case, reason=reason, checks=(Check("runs", FAIL, reason),) if settings.checks else ())
        else:
            measured = replace(measured, recall=of_engine, reference_recall=of_reference)
            checks = _checked(case, settings, file, progress) if settings.checks else ()
            yield BenchmarkRow.of(case, measured, checks=checks)


def _checked(case: Case, settings: Settings, file: Path, progress: BuildProgress) -> tuple[Check, ...]:
    try:
        return in_process(progress, check_engine, case, settings, file)
    except EngineError as error:  # a check crashed the process: the reason names it
        return (Check("survives its checks", FAIL, on_one_line(error)),)
