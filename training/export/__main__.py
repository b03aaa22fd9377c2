"""Turn a network into the one-file model of vpr_ros, and check the file against the network.

    python -m training.export .training/first/network.safetensors models/vpr.onnx
    python -m training.export training/published/eigenplaces_r18_512.yaml eigenplaces.onnx --images my_camera/

The first is a network of training.train, the second the description of a published one (training.models.published).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.command import one_line


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m training.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("source", metavar="MODEL", type=Path, help="network.safetensors, or the YAML of a published one")
    made.add_argument("onnx", metavar="OUT.onnx", type=Path, help="the file to write")
    made.add_argument("--name", help="what the model is called (default: as its source is)")
    made.add_argument("--images", metavar="FOLDER", type=Path, help="compare on images of your camera too")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with one_line("export"):
        from training.export.place_model import export_file

        model = export_file(options.source, options.onnx, name=options.name, images=options.images)
    print(f"wrote {model.path} ({len(model.content) / 1e6:.1f} MB), id {model.id[:12]}: {model.metadata['parity']}")


if __name__ == "__main__":
    main()
