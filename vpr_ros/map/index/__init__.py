"""Indexes find the keyframes that are most similar to a descriptor."""
