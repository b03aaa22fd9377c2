"""Does a model's attention mask help local features verify a place? Rendered streets with exact labels, other cars in each drive.

    python benchmarks/attention_verification.py MODEL_WITH_A_MASK.onnx [--worlds 200 201] [--min-attention 0.5]

Two kinds of pairs: `same place`, the nearest view of another drive (at most 5 m and 45 degrees away); `other place`, of the
views at least 25 m away the one whose descriptor is nearest. For each setting: pairs accepted by the defaults of
`verification`, the median of inliers, and the share of feature matches that lie on a person, a vehicle or the sky.
`labels` weighs by the true labels instead of the model's mask: the most that a mask can do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from training.data.readers.rendered import Rendered
from training.guidance import Guidance, to_target
from vpr_ros.config import VerificationConfig
from vpr_ros.engines.describe import describe_image_with_mask
from vpr_ros.engines.open import open_reference
from vpr_ros.images import read_image
from vpr_ros.model import PlaceModel
from vpr_ros.recognition.verification import GeometricVerifier, mask_at

SAME_M, OTHER_M, MAX_HEADING_DEG = 5.0, 25.0, 45.0
KEPT = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="ONNX file of training.export with a mask")
    parser.add_argument("--worlds", type=int, nargs="+", default=[200, 201], help="seeds (default: 200 201)")
    parser.add_argument("--min-attention", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="to try")
    options = parser.parse_args()
    engine = open_reference(PlaceModel.open(options.model))
    settings = {
        "without a mask": 0.0,
        **{f"mask >= {least:g}": least for least in options.min_attention},
        "labels": KEPT,
    }
    default = VerificationConfig()
    found: dict[tuple[str, str], list[tuple[bool, int, float]]] = {}
    for world in Rendered(seeds=tuple(options.worlds), appearances=3, step_m=3.0, label_maps=True).read(Path()):
        images = [read_image(path) for path in world.paths]
        described = [describe_image_with_mask(engine, image) for image in tqdm(images, desc="describe", disable=None)]
        descriptors = np.stack([descriptor for descriptor, _ in described])
        height, width = images[0].shape[:2]
        keep = to_target(torch.from_numpy(Guidance().precompute(world, height, width))).numpy()
        features = [GeometricVerifier(default).extract(image) for image in tqdm(images, desc="features", disable=None)]
        for query, partner, kind in tqdm(pairs(world, descriptors), desc="verify", disable=None):
            for name, least in settings.items():
                verifier = GeometricVerifier(VerificationConfig(min_attention=least))
                mask = keep[query] if name == "labels" else described[query][1]
                chosen = verifier.attended(features[query], mask, width, height)
                result = verifier.verify(chosen, None, features[partner], None)
                accepted = (
                    result.inliers >= default.min_inliers
                    and result.inlier_ratio >= default.min_inlier_ratio
                    and result.coverage >= default.min_coverage
                )
                ignored = ignored_share(verifier, chosen, features[partner], keep[query], width, height)
                found.setdefault((kind, name), []).append((accepted, result.inliers, ignored))
    print(f"{engine.model.name}, rendered worlds {', '.join(map(str, options.worlds))}")
    print(f"{'':<13}{'':<17}{'pairs':>7}{'accepted':>11}{'inliers (median)':>18}{'of matches, on ignored things':>32}")
    for (kind, name), rows in sorted(found.items(), key=lambda row: row[0][0], reverse=True):
        accepted, inliers, ignored = map(np.array, zip(*rows, strict=True))
        share = f"{accepted.mean():>11.3f}{np.median(inliers):>18.0f}{np.nanmean(ignored):>32.3f}"
        print(f"{kind:<13}{name:<17}{len(rows):>7}{share}")


def pairs(world, descriptors) -> list[tuple[int, int, str]]:
    """(query, partner, kind): each image of the later drives with its place, and with the likest other place."""
    drives = np.unique(world.sequences)
    first = np.flatnonzero(world.sequences == drives[0])
    made = []
    for query in np.flatnonzero(world.sequences != drives[0]):
        away = np.linalg.norm(world.positions_m[first] - world.positions_m[query], axis=1)
        turned = np.abs(np.angle(np.exp(1j * (world.headings_rad[first] - world.headings_rad[query]))))
        near = np.where(turned <= np.deg2rad(MAX_HEADING_DEG), away, np.inf)
        if near.min() <= SAME_M:
            made.append((query, first[near.argmin()], "same place"))
        other = np.where(away >= OTHER_M, descriptors[first] @ descriptors[query], -np.inf)
        made.append((query, first[other.argmax()], "other place"))
    return made


def ignored_share(verifier, query, partner, keep, width, height) -> float:
    """Share of the feature matches that lie on what the guidance ignores; NaN without a match."""
    points = query.points[verifier.match(query, partner)[:, 0]]
    if not len(points):
        return float("nan")
    return float(np.mean(mask_at(keep, points, width, height) < KEPT))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
