"""Fitting a network by a recipe: what comes before the first step, the steps, and what comes after the last."""

from training.models.torchvision_wheel import import_torchvision

import_torchvision()  # before Lightning does
