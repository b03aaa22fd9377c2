"""What `--on NAME=PATH` opens, and what it says to everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.evaluation.protocols import list_protocols, open_protocol
from vpr_ros.errors import ConfigError, SourceError


def test_aligned_folders(tmp_path: Path, write_images) -> None:
    write_images("map", range(4))
    write_images("query", range(4))
    (part,) = open_protocol(f"aligned={tmp_path}/map,{tmp_path}/query,1").parts
    assert [right.tolist() for right in part.positives] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]


@pytest.mark.parametrize("path", ["map", "map,query", "map,query,near", "a,b,c,1"])
def test_aligned_needs_two_folders_and_a_tolerance(path: str) -> None:
    with pytest.raises(ConfigError, match="is not aligned=MAP_FOLDER,QUERY_FOLDER,TOLERANCE"):
        open_protocol(f"aligned={path}")


def test_loops_know_what_counts_neither_way(tmp_path: Path) -> None:
    """A straight drive of 103 frames; then back beside frame 0: 3 m, 7 m and 3 m to the side."""
    sideways = [0.0] * 103 + [3.0, 7.0, 3.0]
    forward = [6.0 * i for i in range(103)] + [0.0, 6.0, 12.0]
    (tmp_path / "poses").mkdir()
    (tmp_path / "sequences" / "00" / "image_0").mkdir(parents=True)
    rows = [f"1 0 0 {x} 0 1 0 0 0 0 1 {z}" for x, z in zip(sideways, forward, strict=True)]
    (tmp_path / "poses" / "00.txt").write_text("\n".join(rows))
    for i in range(len(rows)):
        (tmp_path / "sequences" / "00" / "image_0" / f"{i:06d}.png").touch()
    (part,) = open_protocol(f"kitti-loops={tmp_path}").parts
    assert part.stop.tolist() == [1, 2, 3, 4, 5]
    assert [right.tolist() for right in part.positives] == [[], [], [0, 1], [], [1, 2, 3]]
    assert [right.tolist() for right in part.borderline] == [[], [], [], [0, 1, 2], []]
    assert all(not np.intersect1d(*pair).size for pair in zip(part.positives, part.borderline, strict=True))


def test_one_scene_of_seven(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"chess/TrainSplit\.txt"):
        open_protocol(f"7-scenes={tmp_path / 'chess'}")


@pytest.mark.parametrize("seeds", ["x", "200,", "-1", "1.5"])
def test_rendered_worlds_have_numbers(seeds: str) -> None:
    with pytest.raises(ConfigError, match=rf"rendered={seeds} is not rendered=SEED,SEED"):
        open_protocol(f"rendered={seeds}")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"there is no protocol 'gardenpoint'; known are gardenspoint, stromovka, "):
        open_protocol("gardenpoint=/data")


@pytest.mark.parametrize("text", ["gardenspoint", "gardenspoint=", "/data/gardenspoint"])
def test_a_name_needs_a_path(text: str) -> None:
    with pytest.raises(ConfigError, match="is not PROTOCOL=PATH, as in gardenspoint=/data/gardenspoint"):
        open_protocol(text)


def test_every_known_protocol_names_the_data_it_misses(tmp_path: Path) -> None:
    lines = list_protocols().splitlines()
    names = [line.partition("=")[0] for line in lines if not line.startswith(" ")]
    assert len(lines) == 2 * len(names)
    assert {"gardenspoint", "msls-val", "msls-val-all", "pitts30k-test", "tokyo247", "kitti-loops"} <= set(names)
    for name in set(names) - {"rendered"}:  # which misses nothing: it draws its data
        path = f"{tmp_path}/a,{tmp_path}/b,1" if name == "aligned" else tmp_path
        with pytest.raises(SourceError, match=str(tmp_path)):
            open_protocol(f"{name}={path}")
