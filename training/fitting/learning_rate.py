"""The learning rate over the steps of a run."""

from __future__ import annotations

import math

from training.recipe import Optimiser


def learning_rate_share(step: int, options: Optimiser, steps: int) -> float:
    """The learning rate at an optimiser step, as a share of `options.learning_rate`."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "steps":
        return options.step_factor ** (step // options.step_every)
    done = (step - options.warmup_steps) / max(1, steps - options.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
