from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.export import export, load_network, parity
from training.models.place_network import PlaceNetwork
from training.models.pooling import GeM
from vpr_ros.errors import ModelError


@pytest.fixture(scope="module")
def network() -> PlaceNetwork:
    torch.manual_seed(0)
    net = PlaceNetwork(dim=32)
    with torch.no_grad():
        net.pool.p.fill_(2.2)  # an exporter that loses the learnt power shows
    return net.eval()


def test_gem_against_the_formula() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    pool = GeM(p=2.5).double()
    expected = [[float(np.mean(np.array(x[n, c]) ** 2.5) ** (1 / 2.5)) for c in range(3)] for n in range(2)]
    np.testing.assert_allclose(pool(x).detach().numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(GeM(p=1.0).double()(x).detach().numpy(), x.mean(dim=(-2, -1)).numpy(), rtol=1e-6)


def test_descriptors_have_unit_length_and_are_one_per_image(network: PlaceNetwork) -> None:
    images = torch.randint(0, 256, (3, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    assert together.shape == (3, 32)
    np.testing.assert_allclose(together.norm(dim=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_batch_normalisation_stays_as_it_was(network: PlaceNetwork) -> None:
    before = network.backbone.features[0][1].running_mean.clone()
    network.train()
    network(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    network.eval()
    assert torch.equal(before, network.backbone.features[0][1].running_mean)


def test_whitening_whitens() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy((rng.normal(size=(400, 1280)) * rng.uniform(0.1, 2, 1280)).astype(np.float32) + 0.3)
    network = PlaceNetwork(dim=16)
    network.whiten(features, 0.5)
    white = network.projection(features).detach().numpy()
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(16), atol=1e-2)
    with pytest.raises(ValueError, match="at least 16 images"):
        network.whiten(features[:10], 0.5)


def test_the_exported_model_equals_torch(network: PlaceNetwork, tmp_path: Path) -> None:
    model = export(network, tmp_path / "model.onnx", width=96, height=64, metadata={"name": "tiny", "recipe": "{}"})
    assert (model.name, model.width, model.height, model.dim) == ("tiny", 96, 64, 32)
    images = torch.randint(0, 256, (5, 64, 96, 3), dtype=torch.uint8)
    assert parity(network, model, images) > 0.9999


def test_an_export_that_differs_is_refused_and_leaves_no_file(
    network: PlaceNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.export.parity", lambda *_: 0.47)
    with pytest.raises(ModelError, match=r"differs from torch: cosine 0\.47"):
        export(network, tmp_path / "model.onnx", width=96, height=64, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ModelError, match="not a checkpoint"):
        load_network(path)
    torch.save({"something": 1}, path)
    with pytest.raises(ModelError, match="not a checkpoint"):
        load_network(path)
    path.write_bytes(b"not torch")
    with pytest.raises(ModelError, match="not a checkpoint"):
        load_network(path)
