"""The protocols that `--on NAME=PATH` knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data.protocol import RetrievalProtocol
from training.data.readers.db_struct import pitts30k_test, pitts30k_val, pitts250k_test, pitts250k_val, tokyo247
from training.data.readers.folders import aligned, gardenspoint, stromovka
from training.data.readers.kitti import kitti_loops
from training.data.readers.msls import msls_val_all, msls_val_official
from training.data.readers.nordland import nordland_2760, nordland_27592
from training.data.readers.rendered import RENDERED_CACHE, rendered_worlds
from training.data.readers.robotcar_seasons import robotcar_seasons
from training.data.readers.seven_scenes import seven_scenes
from training.data.readers.utm_folder import utm_folder
from vpr_ros.errors import ConfigError
from vpr_ros.files import expanded


@dataclass(frozen=True, slots=True)
class _Known:
    """`read` makes the protocol of a PATH, `path` says what that is, `rule` who asks whom and what is right."""

    read: Callable[[Path], RetrievalProtocol]
    path: str
    rule: str


def _aligned(path: Path) -> RetrievalProtocol:
    *folders, tolerance = str(path).split(",")
    if len(folders) != 2 or not tolerance.isdigit():
        raise ConfigError(f"aligned={path} is not aligned=MAP_FOLDER,QUERY_FOLDER,TOLERANCE")
    return aligned(Path(folders[0]), Path(folders[1]), int(tolerance))


def _rendered(path: Path) -> RetrievalProtocol:
    seeds = str(path).split(",")
    if not all(seed.isdigit() for seed in seeds):
        raise ConfigError(f"rendered={path} is not rendered=SEED,SEED,...")
    return rendered_worlds([int(seed) for seed in seeds], RENDERED_CACHE)


_DB_STRUCT = "folder with datasets/*.mat and the images"
_MSLS = "folder with train_val/"
_PROTOCOLS = {
    "gardenspoint": _Known(
        gardenspoint, "folder with day_left/, day_right/", "queries: right side, map: left side of a path; +-2 images"
    ),
    "stromovka": _Known(stromovka, "folder with autumn/, winter/", "queries: winter, map: autumn; +-1 image"),
    "aligned": _Known(
        _aligned, "MAP_FOLDER,QUERY_FOLDER,TOLERANCE", "query image i is right at map image i +-TOLERANCE"
    ),
    "rendered": _Known(
        _rendered,
        "SEED,SEED,...",
        "two drives in other lights, weathers and seasons ask the first drive of each world; 5 m and 45 deg",
    ),
    "kitti-loops": _Known(
        kitti_loops,
        "folder with sequences/, poses/",
        "queries: all frames of sequence 00, map: those more than 100 older; 10 m and 45 deg, where one is within 5 m",
    ),
    "msls-val": _Known(msls_val_official, _MSLS, "the official 740 queries of two cities; 25 m"),
    "msls-val-all": _Known(msls_val_all, _MSLS, "all queries of the same cities, not comparable with the 740; 25 m"),
    "pitts30k-test": _Known(pitts30k_test, _DB_STRUCT, "6,816 queries, 10,000 database images; 25 m"),
    "pitts30k-val": _Known(pitts30k_val, _DB_STRUCT, "7,608 queries, 10,000 database images; 25 m"),
    "pitts250k-test": _Known(pitts250k_test, _DB_STRUCT, "8,280 queries, 83,952 database images; 25 m"),
    "pitts250k-val": _Known(pitts250k_val, _DB_STRUCT, "7,608 queries, 78,648 database images; 25 m"),
    "tokyo247": _Known(tokyo247, _DB_STRUCT, "315 queries by day, at sunset and by night; 25 m"),
    "nordland-27592": _Known(
        nordland_27592, "folder with summer/, winter/", "all winter frames ask summer; +-10 frames"
    ),
    "nordland-2760": _Known(
        nordland_2760,
        "folder with ref/, query/ of VPR-Bench",
        "queries: each tenth summer frame, map: winter; +-1 frame",
    ),
    "robotcar-seasons": _Known(
        robotcar_seasons, "folder of RobotCar Seasons v2", "all conditions ask overcast-reference; 5 m and 10 deg"
    ),
    "7-scenes": _Known(
        lambda scene: seven_scenes(scene.parent, scene.name),
        "folder of one scene",
        "queries: test split, map: train split; 0.5 m and 30 deg",
    ),
    "utm-folder": _Known(
        utm_folder, "folder with images/test/database/, queries/", "any data set of the deep-VG benchmark; 25 m"
    ),
}


def open_protocol(text: str) -> RetrievalProtocol:
    """From `NAME=PATH`. Raises ConfigError for another form or name, SourceError for data that is not laid out so."""
    name, separator, path = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"{text!r} is not PROTOCOL=PATH, as in gardenspoint=/data/gardenspoint")
    if name not in _PROTOCOLS:
        raise ConfigError(f"there is no protocol {name!r}; known are {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name].read(expanded(path))


def list_protocols() -> str:
    """Two lines per protocol: how to ask for it, and its rule."""
    return "\n".join(f"{name}={known.path}\n    {known.rule}" for name, known in _PROTOCOLS.items())
