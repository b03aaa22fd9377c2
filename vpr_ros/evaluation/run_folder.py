"""The folder that a replay or the demo leaves behind. Never overwritten."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vpr_ros.config import Config, ros_yaml
from vpr_ros.errors import OutputError
from vpr_ros.evaluation.closure_files import write_g2o, write_pairs
from vpr_ros.evaluation.metrics import Curve
from vpr_ros.evaluation.report import Run, write_report
from vpr_ros.files import cannot_write, check_writable
from vpr_ros.recognition.relocalization import Localization, LocalizationState
from vpr_ros.rotations import matrix_to_quaternion
from vpr_ros.types import PlaceMatch

COLUMNS = (
    "stamp_ns", "session", "status", "keyframe_id", "match_id", "match_stamp_ns", "match_session", "similarity",
    "runner_up", "consistent_count", "inliers", "inlier_ratio", "coverage", "is_right",
)  # fmt: skip
LOCALIZATION_COLUMNS = (
    "stamp_ns", "state", "is_found", "match_session", "match_id", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw", "sigma_m",
    "sigma_deg", "reason",
)  # fmt: skip


def new_folder(parent: Path, name: str) -> Path:
    """Create and return `parent/name`, or `name-2`, `name-3`, ... if that exists already.

    Raises OutputError where nothing can be written to it.
    """
    for number in range(1, 10**6):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            check_writable(path)
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(path, error) from error
        except OutputError:
            path.rmdir()
            raise
        return path
    raise OutputError(f"{parent} is full of runs named {name}")


def write_run(folder: Path, run: Run, config: Config) -> None:
    """Fill a run folder: config.yaml, matches.csv, loop_closures.{txt,g2o}, metrics.json, report.html, and localization.csv
    where the robot was found in the map of an earlier drive.

    Raises OutputError where the disk refuses; what was written until then stays.
    """
    try:
        _write_run(folder, run, config)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _write_run(folder: Path, run: Run, config: Config) -> None:
    (folder / "config.yaml").write_text(ros_yaml(config))
    judged = None if run.metrics is None else [judgement.is_right for judgement in run.metrics.judgements]
    write_matches(folder / "matches.csv", run.matches, judged)
    write_pairs(folder / "loop_closures.txt", run.matches)
    write_g2o(folder / "loop_closures.g2o", run.matches, run.odometry, config.odometry.drift_per_m)
    if run.localizations:
        write_localizations(folder / "localization.csv", run.localizations)
    summary = {
        "name": run.name,
        "created": run.created,
        "model": dict(run.model),
        "notes": list(run.notes),
        "metrics": None if run.metrics is None else run.metrics.to_dict(),
        "latency_ms": {
            stage: {f"p{p}": round(float(np.percentile(seconds, p)) * 1e3, 3) for p in (50, 90, 99)}
            for stage, seconds in run.latencies.items()
            if len(seconds)
        },
    }
    (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_report(folder / "report.html", run)


def write_matches(path: Path, matches: Sequence[PlaceMatch], judged: Sequence[bool | None] | None = None) -> None:
    """Every answer, one a line; empty where a number does not exist. `is_right` (1 or 0): of `judged`, of the match, accepted or not."""
    judgements = [None] * len(matches) if judged is None else judged
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for m, is_right in zip(matches, judgements, strict=True):
            v = m.verification
            geometry = ("", "", "") if v is None else (v.inliers, f"{v.inlier_ratio:.4f}", f"{v.coverage:.4f}")
            scores = ["" if s is None else f"{s:.6f}" for s in (m.similarity, m.runner_up)]
            known = [m.keyframe_id, *((m.match.id, m.match.stamp_ns, m.match.session) if m.match else (None,) * 3)]
            judgement = "" if is_right is None else int(is_right)
            numbers = [*known, *scores, m.consistent_count, *geometry, judgement]
            table.writerow([m.stamp_ns, m.session, m.status.name, *numbers])


def write_localizations(path: Path, localizations: Sequence[Localization]) -> None:
    """Where the robot was in the map, one pose a line; without numbers where it was lost or the map has no pose there.

    `sigma_m` and `sigma_deg` are root mean squares of the standard deviations of position and of rotation, each along three axes.
    """
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(LOCALIZATION_COLUMNS)
        for each in localizations:
            match = (each.match.session, each.match.id) if each.match else ("", "")
            numbers: list[str] = []
            if each.pose is not None:
                position, rotation = (
                    each.pose.map_from_body[:3, 3],
                    matrix_to_quaternion(each.pose.map_from_body[:3, :3]),
                )
                variances = np.diag(each.pose.covariance)
                sigmas = np.sqrt([variances[:3].mean(), variances[3:].mean()]) * (1.0, np.degrees(1.0))
                numbers = [f"{number:.6f}" for number in (*position, *rotation, *sigmas)]
            known = [each.stamp_ns, each.state.name, int(each.is_found), *match]
            table.writerow([*known, *(numbers or [""] * 9), each.reason])


def summary_lines(run: Run) -> list[str]:
    """The figures of a run for a terminal, each with its protocol."""
    accepted = sum(match.accepted for match in run.matches)
    keyframes = sum(match.keyframe_id is not None for match in run.matches)
    sessions = f"   sessions {len(run.sessions)}" if len(run.sessions) > 1 else ""
    lines = [f"queries {len(run.matches)}   keyframes {keyframes}   loop closures {accepted}{sessions}"]
    m = run.metrics
    if m is None:
        lines.append("no ground truth: closures cannot be judged (see --ground-truth-file, --ground-truth-topic)")
    else:
        lines += [
            f"closures: precision {_share(m.precision)} ({m.accepted_true} right, {m.accepted_false} wrong), "
            f"recall {_share(m.recall)} of {m.revisits} queries with a true revisit",
            f"descriptor alone: recall@1 {_share(m.recall_at_1)}  recall@5 {_share(m.recall_at_5)}  "
            f"{_curve_figures(m.descriptor)}",
            f"after verification: {_curve_figures(m.verified)}",
            f"ground truth: covers {m.frames - m.without_pose} of {m.frames} frames ({_percent(m.coverage)})"
            + (f"; {m.undecided} more cannot be judged" if m.undecided else ""),
            f"protocol: {m.protocol.describe()}",
        ]
        if m.warning:
            lines.append(f"warning: {m.warning}")
    if run.localizations:
        found = sum(each.is_found for each in run.localizations)
        poses = sum(each.pose is not None for each in run.localizations)
        lost = sum(each.state is LocalizationState.LOST for each in run.localizations)
        lines.append(f"in the map of earlier drives: found {found} times, lost {lost}; {poses} poses in its frame")
    if run.frames_per_second is not None:
        lines.append(f"{run.frames_per_second:.1f} frames per second")
    return [*lines, *(f"note: {note}" for note in run.notes)]


def _curve_figures(curve: Curve | None) -> str:
    """Of no curve, since verification was off, each is a dash."""
    figures = (
        (None,) * 3 if curve is None else (curve.average_precision, curve.max_recall_at_full_precision, curve.f1_max)
    )
    names = ("AP", "max recall at 100 % precision", "F1max")
    return "  ".join(f"{name} {_share(figure)}" for name, figure in zip(names, figures, strict=True))


def _percent(value: float | None) -> str:
    # rounded down, as in the report: 100 % means all
    return "-" if value is None else f"{np.floor(1000.0 * value + 1e-9) / 10.0:.1f} %"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
