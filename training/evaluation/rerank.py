"""Re-ranking: the first answers to a query, ordered anew by how many local features agree on one rigid scene.

StructVPR (Shen et al., CVPR 2023) re-ranks with SuperPoint and RANSAC ("SP-RANSAC"). Here any local features do, and the
verification is the robot's, at its defaults but for the ratio test of networks, and without intrinsics, which few data
sets have.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.data.protocol import RetrievalProtocol
from training.evaluation.answers import DEPTH, Answers
from vpr_ros.config import VerificationConfig
from vpr_ros.errors import ConfigError, ImageError
from vpr_ros.images import read_image
from vpr_ros.recognition.local_features import BUILTIN, open_features
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import LocalFeatures

_LOG = logging.getLogger(__name__)
_IMAGES_KEPT = 1024
"""Local features of so many images stay in memory: 0.8 GB of 800 descriptors with 256 numbers, SuperPoint's."""
_RATIO_OF_NETWORKS = 0.95
"""Lowe's ratio test, chosen with XFeat on five places in twelve seasons (`michigan`): it leaves the largest share of pairs
of one place, .947 of 150, above all 300 pairs of different places. 0.85, the robot's for SIFT, leaves .907; 0.9 .900; none
.893; the least cosine of 0.82 that XFeat's authors use instead .927."""
_NO_FEATURES = LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.uint8))


@dataclass(frozen=True, slots=True)
class Reranker:
    """Orders the first `top` answers by their inliers. `name` is for people, `id` changes with the local features."""

    name: str
    id: str
    verifier: GeometricVerifier
    top: int

    def rerank(self, answers: Answers, protocol: RetrievalProtocol) -> Answers:
        """The answers with more inliers first; those with equally many, and all below the `top`, in their old order.

        An image that cannot be read has no inliers.
        """
        features_of = lru_cache(_IMAGES_KEPT)(self._extract)
        inliers = np.full(answers.found.shape, np.nan, np.float32)
        bar = tqdm(np.flatnonzero(answers.is_read), desc=f"{self.name}: {protocol.name}", unit="query", disable=None)
        for row in bar:
            part = protocol.parts[answers.part[row]]
            query = features_of(part.queries.paths[answers.query[row]])
            for rank in np.flatnonzero(answers.found[row, : self.top] >= 0):
                match = features_of(part.database.paths[answers.found[row, rank]])
                inliers[row, rank] = self.verifier.verify(query, None, match, None).inliers
        return answers.reordered(np.argsort(-inliers, axis=1, kind="stable"), inliers)  # NaN comes last

    def _extract(self, path: Path) -> LocalFeatures:
        try:
            return self.verifier.extract(read_image(path))
        except ImageError as error:
            _LOG.warning("no local features: %s", error)
            return _NO_FEATURES


def open_reranker(features: str, top: int) -> Reranker:
    """`features` are sift, orb or the path of an ONNX file.

    Raises ModelError for a file that is none of local features, ConfigError where there are fewer than `top` answers.
    """
    if top > DEPTH:
        raise ConfigError(f"the first {top} answers cannot be re-ranked: only {DEPTH} are kept")
    config = VerificationConfig() if features in BUILTIN else VerificationConfig(max_ratio=_RATIO_OF_NETWORKS)
    extractor = open_features(features, config.max_features)
    verifier = GeometricVerifier(config, extractor)
    return Reranker(f"{extractor.name} top {top}", f"{extractor.id} top {top}", verifier, top)
