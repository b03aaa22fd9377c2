from __future__ import annotations

import numpy as np
import pytest
from small_fleets import a_keyframe
from small_worlds import texture

from vpr_ros.config import Config
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.recognition.matching import Island
from vpr_ros.recognition.place_verifier import PlaceVerifier
from vpr_ros.recognition.verification import GeometricVerifier
from vpr_ros.types import Candidate, Frame

IMAGE = np.ascontiguousarray(texture(3, 320, 240))


def test_a_picture_that_comes_later_is_looked_at() -> None:
    """Of another robot: what was found without it must not be kept. Until then it is noted as unseen."""
    place_map = PlaceMap(8)
    keyframes = [a_keyframe("r2", "s", id, 8) for id in (1, 2)]
    for keyframe in keyframes:
        place_map.add(keyframe)
    verifier = PlaceVerifier(Config(), place_map)
    island = Island(tuple(Candidate(keyframe.ref, 0.9) for keyframe in keyframes))
    frame = Frame(0, IMAGE)
    for _ in range(2):
        _, found = verifier.nearest_view(frame, island)
        assert (found.inliers, found.match_from_query) == (0, None)
    assert list(verifier.unseen) == [keyframe.ref for keyframe in keyframes] * 2
    verifier.unseen.clear()
    thumbnail = GeometricVerifier(Config().verification).thumbnail(IMAGE)
    place_map.add_thumbnail(keyframes[1].ref, thumbnail)
    nearest, found = verifier.nearest_view(frame, island)
    assert nearest.keyframe == keyframes[1].ref
    assert found.inliers > 100
    assert list(verifier.unseen) == [keyframes[0].ref]
    place_map.add_thumbnail(keyframes[0].ref, thumbnail)
    _, again = verifier.nearest_view(frame, island)
    assert again.inliers == pytest.approx(found.inliers, abs=20)
    assert len(verifier.unseen) == 1
