"""Cluster centres are found once, of what may be looked at, and found again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from tiny_training import LABEL_MAPS, content, write_label_maps, write_places
from torch import Tensor

from training.catalog import open_sources
from training.cluster import main
from training.data.batches import readable_batches
from training.data.feature_masks import to_target
from training.data.source import Source
from training.fitting import clusters
from training.fitting.clusters import initialise
from training.models.netvlad import NetVLADPooling, sample_local_descriptors
from training.models.place_network import PlaceNetwork
from training.recipe import Recipe
from vpr_ros.errors import ConfigError

torch.set_num_threads(1)  # the networks are tiny
DEATTENTION = {"network__attention": {"kind": "deattention"}, "guidance": {"categories": ["sky"]}}
CARS = DEATTENTION | {"guidance": {"categories": ["vehicle"]}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_label_maps(write_places(tmp_path))


def plain(data: Path, **changes: Any) -> dict[str, Any]:
    made = content(data, **{"network__pool": {"kind": "netvlad", "clusters": 3}, "network__dim": None, **changes})
    made["sources"][0]["label_maps"] = LABEL_MAPS
    return made


def opened(data: Path, **changes: Any) -> tuple[PlaceNetwork, Recipe, list[Source]]:
    recipe = Recipe.checked(plain(data, **changes), "tiny")
    torch.manual_seed(0)
    return PlaceNetwork(recipe.network), recipe, open_sources(recipe.sources, recipe.data_root, recipe.cache)


def files(data: Path) -> list[Path]:
    return sorted((data / "cache" / "clusters").iterdir())


def same(one: PlaceNetwork, other: PlaceNetwork) -> bool:
    return all(torch.equal(tensor, other.pool.state_dict()[name]) for name, tensor in one.pool.state_dict().items())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The local descriptors that clusters were found with, whenever they are found rather than read."""
    all_locals: list[Tensor] = []
    original = NetVLADPooling.initialise

    def recorded(self: NetVLADPooling, local_descriptors: Tensor, seed: int = 0) -> None:
        all_locals.append(local_descriptors)
        original(self, local_descriptors, seed)

    monkeypatch.setattr(NetVLADPooling, "initialise", recorded)
    return all_locals


# --- once -------------------------------------------------------------------------------------------------------------


def test_clusters_are_those_of_the_local_descriptors(data: Path) -> None:
    network, recipe, sources = opened(data)
    expected, _, _ = opened(data)
    batches = readable_batches(sources[0].images, recipe.network, 0)
    with torch.no_grad():
        locals_ = sample_local_descriptors(expected.eval().features(batch) for batch in batches)
    assert isinstance(expected.pool, NetVLADPooling)
    expected.pool.initialise(locals_)
    assert not same(network, expected)
    initialise(network, recipe, sources)
    assert same(network, expected)
    assert network.training


def test_they_are_found_once(data: Path, found: list[Tensor]) -> None:
    (first, recipe, sources), (second, _, _) = opened(data), opened(data)
    assert initialise(first, recipe, sources) == initialise(second, recipe, sources)
    assert len(found) == len(files(data)) == 1
    assert same(first, second)


def test_training_draws_the_same_numbers_whether_they_were_found_or_read(data: Path, found: list[Tensor]) -> None:
    drawn = []
    for _ in range(2):
        initialise(*opened(data))
        drawn.append(torch.rand(3))
    assert len(found) == 1
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"network__width": 96},
        {"network__pool": {"kind": "netvlad", "clusters": 4}},
        {"network__backbone__last_block": "layer2"},
        {"network__input": {"kind": "semantic"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_network_or_seed_has_other_clusters(data: Path, changes: dict[str, Any]) -> None:
    initialise(*opened(data))
    initialise(*opened(data, **changes))
    assert len(files(data)) == 2


def test_other_weights_images_guidance_or_version_have_other_clusters(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, recipe, sources = opened(data)
    torch.manual_seed(1)
    others = PlaceNetwork(recipe.network)
    fewer = dataclasses.replace(sources[0], images=sources[0].images.take(range(10)))
    initialise(network, recipe, sources)
    initialise(others, recipe, sources)
    initialise(network, recipe, [fewer])
    initialise(*opened(data, **DEATTENTION))
    initialise(*opened(data, **CARS))
    assert len(files(data)) == 5
    monkeypatch.setattr(clusters, "_VERSION", 0)
    initialise(network, recipe, sources)
    assert len(files(data)) == 6


def test_what_changes_no_cluster_finds_the_file(data: Path, found: list[Tensor]) -> None:
    initialise(*opened(data, **CARS))
    other = {"network__backbone__train_from": "layer1", "network__dim": 5, "loop__steps": 9}
    initialise(*opened(data, **CARS | other | {"guidance": {**CARS["guidance"], "loss": "bce", "weight": 3.0}}))
    assert len(found) == 1
    initialise(*opened(data))
    initialise(*opened(data, network__attention={"kind": "bam"}))
    assert len(found) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        lambda good: b"",
        lambda good: b"no safetensors",
        lambda good: good[:-10],
        lambda good: save({"centres": torch.zeros(3, 64)}),
        lambda good: good.replace(b"centres", b"centers"),
    ],
    ids=["empty", "text", "cut", "no key", "other names"],
)
def test_a_damaged_or_foreign_file_is_found_again(
    data: Path, found: list[Tensor], caplog: pytest.LogCaptureFixture, damaged: Any
) -> None:
    good, again = opened(data), opened(data)
    file = initialise(*good)
    assert file is not None
    file.write_bytes(damaged(file.read_bytes()))
    initialise(*again)
    assert len(found) == 2
    assert same(good[0], again[0])
    (warning,) = caplog.messages
    assert f"{file} is damaged" in warning
    assert "\n" not in warning
    initialise(*opened(data))
    assert len(found) == 2


def test_clusters_of_something_else_are_not_taken(
    data: Path, found: list[Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    guided, bare = initialise(*opened(data, **CARS)), initialise(*opened(data))
    assert guided is not None
    assert bare is not None
    bare.write_bytes(guided.read_bytes())
    initialise(*opened(data))
    assert len(found) == 3
    assert "its clusters were made of something else" in caplog.text


def test_other_poolings_need_nothing(data: Path) -> None:
    assert initialise(*opened(data, network__pool={"kind": "gem"})) is None
    assert not (data / "cache" / "clusters").exists()


# --- with guidance ----------------------------------------------------------------------------------------------------


def rows(locals_: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in locals_.tolist()}


def test_what_guidance_ignores_has_no_cluster(data: Path, found: list[Tensor]) -> None:
    """One image and one label map cannot be read: those after them still go together."""
    network, recipe, sources = opened(data, **CARS)
    images = sources[0].images
    assert images.label_maps is not None
    images.paths[0].write_bytes(b"no image")
    images.label_maps.paths[1].write_bytes(b"no label map")
    initialise(network, recipe, sources)
    assert recipe.guidance is not None
    stored = recipe.guidance.precompute(images, *network.backbone.size)[1:]  # of the images that can be read
    shares = to_target(torch.from_numpy(stored))
    batch = torch.cat(list(readable_batches(images, recipe.network, 0)))
    with torch.no_grad():
        maps = network.eval().features(batch).permute(0, 2, 3, 1)
    allowed, ignored = rows(maps[shares >= 0.5]), rows(maps[shares < 0.5])
    assert ignored - allowed
    assert rows(found[0]) <= allowed
    assert len(found[0]) > 1000


def test_only_sources_with_label_maps_are_drawn_from(data: Path, found: list[Tensor]) -> None:
    network, recipe, (source,) = opened(data, **CARS)
    bare = dataclasses.replace(source, images=dataclasses.replace(source.images, label_maps=None))
    assert initialise(network, recipe, [source, bare]) == initialise(network, recipe, [source])
    assert len(found) == 1
    with pytest.raises(ConfigError, match="guidance needs label maps: give a source label_maps"):
        initialise(network, recipe, [bare])


def test_positions_that_are_nan_are_never_drawn() -> None:
    maps = torch.arange(600.0).reshape(1, 1, 20, 30).repeat(3, 1, 1, 1)
    maps[1, :, 10:] = torch.nan
    maps[2] = torch.nan
    found = sample_local_descriptors([maps], per_image=100, seed=0)[:, 0]
    assert not found.isnan().any()
    assert len(found[:100].unique()) == 100
    assert found[:100].max() >= 300
    assert 80 <= len(found) - 100 <= 100  # about half of the 200 that are tried
    assert found[100:].max() < 300


# --- the command ------------------------------------------------------------------------------------------------------


def write_recipe(data: Path, **changes: Any) -> str:
    path = data / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain(data, **changes)))
    return str(path)


def test_the_command_finds_what_training_begins_with(
    data: Path, found: list[Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "out.safetensors"
    main([write_recipe(data), "network.pool.clusters=4", "--out", str(out)])
    network, recipe, sources = opened(data, network__pool={"kind": "netvlad", "clusters": 4})
    initialise(network, recipe, sources)
    assert len(found) == 1
    assert isinstance(network.pool, NetVLADPooling)
    assert torch.equal(load_file(out)["centres"], network.pool.centres)
    assert f"4 clusters in {out}" in capsys.readouterr().out


def test_the_command_says_where_the_file_is(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([write_recipe(data)])
    (file,) = files(data)
    assert f"3 clusters in {file}" in capsys.readouterr().out


def test_the_command_refuses_what_has_no_clusters(data: Path) -> None:
    for changes in ({"network__pool": {"kind": "gem"}}, {"start": str(data / "network.safetensors")}):
        with pytest.raises(SystemExit, match=r"cluster: .*recipe\.yaml begins with no clusters"):
            main([write_recipe(data, **changes)])


def test_without_a_readable_image_there_are_no_clusters(data: Path) -> None:
    for path in (data / "places").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(SystemExit, match="cluster: no readable image to find the clusters"):
        main([write_recipe(data)])
