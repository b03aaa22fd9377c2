"""Semantic segmentation: class tables, label maps on disk, networks that make them and one of our own."""
