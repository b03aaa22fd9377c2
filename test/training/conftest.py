"""Libraries that import torchvision must find it mended, whichever test module comes first."""

from training.models.torchvision_wheel import import_torchvision

import_torchvision()
