"""Graded similarity psi of two images, from what is known of where they were taken."""

from training.labels.cache import label
from training.labels.field_of_view import FieldOfView
from training.labels.rules import Clips, Distance, LabelRule, SamePlace
from training.labels.surface_overlap import SurfaceOverlap

__all__ = ["Clips", "Distance", "FieldOfView", "LabelRule", "SamePlace", "SurfaceOverlap", "label"]
