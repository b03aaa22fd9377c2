"""Indexes find the keyframes most similar to a descriptor."""

from vpr_ros.index.faiss_index import FaissIndex

__all__ = ["FaissIndex"]
