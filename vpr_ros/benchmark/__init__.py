"""How fast, how large and how faithful each engine is on this machine: one table, to be shared.

`run` turns cases (case.py: model x engine x precision x batch) into rows (row.py). Each is measured (measure.py, memory.py) in
processes of its own (process.py): peak memory is then that row's alone, and a library that crashes costs one row. Rows run one
after the other, minutes apart on a machine that may be busy, so each also runs the reference (ONNX Runtime on the CPU in fp32)
in turns with its engine: milliseconds say what a user will see, the ratio to the reference is what compares.

Rows and the machine (machine.py) make a table (table.py), to be printed, kept as JSON and plotted (plot.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from vpr_ros.benchmark.case import Case, Settings
from vpr_ros.benchmark.measure import build_engine, engine_recall, measure_engine, reference_recall
from vpr_ros.benchmark.process import in_process
from vpr_ros.benchmark.row import Row
from vpr_ros.engines.backend import Progress
from vpr_ros.errors import EngineError


def run(cases: Iterable[Case], settings: Settings, tell: Progress) -> Iterator[Row]:
    """A row for each case, as soon as it is known; `tell` hears what is being done.

    What a library does wrong is a row with its reason. Raises SourceError for places that recall cannot be judged on.
    """
    recalls: dict[tuple[str, ...], float] = {}

    def recall(key: tuple[str, ...], work: Callable[..., float], *arguments: object) -> float | None:
        """Images of a recording come one by one, whatever the batch: once for all batches."""
        if settings.places and key not in recalls:
            recalls[key] = in_process(tell, work, *arguments, settings)
        return recalls.get(key)

    for case in cases:
        model, backend = case.model, case.backend
        # before anything else: mistakes in `places` shall show at once
        of_reference = recall((model.id,), reference_recall, model)
        if missing := case.missing():
            yield Row.of(case, reason=missing)
            continue
        try:
            file, build_s = in_process(tell, build_engine, case, settings)
            measured = in_process(tell, measure_engine, case, settings, file, build_s)
            of_engine = recall((model.id, backend.name, case.precision), engine_recall, case, file)
        except EngineError as error:
            yield Row.of(case, reason=" ".join(str(error).split()))
        else:
            yield Row.of(case, replace(measured, recall=of_engine, reference_recall=of_reference))
