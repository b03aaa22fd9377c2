"""GSV-Cities (Ali-bey et al., Neurocomputing 2022): Street View images of places, at least four of each over the years."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.data.image_set import ImageSet, heading_from_compass
from training.data.readers.base import Reader
from training.data.readers.images import image_paths
from training.data.readers.tables import CsvTable
from vpr_ros.errors import SourceError

_EARTH_RADIUS_M = 6_371_000.0


class GsvCities(Reader):
    """One set per city of `Dataframes/<city>.csv` and `Images/<city>/`; without `cities` all that have a csv file.

    Images of one `place_id` show one place, and places are at least 100 m apart. Positions are metres around the city's
    mean latitude and longitude, headings the bearing `northdeg`. Street View does not tell its drives: a sequence is the
    images of a city in one month, "2014-07".
    """

    kind: Literal["gsv_cities"] = "gsv_cities"
    cities: tuple[str, ...] = ()

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        cities = self.cities or sorted(file.stem for file in (root / "Dataframes").glob("*.csv"))
        if not cities:
            raise SourceError(f"{root / 'Dataframes'}: holds no csv files")
        return [_city(root, city) for city in cities]


def _city(root: Path, city: str) -> ImageSet:
    rows = CsvTable.read(
        root / "Dataframes" / f"{city}.csv",
        *("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"),
    )
    places, bearings = rows.naturals("place_id"), rows.naturals("northdeg")
    years, months = rows.naturals("year"), rows.naturals("month")
    latitudes, longitudes = rows.numbers("lat"), rows.numbers("lon")
    # The data set's own loader builds the names from numbers, not from the csv's text: 40.750 is 40.75 there.
    names = [
        f"{folder}/{folder}_{place:07d}_{year:04d}_{month:02d}_{bearing:03d}_{latitude}_{longitude}_{panorama}"
        for folder, place, year, month, bearing, latitude, longitude, panorama in zip(
            rows.columns["city_id"],
            *(column.tolist() for column in (places, years, months, bearings, latitudes, longitudes)),
            rows.columns["panoid"],
            strict=True,
        )
    ]
    return ImageSet.of(
        f"GSV-Cities {city}",
        image_paths(root / "Images", names, rows.at),
        positions_m=_metres(latitudes, longitudes),
        headings_rad=heading_from_compass(bearings),
        places=places,
        sequences=[f"{year:04d}-{month:02d}" for year, month in zip(years.tolist(), months.tolist(), strict=True)],
    )


def _metres(latitudes_deg: NDArray[np.float64], longitudes_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) east and north of the mean, on a sphere flattened there: 0.5 % at most over 30 km up to 60 deg of latitude."""
    latitudes, longitudes = np.radians(latitudes_deg), np.radians(longitudes_deg)
    east = (longitudes - longitudes.mean()) * np.cos(latitudes.mean())
    return _EARTH_RADIUS_M * np.stack([east, latitudes - latitudes.mean()], axis=1)
