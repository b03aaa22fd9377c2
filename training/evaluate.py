"""Recall of models on public protocols, with the protocol, the counts and the uncertainty beside each number.

    python -m training.evaluate thumbnail models/vpr_mobilenetv2_gem_256.onnx \\
        --on gardenspoint=../shared/data/gardenspoint --on kitti-loops=../shared/data/kitti --out .training/evaluation

A MODEL is an ONNX file of training.export, a network.safetensors of training.train, the YAML of a published model, or
the word `thumbnail` for the baseline without learning. Models after the first are compared with the first.
`--rerank` adds a row per model: its first answers ordered anew by verified local features, much as the robot verifies them.
`--list` names the protocols and what PATH is for each; `--out` writes results.json and a page with pictures of errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from training.command import one_line


class _List(argparse.Action):
    """Prints the protocols and leaves, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from training.evaluation.protocols import list_protocols

        print(list_protocols())
        parser.exit()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("models", nargs="+", metavar="MODEL", help="FILE.onnx, FILE.safetensors, FILE.yaml or thumbnail")
    add("--on", action="append", required=True, metavar="PROTOCOL=PATH", help="what to evaluate on; may be repeated")
    add("--rerank", metavar="FEATURES", help="sift, orb or FILE.onnx of local features")
    add("--rerank-top", type=_positive, default=10, metavar="K", help="answers re-ranked (default: %(default)s)")
    add("--list", action=_List, nargs=0, help="print the protocols and exit")
    add("--out", type=Path, help="folder for results.json and index.html")
    add("--batch", type=_positive, default=32, metavar="N", help="images described at once (default: %(default)s)")
    add("--cache", type=Path, default=Path(".training/cache/descriptors"), help="folder (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    add("--resamples", type=_positive, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)")
    return made


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with one_line("evaluate"):
        from training.evaluation.bootstrap import Bootstrap
        from training.evaluation.describers import open_describer
        from training.evaluation.descriptor_cache import DescriptorCache
        from training.evaluation.page import write_page
        from training.evaluation.protocols import open_protocol
        from training.evaluation.rerank import open_reranker
        from training.evaluation.results import evaluate, write_results
        from training.evaluation.tables import footnotes, report

        # everything is opened before anything is described: a wrong path is known at once, not after hours
        describers = [open_describer(model) for model in options.models]
        protocols = [open_protocol(text) for text in options.on]
        reranker = open_reranker(options.rerank, options.rerank_top) if options.rerank else None
        cache, bootstrap = DescriptorCache(options.cache, options.batch), Bootstrap(options.resamples, options.seed)
        evaluations = []
        for protocol in protocols:
            evaluations.append(evaluate(describers, protocol, cache, bootstrap, reranker))
            print(report(evaluations[-1]), end="\n\n")
        print(*footnotes(evaluations, bootstrap), sep="\n")
        if options.out:
            created = datetime.now().astimezone().isoformat(timespec="minutes")
            results, page = options.out / "results.json", options.out / "index.html"
            write_results(results, evaluations, bootstrap, created)
            write_page(page, evaluations, bootstrap, created)
            print(f"wrote {results} and {page}")


if __name__ == "__main__":
    main()
