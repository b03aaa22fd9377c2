from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.data.classes import NO_CLUSTER
from training.models.encoding import WeightedOneHot, widen
from training.models.place_network import NetworkOptions, PlaceNetwork


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 2), min_size=1, max_size=8))
def test_one_hot_is_that_of_a_loop(seed: int, weights: list[float]) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.choice([*range(len(weights)), NO_CLUSTER], (2, 3, 4)).astype(np.uint8)
    expected = np.zeros((2, len(weights), 3, 4), np.float32)
    for n, y, x in np.ndindex(2, 3, 4):
        if clusters[n, y, x] != NO_CLUSTER:
            expected[n, clusters[n, y, x], y, x] = weights[clusters[n, y, x]]
    found = WeightedOneHot(weights)(torch.from_numpy(clusters))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_widened_network_sees_a_painted_label_map() -> None:
    """Each cluster is a colour: the new convolution of one-hot maps is the old one of the painted image."""
    old = nn.Conv2d(3, 4, 3, padding=1)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), nn.Conv2d(4, 2, 1))
    network[0][0].load_state_dict(old.state_dict())
    widen(network, 5)
    assert network[0][0].weight.shape == (4, 5, 3, 3)
    assert network[1].weight.shape == (2, 4, 1, 1)
    clusters = torch.randint(0, 5, (1, 6, 7), dtype=torch.uint8)
    colours = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    painted = colours[clusters.int()].permute(0, 3, 1, 2)
    torch.testing.assert_close(network[0](WeightedOneHot([1.0] * 5)(clusters)), old(painted))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "timm/test_vit"])
def test_a_teacher_takes_label_maps_and_differs_in_its_first_layer_only(backbone: str) -> None:
    plain = {"width": 64, "height": 64, "backbone": {"name": backbone, "weights": "none"}, "dim": 8}
    student = PlaceNetwork(NetworkOptions.model_validate(plain))
    teacher = PlaceNetwork(NetworkOptions.model_validate({**plain, "input": {"kind": "semantic"}})).eval()
    with torch.no_grad():
        described = teacher(torch.randint(0, 6, (2, 64, 64), dtype=torch.uint8))
    assert described.shape == (2, 8)
    shapes = [{k: v.shape for k, v in net.named_parameters()} for net in (student, teacher)]
    assert shapes[0].keys() == shapes[1].keys()
    (first,) = [name for name in shapes[0] if shapes[0][name] != shapes[1][name]]
    assert shapes[0][first][1] == 3
    assert shapes[1][first][1] == 6
