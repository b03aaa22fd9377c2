"""Normalisation of the images that torchvision's and most of timm's networks were trained on."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]."""
