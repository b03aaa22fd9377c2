"""Mapillary Street-Level Sequences (Warburg et al., CVPR 2020), as `metadata.zip` and the image archives unpack."""

from __future__ import annotations

from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from training.data.image_set import ImageSet, heading_from_compass
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.images import image_paths
from training.data.readers.tables import CsvTable

TRAIN_CITIES = (
    "trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo", "moscow",
    "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman", "nairobi", "manila",
)  # fmt: skip
VAL_CITIES = ("cph", "sf")
RADIUS_M = 25.0
"""A right answer is at most this far from the query."""


class Msls(Reader):
    """One set per city of `train_val/<city>/{database,query}/{images/<key>.jpg, *.csv}`, without panoramas.

    Positions are UTM, headings the compass angle `ca` (unknown where it is empty), sequences `database/<sequence_key>` or
    `query/<sequence_key>`, conditions day or night and the view: "night sideways". The test cities have no positions.
    """

    kind: Literal["msls"] = "msls"
    cities: tuple[str, ...] = Field(TRAIN_CITIES, min_length=1)

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        return [
            ImageSet.union(f"MSLS {city}", [_images(root, city, role) for role in ("database", "query")])
            for city in self.cities
        ]


def msls_val_official(root: Path) -> RetrievalProtocol:
    """The validation of mapillary_sls, image to image, which papers quote: 740 queries, 18,871 database images.

    Of the queries in subtask_index.csv 750 are in the subtask "all" (cph 502, sf 248); 747 of them are no panoramas (499,
    248), and 740 have a database image within 25 m (498, 242). Of the database (12,601 and 6,315, all of them in the
    subtask) 12,556 and 6,315 are no panoramas. `root` holds `train_val`.
    """
    parts = [_answerable(_part(root, city, subtask="all")) for city in VAL_CITIES]
    asked = sum(len(part.queries) for part in parts)
    return RetrievalProtocol(
        f"MSLS val (official, {asked} queries)",
        f"at most {RADIUS_M:g} m away in the query's own city; no panoramas, no queries without a right answer",
        tuple(parts),
    )


def msls_val_all(root: Path) -> RetrievalProtocol:
    """All queries that are no panoramas, about 11,100, those without a right answer too: never to be compared with 740.

    They are the queries of gmberton's MSLS folders, which put both cities into one database; here each city has its own.
    `root` holds `train_val`.
    """
    parts = [_part(root, city) for city in VAL_CITIES]
    asked = sum(len(part.queries) for part in parts)
    return RetrievalProtocol(
        f"MSLS val (all {asked} queries, not the official ones)",
        f"at most {RADIUS_M:g} m away in the query's own city; no panoramas; queries without a right answer are asked",
        tuple(parts),
    )


def _part(root: Path, city: str, subtask: str | None = None) -> Part:
    """The queries of a city ask its database."""
    database, queries = (_images(root, city, role, subtask) for role in ("database", "query"))
    return Part(database, queries, within_metres(queries, database, RADIUS_M))


def _answerable(part: Part) -> Part:
    """Without the queries that have no right answer."""
    answerable = [len(right) > 0 for right in part.positives]
    return Part(part.database, part.queries.take(answerable), tuple(compress(part.positives, answerable)))


def _images(root: Path, city: str, role: str, subtask: str | None = None) -> ImageSet:
    """The images of a city's `role` that are no panoramas, and of `subtask` if one is named."""
    folder = root / "train_val" / city / role
    places = CsvTable.read(folder / "postprocessed.csv", "key", "easting", "northing", "night", "view_direction")
    camera = CsvTable.read(folder / "raw.csv", "key", "ca", "pano").in_order_of(places, "key")
    drives = CsvTable.read(folder / "seq_info.csv", "key", "sequence_key").in_order_of(places, "key")
    wanted = ~camera.booleans("pano")
    if subtask:
        tasks = CsvTable.read(folder / "subtask_index.csv", "key", subtask).in_order_of(places, "key")
        wanted &= tasks.booleans(subtask)
    rows = np.flatnonzero(wanted).tolist()
    keys, views, sequences = places.columns["key"], places.columns["view_direction"], drives.columns["sequence_key"]
    night = places.booleans("night")
    return ImageSet.of(
        f"MSLS {city} {role}",
        image_paths(folder / "images", [keys[row] for row in rows], lambda i: places.at(rows[i])),
        positions_m=np.stack([places.numbers("easting"), places.numbers("northing")], axis=1)[rows],
        headings_rad=heading_from_compass(camera.numbers("ca", optional=True))[rows],
        sequences=[f"{role}/{sequences[row]}" for row in rows],
        conditions=[f"{'night' if night[row] else 'day'} {views[row].lower()}".rstrip() for row in rows],
    )
