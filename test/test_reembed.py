from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_worlds import EVERY_FRAME, save_grid_model, texture

from vpr_ros import cli
from vpr_ros.bags.writer import BagWriter
from vpr_ros.config import Config
from vpr_ros.engines.backend import Engine
from vpr_ros.engines.describe import describe_image
from vpr_ros.engines.open import open_reference
from vpr_ros.errors import MapError
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.model import PlaceModel
from vpr_ros.reembed import recall_of_closures, reembed
from vpr_ros.replay import replay
from vpr_ros.sources import BagSource
from vpr_ros.types import Keyframe, KeyframeRef

S = 10**9
PLACES = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        for i, place in enumerate(PLACES):
            writer.image("/image", (100 + i) * S, texture(place, 320, 240), "camera")
    return path


@pytest.fixture
def town(bag: Path, tmp_path: Path, grid_model_path: Path) -> Path:
    """Ten keyframes of six places, four closures."""
    config = Config().with_values(EVERY_FRAME | {"model.path": str(grid_model_path)})
    done = replay(BagSource(bag), config, session="monday", map_file=tmp_path / "town.vprmap")
    assert len(done.detector.map.links) == 4
    done.detector.map.close()
    return tmp_path / "town.vprmap"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Of another model."""
    return open_reference(PlaceModel.open(save_grid_model(tmp_path / "other.onnx", cell=16)), 1)


def opened(path: Path, model: PlaceModel) -> PlaceMap:
    return PlaceMap.open(path, model.id, model.dim, recording=False)


def test_a_map_is_described_anew_from_its_pictures(
    town: Path, tmp_path: Path, engine: Engine, grid_model: PlaceModel
) -> None:
    """And says what that costs: grey pictures of half the width here still find all."""
    with pytest.raises(MapError, match=rf"another model .*vpr map reembed {town} NEW"):
        opened(town, engine.model)
    with opened(town, grid_model) as old:
        done = reembed(old, tmp_path / "new.vprmap", engine, gap=0)
        assert (done.keyframes, done.without_picture, done.closures) == (10, 0, 4)
        assert done.recall_before == done.recall_after == 1.0
        with opened(tmp_path / "new.vprmap", engine.model) as new:
            assert new.names == old.names
            assert new.links == old.links
            assert [new.moment(ref) for ref in new.names] == [old.moment(ref) for ref in old.names]
            assert new[new.names[3]].thumbnail == old[old.names[3]].thumbnail


def test_a_recording_describes_it_as_it_would_have_been(
    town: Path, bag: Path, tmp_path: Path, engine: Engine, grid_model: PlaceModel
) -> None:
    with opened(town, grid_model) as old:
        done = reembed(old, tmp_path / "new.vprmap", engine, gap=0, frames=BagSource(bag))
    assert (done.keyframes, done.without_picture) == (10, 0)
    with opened(tmp_path / "new.vprmap", engine.model) as new:
        for frame, keyframe in zip(BagSource(bag), new, strict=True):
            np.testing.assert_allclose(keyframe.descriptor, describe_image(engine, frame.image), atol=1e-6)


def test_what_has_no_picture_is_left_out_and_counted(
    tmp_path: Path, engine: Engine, town: Path, grid_model: PlaceModel
) -> None:
    with opened(town, grid_model) as old:
        mixed, blind = PlaceMap(old.dim), PlaceMap(old.dim)
        for i, keyframe in enumerate(old):
            mixed.add(keyframe if i % 2 else replace(keyframe, thumbnail=None))
            blind.add(replace(keyframe, thumbnail=None))
        for a, b in old.links:
            mixed.link(a, b)
    done = reembed(mixed, tmp_path / "new.vprmap", engine, gap=0)
    assert (done.keyframes, done.without_picture) == (5, 5)
    with pytest.raises(MapError, match="no keyframe can be described"):
        reembed(blind, tmp_path / "none.vprmap", engine, gap=0)
    with pytest.raises(MapError, match="exists"):
        reembed(mixed, tmp_path / "new.vprmap", engine, gap=0)
    assert not (tmp_path / "none.vprmap").exists()


def test_recall_of_closures_counts_places_that_are_found() -> None:
    """Keyframes 0 to 39 are places on a circle; 40 sees place 0 again, 41 sees place 1 but looks like place 9."""
    place_map = PlaceMap(2)

    def add(i: int, place: float) -> KeyframeRef:
        angle = np.radians(9.0 * place)
        ref = KeyframeRef("", "s", i)
        place_map.add(Keyframe(ref, np.array([np.cos(angle), np.sin(angle)], np.float32)))
        return ref

    refs = [add(i, i) for i in range(40)]
    assert recall_of_closures(place_map, [], gap=0) is None
    links = [(refs[0], add(40, 0)), (refs[1], add(41, 9))]
    assert recall_of_closures(place_map, links, gap=0) == 0.5
    assert recall_of_closures(place_map, links, gap=8) == 1.0


def test_the_command(
    town: Path, bag: Path, tmp_path: Path, engine: Engine, grid_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "other.onnx"
    for more in ([], ["--from", str(bag)]):
        new = tmp_path / f"new{len(more)}.vprmap"
        with pytest.raises(SystemExit) as ended:
            cli.main(["map", "reembed", str(town), str(new), "--model", str(model), *more])
        assert not ended.value.code
        said = capsys.readouterr().out
        assert f"10 keyframes in {new}; 0 left out" in said
        assert "recall@1 over the map's own 4 loop closures: 1.000 before, 1.000 now" in said
