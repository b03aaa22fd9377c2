"""Indexes find the keyframes most similar to a descriptor."""

from vpr_ros.map.index.faiss_index import FaissIndex

__all__ = ["FaissIndex"]
