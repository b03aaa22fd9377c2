"""Verifies a frame against the keyframes of a place: by local features that count, and those of keyframes kept for the next time."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache

from vpr_ros.config import Config
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.recognition.grey import both, stretched
from vpr_ros.recognition.ignored_regions import IgnoredRegions
from vpr_ros.recognition.matching import Island
from vpr_ros.recognition.static_region import StaticRegion
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import Candidate, Frame, KeyframeRef, LocalFeatures, Mask, Thumbnail, Verification

FEATURE_CACHE = 256
"""Keyframes whose local features are kept: a lap along an old one meets the same few again and again."""
MOST_UNSEEN = 64
NOTABLE_SHARE = 0.03
"""Of a picture that never changes. On a straight road about 0.01 does not, about the vanishing point."""


class PlaceVerifier:
    """Knows where in each camera's picture local features count: not where the user ignores it, nor where it never changes."""

    def __init__(self, config: Config, place_map: PlaceMap) -> None:
        """Raises ConfigError."""
        self._map = place_map
        self.unseen: deque[KeyframeRef] = deque(maxlen=MOST_UNSEEN)
        """Keyframes that could not be verified because the map has no picture of them, newest last; whoever can get some takes them out."""
        self._static_regions: dict[str, StaticRegion] = defaultdict(StaticRegion)
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """What was learnt of the pictures stays. Raises ConfigError, and changes nothing."""
        ignored = IgnoredRegions(config.verification.ignore, config.node.camera_names)
        verifier = GeometricVerifier(config.verification)
        self._config, self._ignored, self._verifier = config.verification, ignored, verifier
        self._features_of = _features_of_keyframes(self._map, verifier)

    def require_fitting_masks(self, frames: Iterable[Frame]) -> None:
        """Raises ConfigError for a frame that the ignored regions of its camera do not fit."""
        for frame in frames:
            self._ignored.mask(frame.camera_name, *frame.image.shape[1::-1])

    def nearest_view(self, frame: Frame, place: Island) -> tuple[Candidate, Verification]:
        """The candidate of the place with the most inliers: the nearest view, not only a view of the same street."""
        features = self._verifier.extract(frame.image, self._counted(frame))
        results = []
        for candidate in place.candidates[: self._config.max_candidates]:
            keyframe = self._map[candidate.keyframe]
            if keyframe.thumbnail is None:
                self.unseen.append(keyframe.ref)
                results.append((candidate, Verification(inliers=0, inlier_ratio=0.0, coverage=0.0)))
                continue
            seen = self._features_of(keyframe.ref)
            results.append((candidate, self._verifier.count_inliers(features, frame.camera, seen, keyframe.camera)))
        nearest, verification = max(results, key=lambda result: result[1].inliers)
        return nearest, self._verifier.with_pose(verification)

    def thumbnail(self, frame: Frame) -> Thumbnail | None:
        """What the map keeps of a keyframe to verify it later, and what its picture teaches; None where nothing is verified."""
        if not self._config.enabled:
            return None
        grey, scale = self._verifier.shrink(frame.image)
        if self._config.learn_static:
            self._static_regions[frame.camera_name].observe(stretched(grey))
        return self._verifier.encode(grey, scale, self._counted(frame))

    @property
    def static_shares(self) -> dict[str, float]:
        """How much of each camera's picture was learnt never to change while the robot moves, from 0 to 1."""
        return {camera: region.share for camera, region in list(self._static_regions.items())}  # another thread may ask

    @property
    def notes(self) -> list[str]:
        """Sentences for people about what was learnt from the drive."""
        return [
            f"{share:.0%} of the picture{f' of camera {camera}' if camera else ''} does not change while the robot moves (its "
            "own body?): local features there are ignored"
            for camera, share in self.static_shares.items()
            if share >= NOTABLE_SHARE
        ]

    def _counted(self, frame: Frame) -> Mask | None:
        ignored = self._ignored.mask(frame.camera_name, *frame.image.shape[1::-1])
        static = self._static_regions[frame.camera_name].mask if self._config.learn_static else None
        return both(ignored, static)


def _features_of_keyframes(place_map: PlaceMap, verifier: GeometricVerifier) -> Callable[[KeyframeRef], LocalFeatures]:
    """Of keyframes with a picture. Extracts when first needed, and keeps: most keyframes never are, and extraction costs more than inference.

    Bound to nobody: a cache of a method would keep its owner, and with it a map that was replaced, until the garbage collector runs.
    """

    @lru_cache(FEATURE_CACHE)
    def features_of(ref: KeyframeRef) -> LocalFeatures:
        return verifier.extract(place_map[ref].thumbnail or Thumbnail(b"", 1.0))

    return features_of
