"""The sources of a recipe: which data, labelled how, drawn how often."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from training.data.label_maps import LabelMapsAt
from training.data.readers.db_struct import DbStruct
from training.data.readers.folders import ClipFolder, NamedPlaces
from training.data.readers.gsv_cities import GsvCities
from training.data.readers.kitti import Kitti
from training.data.readers.msls import Msls
from training.data.readers.nordland import Nordland
from training.data.readers.rendered import Rendered
from training.data.readers.robotcar_seasons import RobotCarSeasons
from training.data.readers.rosbag import Rosbag
from training.data.readers.seven_scenes import SevenScenes
from training.data.readers.tb_places import TbPlaces
from training.data.readers.tum import Tum
from training.data.readers.utm_folder import UtmFolder
from training.data.source import Source
from training.labels.cache import label
from training.labels.rules import LabelRule
from training.options import Options

AnyReader = Annotated[
    ClipFolder
    | DbStruct
    | GsvCities
    | Kitti
    | Msls
    | NamedPlaces
    | Nordland
    | Rendered
    | RobotCarSeasons
    | Rosbag
    | SevenScenes
    | TbPlaces
    | Tum
    | UtmFolder,
    Field(discriminator="kind"),
]


class SourceOptions(Options):
    """One entry of a recipe's `sources`: a reader, the rule that labels its pairs, and its weight in a batch.

    `label_maps` says where the label maps of its images are, for a network that sees these.
    """

    reader: AnyReader
    labels: LabelRule
    label_maps: LabelMapsAt | None = None
    share: float = Field(default=1.0, gt=0)
    smallest_crop: float = Field(default=0.85, gt=0, le=1)


def open_sources(entries: Iterable[SourceOptions], data_root: Path, cache: Path) -> list[Source]:
    """The labelled sources; a reader that finds several sets (cities, worlds) shares its weight among them by size.

    Raises SourceError for data that is missing or broken.
    """
    sources = []
    for entry in entries:
        sets = entry.reader.read(data_root)
        total = sum(map(len, sets))
        for images in sets:
            similarity = label(images, entry.labels, cache / "labels")
            images = entry.label_maps.attach(images, data_root) if entry.label_maps else images
            sources.append(Source(images, similarity, entry.share * len(images) / total, entry.smallest_crop))
    return sources
