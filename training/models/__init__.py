"""Networks that turn images into global descriptors."""
