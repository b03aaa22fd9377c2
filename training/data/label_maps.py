"""Label maps that lie in a folder of their own, as `python -m training.segment` writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from training.data.classes import read_table
from training.data.image_set import ImageSet, LabelMaps
from training.options import Options
from vpr_ros.errors import SourceError


class LabelMapsAt(Options):
    """`path`/a/b.png is the label map of the image `images`/a/b.jpg; both folders are relative to the recipe's `data_root`.

    `table` names the classes: `cityscapes`, another table of training/data/class_tables, or a YAML file like them.
    """

    path: Path
    images: Path
    table: str = "cityscapes"

    def attach(self, images: ImageSet, data_root: Path) -> ImageSet:
        """The same images with their label maps. Raises SourceError where one is missing, ConfigError for the table."""
        folder, root = data_root / self.path, data_root / self.images
        try:
            paths = [folder / path.relative_to(root).with_suffix(".png") for path in images.paths]
        except ValueError as error:
            raise SourceError(f"{images.name}: its images are not in label_maps.images: {error}") from error
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise SourceError(
                f"{images.name}: {len(missing)} of {len(paths)} images have no label map, the first at {missing[0]}; "
                "python -m training.segment makes them"
            )
        return dataclasses.replace(images, label_maps=LabelMaps.of(paths, read_table(self.table)))
