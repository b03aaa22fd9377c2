"""Pittsburgh 30k and 250k, and Tokyo 24/7: image folders and the `dbStruct` of NetVLAD (Arandjelovic et al., CVPR 2016)."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.io import loadmat

from training.data.image_set import ImageSet
from training.data.protocol import Part, RetrievalProtocol, within_metres
from training.data.readers.base import Reader
from training.data.readers.images import image_paths
from vpr_ros.errors import SourceError

_FIELDS = ("dbImageFns", "utmDb", "numImages", "qImageFns", "utmQ", "numQueries", "posDistThr")


class DbStruct(Reader):
    """Database and queries of one struct as one set; `file`, `database` and `queries` are relative to `path`.

    The defaults are the Pittsburgh archives as they unpack: 000/ to 010/ and queries_real/ beside datasets/. Positions are
    UTM; the headings are unknown, for nobody says where yaw1 of a panorama looks. A sequence is the views of one panorama:
    `database/<n>` or `query/<n>`.
    """

    kind: Literal["db_struct"] = "db_struct"
    file: Path
    """For example datasets/pitts30k_train.mat."""
    database: Path = Path()
    queries: Path = Path("queries_real")

    def read(self, data_root: Path) -> list[ImageSet]:
        root = data_root / self.path
        sets = _read(root / self.file, root / self.database, root / self.queries)
        return [ImageSet.union(self.file.stem, [sets.database, sets.queries])]


def pittsburgh(root: Path, file: Path | str) -> RetrievalProtocol:
    """A split of Pittsburgh, right within the struct's own posDistThr (25 m), from archives unpacked into `root`."""
    return _protocol(Path(file).stem, _read(root / file, root, root / "queries_real"))


def pitts30k_val(root: Path) -> RetrievalProtocol:
    """7,608 queries, 10,000 database images."""
    return pittsburgh(root, "datasets/pitts30k_val.mat")


def pitts30k_test(root: Path) -> RetrievalProtocol:
    """6,816 queries, 10,000 database images."""
    return pittsburgh(root, "datasets/pitts30k_test.mat")


def pitts250k_val(root: Path) -> RetrievalProtocol:
    """7,608 queries, 78,648 database images."""
    return pittsburgh(root, "datasets/pitts250k_val.mat")


def pitts250k_test(root: Path) -> RetrievalProtocol:
    """8,280 queries, 83,952 database images."""
    return pittsburgh(root, "datasets/pitts250k_test.mat")


def tokyo247(root: Path, database: str = "database_gsv_vga", queries: str = "247query_subset_v2") -> RetrievalProtocol:
    """315 queries of 35 spots by day, at sunset and by night; 75,984 cutouts of Street View, 12 a panorama.

    `root` holds datasets/tokyo247.mat and the two folders. A query's condition is what its own csv file says (D, S or N in
    the sixth field), unknown without one. As is usual today, all cutouts of a panorama may be among the answers; NetVLAD
    kept the best one only.
    """
    sets = _read(root / "datasets/tokyo247.mat", root / database, root / queries)
    conditions = np.array([_time_of_day(path.with_suffix(".csv")) for path in sets.queries.paths])
    asked = dataclasses.replace(sets.queries, conditions=conditions)
    return _protocol(f"Tokyo 24/7 ({len(asked)} queries)", _Sets(sets.database, asked, sets.radius_m))


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    database: ImageSet
    queries: ImageSet
    radius_m: float


def _protocol(name: str, sets: _Sets) -> RetrievalProtocol:
    positives = within_metres(sets.queries, sets.database, sets.radius_m)
    return RetrievalProtocol(name, f"at most {sets.radius_m:g} m away", (Part(sets.database, sets.queries, positives),))


def _read(file: Path, database: Path, queries: Path) -> _Sets:
    struct = _struct(file)
    return _Sets(
        _images(file, struct, "database", database, "dbImageFns", "utmDb", "numImages"),
        _images(file, struct, "query", queries, "qImageFns", "utmQ", "numQueries"),
        float(struct["posDistThr"]),
    )


def _struct(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise SourceError(f"{file}: no such file")
    try:
        struct = loadmat(file, simplify_cells=True, variable_names=["dbStruct"]).get("dbStruct")
    except NotImplementedError:
        raise SourceError(f"{file}: is a MATLAB 7.3 file; save it again in MATLAB with save -v7") from None
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise SourceError(f"{file}: cannot be read as a MATLAB file: {error}") from error
    if not isinstance(struct, dict):
        raise SourceError(f"{file}: holds no struct dbStruct")
    if missing := [field for field in _FIELDS if field not in struct]:
        raise SourceError(f"{file}: dbStruct has no field {', '.join(missing)}; it has {', '.join(struct)}")
    return struct


def _images(
    file: Path, struct: Mapping[str, Any], role: str, folder: Path, names_field: str, utm_field: str, count_field: str
) -> ImageSet:
    names = [str(name) for name in np.atleast_1d(struct[names_field])]
    utm, count = np.asarray(struct[utm_field]), struct[count_field]
    utm = utm[:, np.newaxis] if utm.ndim == 1 else utm  # scipy squeezes a single column
    if utm.shape != (2, len(names)) or count != len(names):
        raise SourceError(
            f"{file}: dbStruct has {len(names)} {names_field}, {utm_field} is {' x '.join(map(str, utm.shape))} and "
            f"{count_field} {count}; they must be N, 2 x N and N"
        )
    if not np.isfinite(utm).all():
        raise SourceError(
            f"{file}: column {int(np.argmin(np.isfinite(utm).all(axis=0))) + 1} of {utm_field} is not finite"
        )
    utm = utm.T
    _, panoramas = np.unique(utm, axis=0, return_inverse=True)
    return ImageSet.of(
        f"{file.stem} {role}",
        image_paths(
            folder, [os.path.splitext(name)[0] for name in names], lambda i: f"{file}: {names_field}{{{i + 1}}}"
        ),
        positions_m=utm,
        sequences=[f"{role}/{panorama}" for panorama in panoramas.tolist()],
    )


def _time_of_day(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        fields = next(csv.reader(lines), [])
    return {"D": "day", "S": "sunset", "N": "night"}.get(fields[5].strip(), "") if len(fields) > 5 else ""
