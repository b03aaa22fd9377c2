"""One self-contained HTML page about an evaluation: tables, recall over k, and galleries of errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from training.evaluation.bootstrap import Bootstrap
from training.evaluation.gallery import errors, successes
from training.evaluation.results import Evaluation
from training.evaluation.tables import counts, footnotes, gain_table, score_table
from training.files import write_whole
from vpr_ros.evaluation.figures import STYLE, file_uri, render, svg

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_PICTURE_WIDTH_PX = 240


def write_page(path: Path, evaluations: Sequence[Evaluation], bootstrap: Bootstrap, created: str) -> None:
    """Writes one HTML file that loads nothing from elsewhere; `created` says when, for people."""
    html = render(
        _TEMPLATE,
        created=created,
        evaluations=evaluations,
        bootstrap=bootstrap,
        counts=counts,
        score_table=score_table,
        gain_table=gain_table,
        footnotes=footnotes,
        recall_plot=_recall_plot,
        errors=errors,
        successes=successes,
        source=partial(file_uri, width_px=_PICTURE_WIDTH_PX),
    )
    write_whole(path, html.encode())


def _recall_plot(evaluation: Evaluation) -> str:
    """Inline SVG: recall@k over k of each model, with its confidence interval as a band."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot(xlabel="k", ylabel="recall@k", ylim=(0, 1.02), xticks=(1, 5, 10, 15, 20))
        for result in evaluation.results:
            if recall := result.scores[0].recall:
                k = np.arange(1, len(recall.value) + 1)
                (line,) = axes.plot(k, recall.value, linewidth=2, label=result.name)
                axes.fill_between(k, recall.low, recall.high, color=line.get_color(), alpha=0.15, linewidth=0)
        if axes.lines:
            figure.legend(loc="outside lower center")
        return svg(figure, "Recall over the number of answers")
