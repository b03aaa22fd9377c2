"""How well a network's attention mask finds what it was taught to ignore, on labelled images it was not trained on.

    python -m training.masks .training/deattention/network.safetensors ../shared/data/camvid/test \\
        --labels ../shared/data/camvid/testannot --table camvid --out masks.html

Prints the area under the ROC curve and the intersection over union of the ignored positions at feature resolution, and
writes a page with images, the true mask and the learned one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.command import one_line


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("network", type=Path, help="a network.safetensors of training.train")
    made.add_argument("images", type=Path, help="folder of images that it was not trained on")
    made.add_argument("--labels", type=Path, required=True, help="folder of their label images or label maps")
    made.add_argument("--table", default="cityscapes", help="what the class ids mean (default: %(default)s)")
    made.add_argument("--categories", nargs="+", default=["human", "vehicle", "sky"], help="what it should ignore")
    made.add_argument("--out", type=Path, help="page to write")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with one_line("masks"):
        from training.evaluation.masks import compare, write_page
        from training.models.network_file import load_network

        network = load_network(options.network)
        masks = compare(network, options.images, options.labels, options.table, tuple(options.categories))
        if options.out:
            write_page(options.out, masks)
    learned, agreement = masks.learned, masks.agreement
    print(
        f"{len(masks.images)} images, {learned.shape[1]} x {learned.shape[2]} positions, {agreement.ignored:.1%} ignored: "
        f"AUC {agreement.auc:.3f}, IoU of the ignored {agreement.iou:.3f}, mean mask {learned.mean():.3f}"
    )


if __name__ == "__main__":
    main()
