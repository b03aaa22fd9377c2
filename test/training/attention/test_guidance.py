from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from training.attention.guidance import Guidance
from training.data.classes import read_table
from training.data.feature_masks import IGNORE, KEEP, LARGEST_SHARE, UNKNOWN, at_features, to_target
from training.data.image_set import ImageSet, LabelMaps
from vpr_ros.errors import ConfigError, SourceError

laws = settings(deadline=None, max_examples=50)
sides = st.integers(1, 40)
SKY, BUILDING, CAR, VOID = 0, 1, 8, 11
STREET = np.array([[SKY, SKY, BUILDING], [CAR, VOID, BUILDING]], np.uint8)


def street(folder: Path, *label_maps: Any, table: str = "camvid") -> ImageSet:
    """Images that are never read, with these label maps; bytes are written as they are."""
    paths = [folder / f"{number}.png" for number in range(len(label_maps))]
    for path, label_map in zip(paths, label_maps, strict=True):
        if isinstance(label_map, bytes):
            path.write_bytes(label_map)
        else:
            cv2.imwrite(str(path), label_map)
    return ImageSet.of("street", paths, label_maps=LabelMaps.of(paths, read_table(table)))


# --- masks ------------------------------------------------------------------------------------------------------------


def test_what_is_of_the_categories_is_ignored(tmp_path: Path) -> None:
    images = street(tmp_path, STREET)
    expected = [[IGNORE, IGNORE, KEEP], [IGNORE, KEEP, KEEP]]
    assert Guidance().mask(images, 0).tolist() == expected
    assert Guidance(categories=("building",)).mask(images, 0).tolist() == [[KEEP, KEEP, IGNORE], [KEEP, KEEP, IGNORE]]
    assert Guidance().mask(images, 0).dtype == np.uint8


def test_each_label_map_is_read_with_its_own_table(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ids = np.array([[0, 10]], np.uint8)
    both = ImageSet.union("both", [street(tmp_path / "a", ids), street(tmp_path / "b", ids, table="cityscapes")])
    sky = Guidance(categories=("sky",))
    assert [sky.mask(both, i).tolist() for i in (0, 1)] == [[[IGNORE, KEEP]], [[KEEP, IGNORE]]]


def test_what_cannot_guide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="street has no label maps: give its source label_maps"):
        Guidance().mask(ImageSet.of("street", [Path("0.jpg")]), 0)
    with pytest.raises(ConfigError, match="no class or category 'animal'; it has"):
        Guidance(categories=("sky", "animal")).mask(street(tmp_path, STREET), 0)
    with pytest.raises(SourceError, match=r"0\.png holds class id 99, which the table has not"):
        Guidance().mask(street(tmp_path, np.full((2, 2), 99, np.uint8)), 0)


@laws
@given(st.data(), sides, sides)
def test_a_position_keeps_the_share_of_its_area(data: st.DataObject, height: int, width: int) -> None:
    cell = data.draw(st.integers(1, 8))
    pixels = st.sampled_from([KEEP, IGNORE])
    mask = data.draw(arrays(np.uint8, (cell * height, cell * width), elements=pixels))
    expected = (mask == KEEP).reshape(height, cell, width, cell).mean(axis=(1, 3))
    np.testing.assert_allclose(at_features(mask, height, width), expected, atol=1e-5)


@laws
@given(arrays(np.uint8, st.tuples(sides, sides), elements=st.sampled_from([KEEP, IGNORE])), sides, sides)
def test_shares_stay_within_0_and_1_at_any_size(mask: np.ndarray, height: int, width: int) -> None:
    found = at_features(mask, height, width)
    assert found.shape == (height, width)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(at_features(np.full_like(mask, KEEP), height, width), 1, atol=1e-6)


# --- for training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_stored_as_bytes_and_read_as_shares(tmp_path: Path, workers: int) -> None:
    images = street(tmp_path, STREET.repeat(4, 0).repeat(4, 1), np.full((4, 6), CAR, np.uint8), b"no image")
    stored = Guidance().precompute(images, 2, 3, workers)
    assert stored.dtype == np.uint8
    assert stored.tolist() == [
        [[0, 0, LARGEST_SHARE], [0, LARGEST_SHARE, LARGEST_SHARE]],
        [[0, 0, 0], [0, 0, 0]],
        [[UNKNOWN] * 3] * 2,
    ]
    found = to_target(torch.from_numpy(stored))
    assert found.dtype == torch.float32
    assert found[:2].tolist() == [[[0, 0, 1], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]]]
    assert found[2].isnan().all()


def test_half_a_position_is_about_a_half(tmp_path: Path) -> None:
    stored = Guidance().precompute(street(tmp_path, np.array([[SKY, BUILDING]], np.uint8)), 1, 1)
    assert to_target(torch.from_numpy(stored)).item() == pytest.approx(0.5, abs=0.5 / LARGEST_SHARE)


def test_a_label_map_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Guidance().precompute(street(tmp_path, STREET, b"no image"), 1, 1)
    (warning,) = caplog.messages
    assert "1.png" in warning
    assert "its image guides nothing" in warning


def test_of_a_set_without_label_maps_nothing_is_known() -> None:
    stored = Guidance().precompute(ImageSet.of("bare", [Path("0.jpg"), Path("1.jpg")]), 2, 3)
    assert stored.shape == (2, 2, 3)
    assert (stored == UNKNOWN).all()


def test_a_wrong_table_is_no_missing_label_map(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds class id 99"):
        Guidance().precompute(street(tmp_path, STREET, np.full((2, 2), 99, np.uint8)), 1, 1)


losses = pytest.mark.parametrize("loss", ["mse", "bce"])


@losses
def test_loss_is_the_mean_over_known_positions(loss: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    predicted, target = torch.rand(3, 1, 4, 5, generator=rng), torch.rand(3, 4, 5, generator=rng)
    target[0] = torch.nan
    target[1, :2] = torch.nan
    compare = functional.mse_loss if loss == "mse" else functional.binary_cross_entropy
    pairs = [
        compare(predicted[i, 0, y, x], target[i, y, x])
        for i, y, x in np.ndindex(3, 4, 5)
        if not target[i, y, x].isnan()
    ]
    assert len(pairs) == 30
    torch.testing.assert_close(Guidance(loss=loss).loss_of(predicted, target), torch.stack(pairs).mean())


@losses
def test_what_is_unknown_has_no_gradient(loss: Any) -> None:
    predicted = torch.full((2, 1, 2, 2), 0.3, requires_grad=True)
    target = torch.tensor([[[1.0, 1.0], [1.0, torch.nan]], [[torch.nan] * 2] * 2])
    Guidance(loss=loss).loss_of(predicted, target).backward()
    assert predicted.grad is not None
    assert (predicted.grad[0, 0] < 0).tolist() == [[True, True], [True, False]]
    assert not predicted.grad[0, 0, 1, 1]
    assert not predicted.grad[1].any()
    nothing = Guidance(loss=loss).loss_of(predicted, torch.full((2, 2, 2), torch.nan))
    nothing.backward()
    assert nothing.item() == 0


@losses
def test_loss_is_finite_for_a_sure_mask_also_in_mixed_precision(loss: Any) -> None:
    predicted = torch.tensor([0.0, 1.0], dtype=torch.bfloat16).reshape(1, 1, 1, 2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = Guidance(loss=loss).loss_of(predicted, torch.tensor([[[1.0, 0.0]]]))
    found.backward()
    assert found.dtype == torch.float32
    assert found.isfinite()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


# --- options ----------------------------------------------------------------------------------------------------------


def test_the_weight_changes_at_its_step() -> None:
    guidance = Guidance(weight=0.1, weight_after=0.001, after_steps=5)
    assert [guidance.weight_at(step) for step in (0, 4, 5, 6)] == [0.1, 0.1, 0.001, 0.001]
    assert [Guidance().weight_at(step) for step in (0, 10**6)] == [0.1, 0.1]


@pytest.mark.parametrize("half", [{"weight_after": 0.001}, {"after_steps": 5}])
def test_half_a_schedule_is_refused(half: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: .*weight_after and after_steps go together"):
        Guidance.checked(half, "recipe.yaml")


def test_guidance_that_ignores_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="categories"):
        Guidance.checked({"categories": []}, "recipe.yaml")
