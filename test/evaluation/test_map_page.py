from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from html_pages import check_page
from small_maps import some_keyframes, some_map

from vpr_ros.evaluation.map_page import write_map_page
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.types import KeyframeRef, Thumbnail


def page_of(place_map: PlaceMap, tmp_path: Path) -> str:
    write_map_page(tmp_path / "map.html", place_map, "town")
    html = (tmp_path / "map.html").read_text(encoding="utf-8")
    check_page(html)
    return html


def test_a_page_shows_sessions_paths_pictures_and_connections(tmp_path: Path) -> None:
    place_map = PlaceMap(8)
    jpeg = cv2.imencode(".jpg", np.full((60, 80), 128, np.uint8))[1].tobytes()
    for i, keyframe in enumerate(some_keyframes(30)):
        pose = np.eye(4)
        pose[:2, 3] = i, i % 5
        ref = KeyframeRef("anna", "monday" if i < 20 else "tuesday", i, 10**18 + i * 10**9, "front")
        place_map.add(replace(keyframe, ref=ref, thumbnail=Thumbnail(jpeg, 0.5), odom_from_body=pose))
    names = place_map.names
    for a, b in ((0, 15), (3, 25), (4, 26)):
        place_map.link(names[a], names[b])
    html = page_of(place_map, tmp_path)
    assert "<b>30</b>" in html
    assert html.count("<svg") == 2
    assert "anna: monday" in html
    assert "<td>anna: monday</td><td>anna: tuesday</td><td>2</td>" in html
    assert html.count("data:image/jpeg") == 12 + 10 + 6
    assert "keyframe 3, 2001-09-09 01:46:43, camera front" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    place_map = PlaceMap(8)
    one = some_keyframes(1)[0]
    place_map.add(replace(one, ref=KeyframeRef("<script>", "<i>monday</i>", 0, 1, "<b>")))
    html = page_of(place_map, tmp_path)
    assert "&lt;i&gt;monday" in html
    assert "<i>" not in html


def test_a_map_without_odometry_and_an_empty_one_have_pages(tmp_path: Path) -> None:
    bare = PlaceMap(8)
    for keyframe in some_map(3):
        bare.add(replace(keyframe, odom_from_body=None, thumbnail=None))
    html = page_of(bare, tmp_path)
    assert "No odometry was recorded" in html
    assert html.count("no picture") == 3
    assert "<b>0</b>" in page_of(PlaceMap(8), tmp_path)
