from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import content, write_places

from training.data.image_set import ImageSet
from training.fitting.run import train
from training.fitting.whitening import draw_images, pooled_features, with_projection
from training.models.network_file import load_network, read_metadata
from training.recipe import Recipe
from training.whiten import main
from vpr_ros.errors import ConfigError
from vpr_ros.images import read_image, resize


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network without projection, and the folder that it was trained on."""
    root = tmp_path_factory.mktemp("whiten")
    write_places(root)
    recipe = Recipe.checked(content(root, loop__steps=0, network__dim=None), "tiny")
    return train(recipe, root / "run"), root / "places"


def descriptors(path: Path, folder: Path) -> np.ndarray:
    network = load_network(path)
    images = np.stack([resize(read_image(file), 64, 64) for file in sorted(folder.iterdir())])
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def test_whitening_on_a_map_makes_its_dimensions_alike(trained: tuple[Path, Path], tmp_path: Path) -> None:
    network, folder = trained
    out = tmp_path / "whitened.safetensors"
    main([str(network), str(out), "--on", str(folder), "--dim", "4"])
    before, after = descriptors(network, folder), descriptors(out, folder)
    assert before.shape == (18, 64)
    assert after.shape == (18, 4)

    def spread(values: np.ndarray) -> float:
        variances = np.linalg.eigvalsh(np.cov(values.T))
        return float(variances[-1] / variances[-4])

    assert spread(after) < 2 < spread(before)  # unit length afterwards keeps it from being 1
    assert read_metadata(out)["whitened_on"] == f"18 images of {folder}"
    assert read_metadata(out)["recipe"] == read_metadata(network)["recipe"]


def test_whitening_on_its_training_images_is_what_the_recipe_would_have_done(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    network, folder = trained
    out = tmp_path / "whitened.safetensors"
    main([str(network), str(out), "--on-training-images", "--dim", "4"])
    recipe = Recipe.checked(
        content(folder.parent, loop__steps=0, network__dim=None, whitening={"dim": 4, "images": 18}), "tiny"
    )
    np.testing.assert_allclose(
        descriptors(out, folder), descriptors(train(recipe, tmp_path / "run"), folder), atol=1e-5
    )
    assert read_metadata(out)["whitened_on"] == "18 images that it was trained on"
    with pytest.raises(ConfigError, match=r"whitening.dim is for a network without a projection"):
        Recipe.checked(content(folder.parent, whitening={"dim": 4}), "tiny")


def test_leading_dimensions_are_a_smaller_whitening(trained: tuple[Path, Path], tmp_path: Path) -> None:
    network, folder = trained
    four, two, kept = (tmp_path / f"{name}.safetensors" for name in ("four", "two", "kept"))
    main([str(network), str(four), "--on", str(folder), "--dim", "4"])
    main([str(network), str(two), "--on", str(folder), "--dim", "2"])
    main([str(four), str(kept), "--keep", "2"])
    np.testing.assert_allclose(descriptors(kept, folder), descriptors(two, folder), atol=1e-5)
    assert read_metadata(kept)["whitened_on"] == read_metadata(four)["whitened_on"]
    with pytest.raises(SystemExit, match="no 9 projected dimensions to keep: it has 4"):
        main([str(four), str(tmp_path / "nine.safetensors"), "--keep", "9"])


def test_the_features_stay_what_they_were(trained: tuple[Path, Path]) -> None:
    network = load_network(trained[0])
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    torch.testing.assert_close(with_projection(network, 3).pooled(image), network.pooled(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "/nowhere", "--dim", "4"], "/nowhere: No such file"),
        (["--on", "PLACES"], "no projection to whiten: set network.dim"),
        (["--on", "PLACES", "--dim", "18"], "18"),
    ],
)
def test_mistakes_are_named(trained: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str) -> None:
    arguments = [str(trained[1]) if text == "PLACES" else text for text in arguments]
    with pytest.raises(SystemExit, match=message):
        main([str(trained[0]), str(tmp_path / "out.safetensors"), *arguments])
    assert not (tmp_path / "out.safetensors").exists()


def test_images_are_drawn_by_share() -> None:
    from scipy.sparse import csr_array

    from training.data.source import Source

    def source(name: str, count: int, share: float) -> Source:
        images = ImageSet.of(name, [Path(f"{name}{i}.jpg") for i in range(count)])
        return Source(images, csr_array((count, count), dtype=np.float32), share)

    sources = [source("a", 100, 3.0), source("b", 100, 1.0), source("c", 5, 4.0)]
    drawn = draw_images(sources, 40, seed=0)
    assert [np.count_nonzero(drawn.sequences == name) for name in ("a", "b", "c")] == [15, 5, 5]
    assert len(set(drawn.paths)) == 25


def test_an_unreadable_image_is_left_out(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    paths = sorted(trained[1].iterdir())[:3]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    network = load_network(trained[0])
    assert len(pooled_features(network, ImageSet.of("set", [*paths, broken]))) == 3
