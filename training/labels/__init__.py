"""Graded similarity of two images, from what is known of the cameras."""
