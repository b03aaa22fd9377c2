"""Variants of one recipe, trained with the same data, budget and seeds, and compared on data that none was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from training.catalog import open_sources
from training.data.protocol import RetrievalProtocol
from training.evaluation.answers import answer
from training.evaluation.bootstrap import Bootstrap, Units, confidence_interval, paired_difference, resampling_units
from training.evaluation.describers import open_describer
from training.evaluation.descriptor_cache import DescriptorCache
from training.evaluation.forest_plot import Interval, draw
from training.evaluation.protocols import open_protocol
from training.evaluation.tables import Table
from training.files import write_whole
from training.fitting.run import train, whiten_by
from training.fitting.whitening import with_projection
from training.models.network_file import load_network, read_metadata, save_network
from training.options import Options, differences, read_yaml
from training.recipe import LOCAL, Recipe, read_recipe
from vpr_ros.errors import TrainingError

START = "untrained"


class Experiment(Options):
    """`variants` maps a name to overrides of `recipe`; `whitened_dim` adds rows with PCA whitening to so many dimensions.

    `stages` are variants that are trained first and not judged. A value `{NAME}` in a later variant is the network that
    stage NAME trained with the same seed. `contrasts` are pairs of variants whose difference is printed: first minus second.
    """

    recipe: Path
    """Relative to the experiment's file."""
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    contrasts: tuple[tuple[str, str], ...] = ()
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    protocols: tuple[str, ...] = Field(min_length=1)
    """PROTOCOL=PATH, as `training.evaluate --on` has them; `{data_root}` is the recipe's."""
    whitened_dim: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name in (name for pair in self.contrasts for name in pair):
            if name not in self.variants:
                raise ValueError(f"contrasts: there is no variant {name!r}")
        before: list[str] = []
        for name, overrides in {**self.stages, **self.variants}.items():
            _with_stages(overrides, dict.fromkeys(before, Path()))
            before += [name] if name in self.stages else []
        return self


@dataclass(frozen=True, slots=True, eq=False)
class VariantAnswers:
    """One variant on one protocol: is the first answer right, (S, Q) bool for S seeds and the Q queries that count."""

    name: str
    right: NDArray[np.bool_]

    @property
    def share(self) -> NDArray[np.float64]:
        """(Q,): of the seeds, with a right first answer to each query."""
        return self.right.mean(axis=0)


def train_variants(
    experiment: Experiment, folder: Path, out: Path, common: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, list[Path]]:
    """The networks of each row's name, one per seed. `common` overrides the recipe of all; a variant's own come after."""
    networks: dict[str, list[Path]] = {}
    for seed in experiment.seeds:
        start = {START: {"loop.steps": 0}} if seed == experiment.seeds[0] else {}
        stages: dict[str, Path] = {}
        for variant, overrides in {**experiment.stages, **start, **experiment.variants}.items():
            own = {**_with_stages(overrides, stages), "seed": seed}
            recipe = read_recipe(folder / experiment.recipe, {**common, **own})
            run = out / f"{variant}-{seed}"
            network = run / "network.safetensors"
            if network.exists():
                require_same_recipe(run, recipe)
            else:
                print(f"\n{variant}, seed {seed}: {run}")
                train(recipe, run, resume=(run / "last.ckpt").exists())
            if variant in experiment.stages:
                stages[variant] = network
                continue
            networks.setdefault(variant, []).append(network)
            if experiment.whitened_dim:
                whitened = run / "whitened" / "network.safetensors"
                if not whitened.exists():
                    whiten_network(network, whitened, recipe, experiment.whitened_dim)
                networks.setdefault(f"{variant}, whitened", []).append(whitened)
    return networks


def require_same_recipe(run: Path, recipe: Recipe) -> None:
    """Raises TrainingError where a run that was finished is of another recipe."""
    was = read_yaml(run / "recipe.yaml")
    changed = [key for key in differences(was, recipe.model_dump(mode="json")) if key not in LOCAL]
    if changed:
        raise TrainingError(
            f"{run} was made with another recipe: {', '.join(changed)} differ; --out chooses another folder"
        )


def _with_stages(value: Any, stages: Mapping[str, Path]) -> Any:
    """Overrides with `{NAME}` replaced by the network of stage NAME. Raises ValueError where there is none."""
    if isinstance(value, dict):
        return {key: _with_stages(each, stages) for key, each in value.items()}
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        if value[1:-1] not in stages:
            raise ValueError(f"{value} names no stage that is trained before; there are {', '.join(stages) or 'none'}")
        return str(stages[value[1:-1]])
    return value


def whiten_network(network: Path, out: Path, recipe: Recipe, dim: int) -> None:
    """PCA whitening of a trained network with the images it was trained on."""
    made = with_projection(load_network(network), dim)
    sources = open_sources(recipe.sources, recipe.data_root, recipe.cache)
    whiten_by(recipe, made, sources)
    save_network(made, out, read_metadata(network) | {"whitened_on": "training images"})


def judge(
    networks: Mapping[str, Sequence[Path]], protocol: RetrievalProtocol, cache: DescriptorCache
) -> tuple[list[VariantAnswers], Units]:
    """One row per name, and what to resample of the queries that count."""
    answers = {
        name: [answer(open_describer(str(path)), protocol, cache) for path in paths] for name, paths in networks.items()
    }
    counted = next(iter(answers.values()))[0].counted  # the same of every network: it depends on the images alone
    rows = [
        VariantAnswers(name, np.stack([each.right[counted, 0] for each in found])) for name, found in answers.items()
    ]
    return rows, resampling_units(protocol.sequences[counted])


def interval(row: VariantAnswers, units: Units) -> Interval:
    """Recall@1 over all seeds."""
    low, high = confidence_interval(row.share, units, Bootstrap())
    return Interval(float(row.share.mean()), float(low), float(high), tuple(row.right.mean(axis=1).tolist()))


def report(protocol: RetrievalProtocol, rows: Sequence[VariantAnswers], units: Units, first: str) -> str:
    """The table of recall@1, and of each row's difference to `first`."""
    bootstrap = Bootstrap()
    reference = next(row for row in rows if row.name == first)
    table = []
    for row in rows:
        recall = interval(row, units)
        gain, gain_low, gain_high = paired_difference(reference.share, row.share, units, bootstrap)
        table.append(
            (
                row.name,
                f"{recall.value:.3f}",
                f"{recall.low:.3f} .. {recall.high:.3f}",
                " ".join(f"{share:.3f}" for share in recall.seeds),
                "" if row is reference else f"{gain:+.3f} ({gain_low:+.3f} .. {gain_high:+.3f})",
            )
        )
    database = sum(len(part.database) for part in protocol.parts)
    head = (
        f"{protocol.name}; right: {protocol.rule}; {len(reference.share)} queries with an answer, database {database}"
    )
    columns = ("", "recall@1", f"95 % CI over {units.label}", "of each seed", f"minus {first}")
    return head + "\n" + Table(columns, tuple(table)).text()


def contrast(rows: Sequence[VariantAnswers], units: Units, first: str, second: str) -> str:
    """One line: how much better `first` is than `second`."""
    shares = {row.name: row.share for row in rows}
    gain, low, high = paired_difference(shares[second], shares[first], units, Bootstrap())
    return f"{first} minus {second}: {gain:+.3f} ({low:+.3f} .. {high:+.3f})"


def run(experiment: Experiment, folder: Path, out: Path, common: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Train, judge and print; writes results.json and recall.png into `out`. `folder` is that of the experiment's file."""
    data_root = str(read_recipe(folder / experiment.recipe, common).data_root)
    protocols = [open_protocol(text.replace("{data_root}", data_root)) for text in experiment.protocols]
    networks = train_variants(experiment, folder, out, common)
    cache = DescriptorCache(out / "descriptors", 32)
    reference = next(iter(experiment.variants))
    results = {}
    for protocol in protocols:
        rows, units = judge(networks, protocol, cache)
        print("\n" + report(protocol, rows, units, reference))
        for first, second in experiment.contrasts:
            print(contrast(rows, units, first, second))
        results[protocol.name] = {row.name: interval(row, units) for row in rows}
    plain = {name: {row: asdict(recall) for row, recall in rows.items()} for name, rows in results.items()}
    write_whole(out / "results.json", json.dumps(plain, indent=1).encode())
    draw(out / "recall.png", results, reference)
    print(f"\nwrote {out / 'results.json'} and {out / 'recall.png'}")
