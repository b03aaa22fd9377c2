"""Trains the models that vpr_ros runs. Used from a checkout, never installed on a robot."""

from training.models.backbones import import_torchvision

import_torchvision()  # before lightning and timm do: beside a torch of another build only this way succeeds
