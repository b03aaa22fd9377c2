"""Libraries that import torchvision must find it mended, whichever test module comes first."""

import training  # noqa: F401
