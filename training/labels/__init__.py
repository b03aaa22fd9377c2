"""Graded similarity psi of two images, from what is known of where they were taken."""
