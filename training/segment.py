"""Label maps for the images of a data set, made once, before training.

    python -m training.segment KITTI/sequences/00/image_0 --model models/segmentation/mobilenetv2_camvid.onnx --out labels
    python -m training.segment images --model their.onnx --table cityscapes --size 1024x512 --out labels
    python -m training.segment images --transformers nvidia/segformer-b0-finetuned-ade-512-512 --table ade20k --out labels
    python -m training.segment camvid/train --labels camvid/trainannot --table camvid --out labels
    python -m training.segment leftImg8bit/train --labels gtFine/train --table cityscapes_ids --out labels

Every image under the folder gets a small grey PNG of class ids in the same place under --out. A run that was interrupted
goes on where it stopped. The table says what the ids mean: one of training/data/class_tables, or a YAML file of that form.

What other networks take and answer: one image as uint8 (1, H, W, 3), or as float (1, 3, H, W) or (1, H, W, 3) normalised by
--mean and --std; logits with the classes before or after the sides, or a label map. A network that takes any size gets
images of about as many pixels as --size, in their own shape; without --size, as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.command import one_line
from training.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from vpr_ros.errors import ConfigError

if TYPE_CHECKING:
    from training.semantics.segmenters import Segmenter


def open_segmenter(options: argparse.Namespace) -> tuple[Segmenter, str]:
    """What the command line chooses, and the name of its table. Raises ModelError and ConfigError."""
    from training.data.classes import read_table
    from training.semantics.onnx_segmenter import OnnxSegmenter, SegmentationFile
    from training.semantics.segmenters import LabelImages, TransformersSegmenter

    if options.model:
        file = SegmentationFile.open(options.model)
        name = required(options.table or file.metadata.get("table"))
        mean, std = tuple(options.mean), tuple(options.std)
        how = {"size": options.size, "mean": mean, "std": std, "channels": options.channels}
        return OnnxSegmenter(file, read_table(name), **how), name
    if options.transformers:
        return TransformersSegmenter(options.transformers), required(options.table)
    return LabelImages(options.images, options.labels), required(options.table)


def required(table: str | None) -> str:
    if table is None:
        raise ConfigError("what do the class ids mean? --table names a table, as cityscapes, ade20k or my_classes.yaml")
    return table


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as 1024x512")
    return int(width), int(height)


def parse_scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share in (0, 1]")
    return scale


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("images", type=Path, help="folder of images; those in folders below it count too")
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="FILE.onnx", help="segmentation network")
    source.add_argument("--transformers", metavar="NAME", help="Hugging Face model: its name or a folder")
    source.add_argument("--labels", type=Path, metavar="FOLDER", help="label images that exist, of the same names")
    made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the label maps go")
    made.add_argument("--table", help="what the class ids mean (default: what the ONNX file says of itself)")
    made.add_argument("--scale", type=parse_scale, default=0.25, help="size of a label map (default: a quarter)")
    made.add_argument("--preview", type=Path, metavar="FILE.png", help="some images with their label maps, to look at")
    network = made.add_argument_group("how an ONNX file wants its images, where it does not say so itself")
    network.add_argument("--size", type=parse_size, metavar="WxH", help="where it takes any size: about so many pixels")
    network.add_argument("--mean", type=float, nargs=3, default=IMAGENET_MEAN, help="of pixels in 0..1 (ImageNet's)")
    network.add_argument("--std", type=float, nargs=3, default=IMAGENET_STD, help="of pixels in 0..1 (ImageNet's)")
    network.add_argument("--channels", choices=("rgb", "bgr"), default="rgb", help="their order (default: rgb)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with one_line("segment"):
        from training.data.classes import read_table
        from training.semantics.label_map_folder import LabelMapFolder
        from training.semantics.labelled import images_under
        from training.semantics.preview import write_preview
        from training.semantics.segmentation import segment, share_lines

        images = [
            path for path in images_under(options.images) if options.out.absolute() not in path.absolute().parents
        ]
        segmenter, table_name = open_segmenter(options)
        table, folder = read_table(table_name), LabelMapFolder(options.out, options.images)
        folder.claim({"table": table_name, "scale": options.scale, **segmenter.made_by})
        pixels, failures = segment(images, segmenter, table, folder, options.scale)
        if options.preview:
            write_preview(options.preview, images, folder)
    print("\n".join(share_lines(pixels, table)))
    print(f"{len(images) - len(failures)} label maps in {options.out}")
    for failure in failures:
        print(f"left out: {failure}", file=sys.stderr)


if __name__ == "__main__":
    main()
