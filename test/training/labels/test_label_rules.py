from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from training.data.image_set import ImageSet
from training.labels.field_of_view import FieldOfView
from training.labels.rules import Clips, Distance, LabelRule, SamePlace
from training.labels.surface_overlap import SurfaceOverlap
from vpr_ros.errors import SourceError

NAN = np.nan


def images(count: int, **known: object) -> ImageSet:
    return ImageSet.of("town", [Path(f"{i}.jpg") for i in range(count)], **known)  # type: ignore[arg-type]


def test_same_place() -> None:
    matrix = SamePlace().similarity(images(4, places=[7, 0, 7, 7]))
    np.testing.assert_array_equal(matrix.toarray(), [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]])


def test_a_clip_knows_only_what_it_does_not_show() -> None:
    matrix = Clips().similarity(images(4, sequences=["b", "a", "b", "c"]))
    np.testing.assert_array_equal(matrix.toarray(), [[0, 0, NAN, 0], [0, 0, 0, 0], [NAN, 0, 0, 0], [0, 0, 0, 0]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_groups_are_compared_as_a_loop_would(groups: list[int]) -> None:
    expected = [[float(i != j and a == b) for j, b in enumerate(groups)] for i, a in enumerate(groups)]
    same = SamePlace().similarity(images(len(groups), places=groups))
    clips = Clips().similarity(images(len(groups), sequences=[str(group) for group in groups]))
    np.testing.assert_array_equal(same.toarray(), expected)
    np.testing.assert_array_equal(np.isnan(clips.toarray()), expected)
    for matrix in (same, clips):
        assert matrix.nnz == np.sum(expected)
        assert matrix.dtype == np.float32
        assert matrix.has_sorted_indices


def test_distance_is_unknown_between_its_radii() -> None:
    along = [0.0, 10.0, 10.5, 35.0, 35.6]
    matrix = Distance().similarity(images(5, positions_m=[[x, 0.0] for x in along]))
    np.testing.assert_array_equal(
        matrix.toarray(),
        [
            [0, 1, NAN, 0, 0],
            [1, 0, 1, NAN, 0],
            [NAN, 1, 0, NAN, 0],
            [0, NAN, NAN, 0, 1],
            [0, 0, 0, 1, 0],
        ],
    )
    assert matrix.dtype == np.float32


def test_distance_with_a_gate_asks_for_the_same_view() -> None:
    town = images(3, positions_m=np.zeros((3, 2)), headings_rad=np.radians([0.0, 40.0, -175.0]))
    assert Distance(max_heading_deg=40.0).similarity(town).toarray()[0].tolist() == [0, 1, 0]
    assert Distance().similarity(town).toarray()[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (SamePlace(), "town: 2 of 2 images have no place"),
        (Distance(), "town: 2 of 2 images have no position"),
        (FieldOfView(), "town: 2 of 2 images have no position"),
        (SurfaceOverlap(), "town: has no depth images; choose another label rule"),
    ],
)
def test_a_set_that_lacks_what_the_rule_needs_is_refused(rule: SamePlace, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        rule.similarity(images(2))


def test_a_gate_without_headings_is_refused() -> None:
    town = images(2, positions_m=np.zeros((2, 2)))
    with pytest.raises(SourceError, match="town: 2 of 2 images have no heading"):
        Distance(max_heading_deg=40.0).similarity(town)
    assert Distance().similarity(town)[0, 1] == 1.0


def test_a_negative_radius_below_the_positive_one_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"negative_m \(5\) must not be below positive_m \(10\)"):
        Distance(negative_m=5.0)


def test_a_recipe_chooses_a_rule_by_its_kind() -> None:
    adapter = TypeAdapter(LabelRule)
    rules = [FieldOfView(), SurfaceOverlap(), Distance(), SamePlace(), Clips()]
    assert [adapter.validate_python({"kind": rule.kind}) for rule in rules] == rules
    with pytest.raises(ValidationError, match="field_of_view"):
        adapter.validate_python({"kind": "graded"})
