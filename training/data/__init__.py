"""Training images with the graded similarity between them."""
