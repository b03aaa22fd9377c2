"""Colours and style of every plot."""

from __future__ import annotations

from typing import Any

GREEN, RED, AMBER, BLUE = "#1a9e63", "#d9483b", "#e09a1f", "#3b7dd8"
"""Right, wrong, in between, neither."""
INK = "#010203"
"""Stands for the page's text colour in plots, so that they follow its light or dark theme."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vpr_ros",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
} | dict.fromkeys(
    [
        "text.color",
        "axes.edgecolor",
        "axes.labelcolor",
        "xtick.color",
        "ytick.color",
        "grid.color",
        "legend.labelcolor",
    ],
    INK,
)
"""Of all plots, for `matplotlib.rc_context`; the same plot is the same text every time."""
