"""Indexes find the keyframes that are most similar to a descriptor."""

FAISS = "faiss-cpu>=1.7.3"
"""The first that searches a part of an index. Its `IndexIDMap` learnt that in 1.8 only, so keys are translated by us."""
