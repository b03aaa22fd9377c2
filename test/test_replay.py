from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from closure_files import read_g2o, read_pairs
from small_worlds import EIGHT_PLACES, EVERY_FRAME, texture

from vpr_ros import cli
from vpr_ros.bags.writer import BagWriter
from vpr_ros.config import Config
from vpr_ros.evaluation.ground_truth import RevisitProtocol
from vpr_ros.evaluation.run_folder import new_folder, summary_lines
from vpr_ros.map.place_map import PlaceMap
from vpr_ros.replay import replay, replay_to_folder
from vpr_ros.rotations import pose_from_quaternion
from vpr_ros.sources import BagSource, open_source
from vpr_ros.types import Camera

S = 10**9
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)


@pytest.fixture
def config(grid_model_path: Path) -> Config:
    return Config().with_values(EVERY_FRAME | {"model.path": str(grid_model_path)})


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Eight places 20 m apart in a row, then back to the first four; true poses on a topic."""
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        for i, place in enumerate(EIGHT_PLACES):
            stamp = (100 + i) * S
            pose = np.eye(4)
            pose[0, 3] = 20.0 * place
            writer.odometry("/truth", stamp, pose, "world", "camera")
            writer.camera_info("/camera_info", stamp, CAMERA)
            writer.image("/image", stamp, texture(place, 320, 240), "camera")
    return path


def test_a_run_folder_holds_everything(bag: Path, tmp_path: Path, config: Config) -> None:
    source = BagSource(bag, ground_truth_topic="/truth")
    folder = new_folder(tmp_path / "runs", "first")
    run = replay_to_folder(source, config, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0))
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "matches.csv", "loop_closures.txt", "loop_closures.g2o", "metrics.json", "report.html",
    }  # fmt: skip
    assert Config.from_yaml(folder / "config.yaml") == config
    rows = list(csv.DictReader((folder / "matches.csv").open()))
    assert [int(row["stamp_ns"]) // S for row in rows] == list(range(100, 113))
    accepted = [row for row in rows if row["status"] == "ACCEPTED"]
    assert [int(row["match_stamp_ns"]) // S for row in accepted] == [100, 101, 102, 103]
    assert [row["is_right"] for row in accepted] == ["1"] * 4
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert (metrics["revisits"], metrics["accepted_true"], metrics["accepted_false"]) == (4, 4, 0)
    assert metrics["recall_at_1"] == 1.0
    assert run.metrics is not None
    assert run.metrics.precision == 1.0
    assert "report" in (folder / "report.html").read_text()
    assert (folder / "loop_closures.g2o").read_text().count("EDGE_SE3:QUAT") <= 4


def test_two_replays_give_the_same_answers_byte_for_byte(bag: Path, tmp_path: Path, config: Config) -> None:
    tables = []
    for name in ("a", "b"):
        folder = new_folder(tmp_path / "runs", name)
        replay_to_folder(BagSource(bag), config, folder, created="today", protocol=RevisitProtocol())
        tables.append(
            [(folder / file).read_bytes() for file in ("matches.csv", "loop_closures.txt", "loop_closures.g2o")]
        )
    assert tables[0] == tables[1]


def test_the_truth_is_never_shown_to_the_detector(bag: Path, config: Config) -> None:
    with_truth = replay(BagSource(bag, ground_truth_topic="/truth"), config)
    without = replay(BagSource(bag), config)
    assert [m.similarity for m in with_truth.matches] == [m.similarity for m in without.matches]
    assert all(k.odom_from_body is None for k in with_truth.detector.map)


def test_a_run_folder_is_never_overwritten(tmp_path: Path) -> None:
    folders = [new_folder(tmp_path, "run") for _ in range(3)]
    assert [f.name for f in folders] == ["run", "run-2", "run-3"]


def test_frames_out_of_order_are_left_out_and_said(tmp_path: Path, config: Config) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for received, stamp in enumerate((100, 101, 101, 100, 102)):
            image = texture(stamp, 320, 240)
            writer.image(
                "/image",
                round((stamp - (0.5 if received == 3 else 0)) * S) + 10**9 * (received == 3),
                image,
                bag_ns=(200 + received) * S,
            )
    done = replay(BagSource(tmp_path / "bag"), config)
    assert done.out_of_order == 2
    assert [m.stamp_ns // S for m in done.matches] == [100, 101, 102]


def test_every_layout_gives_the_same_answers(bag: Path, tmp_path: Path, config: Config) -> None:
    """A bag, a KITTI tree and an image folder with the same frames."""
    kitti = tmp_path / "kitti" / "sequences" / "07"
    (kitti / "image_0").mkdir(parents=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, place in enumerate(EIGHT_PLACES):
        picture = cv2.cvtColor(texture(place, 320, 240), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(kitti / "image_0" / f"{i:06d}.png"), picture)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    (kitti / "times.txt").write_text("".join(f"{float(i):.6e}\n" for i in range(len(EIGHT_PLACES))))
    (kitti / "calib.txt").write_text("P0: 300 0 160 0 0 300 120 0 0 0 1 0\n")
    sources = [BagSource(bag), open_source(tmp_path / "kitti"), open_source(folder, rate_hz=1.0)]
    answers = [[(m.status, m.match) for m in replay(source, config).matches] for source in sources]
    assert answers[0] == answers[1]
    calibrated = [status for status, _ in answers[1]]
    assert calibrated == [status for status, _ in answers[2]]


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def test_the_command_line(bag: Path, tmp_path: Path, grid_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for name, value in EVERY_FRAME.items() for word in ("--set", f"{name}={value}")]
    arguments = ["replay", bag, "--model", grid_model_path, "--out", tmp_path / "runs", "--exclusion-s", 4]
    assert run_cli(*arguments, "--ground-truth-topic", "/truth", *settings) == 0
    said = capsys.readouterr().out
    assert "precision 1.000 (4 right, 0 wrong), recall 1.000 of 4 queries" in said
    assert "protocol: Revisit" in said
    report = Path(said.rsplit("report: ", 1)[1].strip())
    assert report.is_file()
    assert report.parent.parent == tmp_path / "runs"


def drive_twice(root: Path, truth: bool = True) -> Path:
    """TUM layout of a drive to eight places, whose clock then starts again for a drive that goes back from place 7.

    Two frames of elsewhere come first in the second drive: they are what makes the detector believe the new clock.
    """
    (root / "rgb").mkdir(parents=True)
    rgb, poses = [], []
    drives = [[0, 1, 2, 3, 4, 5, 6, 7], [30, 31, 7, 6, 5, 4, 3, 2]]
    for number, places in enumerate(drives):
        for second, place in enumerate(places):
            name = f"rgb/{number}_{second}.png"
            cv2.imwrite(str(root / name), cv2.cvtColor(texture(place, 320, 240), cv2.COLOR_RGB2BGR))
            rgb.append(f"{second}.000000 {name}")
            poses.append(f"{second}.000000 {20.0 * place} 0 0 0 0 0 1")
    (root / "rgb.txt").write_text("\n".join(rgb) + "\n")
    if truth:
        (root / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    return root


def test_a_clock_that_restarts_makes_two_drives_everywhere(tmp_path: Path, config: Config) -> None:
    source = open_source(drive_twice(tmp_path / "twice"))
    folder = new_folder(tmp_path / "runs", "twice")
    run = replay_to_folder(source, config, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0))
    rows = list(csv.DictReader((folder / "matches.csv").open()))
    assert [row["session"] for row in rows] == ["twice"] * 8 + ["twice+"] * 6
    closures = [(row["session"], int(row["stamp_ns"]) // S, row["match_session"], int(row["match_stamp_ns"]) // S)
                for row in rows if row["status"] == "ACCEPTED"]  # fmt: skip
    assert closures == [("twice+", second, "twice", 9 - second) for second in range(3, 8)]
    metrics = run.metrics
    assert metrics is not None
    # the first image of the second drive is at the place of the last one of the first: nobody knows what was between
    assert (metrics.without_pose, metrics.undecided, metrics.queries) == (0, 1, 13)
    assert (metrics.revisits, metrics.accepted_true, metrics.accepted_false) == (5, 5, 0)
    assert metrics.recall_at_1 == 1.0
    graph = read_g2o(folder / "loop_closures.g2o")
    pairs = read_pairs(folder / "loop_closures.txt")
    assert {(pair.query.session, pair.match.session) for pair in pairs} == {("twice+", "twice")}
    assert len({frame for pair in pairs for frame in (pair.query, pair.match)}) == 10
    assert len(graph.vertices) == 2 * len(graph.edges)
    # each frame has its own picture, though two have one stamp
    for place, match in zip([0, 1, 2, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2], run.matches, strict=True):
        expected = texture(place, 320, 240)
        np.testing.assert_array_equal(run.image_of(match.frame), expected)


def test_a_truth_that_cannot_be_attributed_judges_nothing_wrong(tmp_path: Path, config: Config) -> None:
    root = drive_twice(tmp_path / "twice")
    truth = (root / "groundtruth.txt").read_text().splitlines()
    (root / "groundtruth.txt").write_text("\n".join(truth[:8]))
    folder = new_folder(tmp_path / "runs", "twice")
    run = replay_to_folder(
        open_source(root), config, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0)
    )
    assert run.metrics is not None
    assert (run.metrics.accepted, run.metrics.accepted_true, run.metrics.accepted_false) == (5, 0, 0)
    assert run.metrics.coverage == 2 / 14
    assert any("restarts its clock 0 times and the images 1 times" in note for note in run.notes)
    assert any(line.startswith("warning: the ground truth covers 2 of 14") for line in summary_lines(run))
    assert "Warning" in (folder / "report.html").read_text()


def test_odometry_places_the_frames_of_a_graph(tmp_path: Path, config: Config) -> None:
    places = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
    with BagWriter(tmp_path / "bag") as writer:
        for i, place in enumerate(places):
            pose = np.eye(4)
            pose[0, 3] = 5.0 * place
            writer.odometry("/truth", i * S + S, pose, "world", "camera")
            writer.image("/image", i * S + S, texture(place, 320, 240), "camera")
    source = BagSource(tmp_path / "bag", ground_truth_topic="/truth", odometry_from_poses=True)
    folder = new_folder(tmp_path / "runs", "first")
    run = replay_to_folder(source, config, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0))
    graph = read_g2o(folder / "loop_closures.g2o")
    assert [vertex[0, 3] for vertex in graph.vertices.values()] == [5.0 * place for place in places]
    steps = [edge for edge in graph.edges if edge.to == edge.from_ + 1]
    assert len(steps) == len(places) - 1
    assert len(run.odometry) == 1


@pytest.mark.parametrize("known_by", ["parameter", "/tf_static"])
def test_odometry_of_a_body_places_the_cameras_once_it_is_known_where_they_sit(
    tmp_path: Path, config: Config, known_by: str
) -> None:
    body_from_camera = pose_from_quaternion(np.array([0.3, 0, 1.2]), np.array([-0.5, 0.5, -0.5, 0.5]))
    with BagWriter(tmp_path / "bag") as writer:
        if known_by == "/tf_static":
            writer.static_transform(S, "base_link", "lens", body_from_camera)
        for i, place in enumerate([0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]):
            odom_from_body = np.eye(4)
            odom_from_body[0, 3] = 5.0 * place
            writer.odometry("/odom", i * S + S, odom_from_body, "odom", "base_link")
            writer.image("/image", i * S + S, texture(place, 320, 240), "lens")
    if known_by == "parameter":
        config = config.with_values({"odometry.body_from_camera": "0.3 0 1.2 -0.5 0.5 -0.5 0.5"})
    source = BagSource(tmp_path / "bag", odom_topic="/odom")
    folder = new_folder(tmp_path / "runs", "first")
    replay_to_folder(source, config, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0))
    graph = read_g2o(folder / "loop_closures.g2o")
    for number, place in enumerate([0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]):
        expected = body_from_camera.copy()
        expected[0, 3] += 5.0 * place
        np.testing.assert_allclose(graph.vertices[number], expected, atol=1e-6)
    assert sum(edge.to == edge.from_ + 1 for edge in graph.edges) == 10


def test_without_verification_its_figures_are_dashes(bag: Path, tmp_path: Path, config: Config) -> None:
    source = BagSource(bag, ground_truth_topic="/truth")
    folder = new_folder(tmp_path / "runs", "first")
    off = config.with_values({"verification.enabled": False})
    run = replay_to_folder(source, off, folder, created="today", protocol=RevisitProtocol(exclusion_s=4.0))
    assert "after verification: AP -  max recall at 100 % precision -  F1max -" in summary_lines(run)
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["verified"] is None


def test_a_folder_is_judged_from_the_command_line(
    tmp_path: Path, grid_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a truth on another clock, slower than the images and out of phase."""
    images = tmp_path / "images"
    images.mkdir()
    for i, place in enumerate(EIGHT_PLACES):
        cv2.imwrite(str(images / f"{i}.png"), cv2.cvtColor(texture(place, 320, 240), cv2.COLOR_RGB2BGR))
    x = np.interp(np.arange(0, 12.01, 0.4), range(13), [20.0 * place for place in EIGHT_PLACES])
    rows = [f"{100 + 0.4 * k:.3f} {at:.6f} 0 0 0 0 0 1" for k, at in enumerate(x)]
    (tmp_path / "truth.txt").write_text("\n".join(rows))
    settings = [word for name, value in EVERY_FRAME.items() for word in ("--set", f"{name}={value}")]
    arguments = ["replay", images, "--rate-hz", 1, "--model", grid_model_path, "--out", tmp_path / "runs"]
    arguments += ["--ground-truth-file", tmp_path / "truth.txt", "--exclusion-s", 4, *settings]
    assert run_cli(*arguments) == 0
    said = capsys.readouterr().out
    assert "warning: the ground truth covers none of 13 frames" in said
    (option,) = (word for word in said.split() if word.startswith("--ground-truth-offset-s="))
    assert run_cli(*arguments, option, "--ground-truth-gap-s", 0.5, "--max-angle-deg", 40) == 0
    said = capsys.readouterr().out
    # seconds 7 and 11 lie within jumps that no camera makes, back to place 0 and on to place 99
    assert "ground truth: covers 11 of 13 frames (84.6 %)" in said
    assert "precision 1.000 (3 right, 0 wrong), recall 1.000 of 3 queries" in said
    assert "warning: the ground truth covers 11 of 13 frames (85 %)" in said
    assert "at most 0.5 s" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "/nowhere: no such file or folder"),
        (["BAG", "--set", "match.topk=3"], "did you mean 'match.top_k'"),
        (["BAG", "--set", "match.top_k"], "--set needs NAME=VALUE"),
        (["BAG", "--model", "/nowhere.onnx"], "cannot read model /nowhere.onnx"),
        (["BAG", "--image-topic", "/front"], "/front"),
        (["BAG", "--sequence", "00"], "KITTI"),
        (["BAG", "--config", "/nowhere.yaml"], "cannot read /nowhere.yaml"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(
    bag: Path,
    tmp_path: Path,
    grid_model_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    words: list[object] = [bag if word == "BAG" else word for word in arguments]
    if "--model" not in arguments:
        words += ["--model", grid_model_path]
    assert run_cli("replay", *words, "--out", tmp_path / "runs") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("vpr: ")
    assert said.count("\n") == 1


def test_a_replay_of_nothing_that_can_be_read_does_not_succeed(
    tmp_path: Path, grid_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "caf\udce9.png").write_bytes(b"no image")
    words = ["replay", tmp_path / "images", "--model", grid_model_path, "--out", tmp_path / "runs"]
    assert run_cli(*words) == 2
    assert "not one image could be used" in capsys.readouterr().err


def test_a_truncated_bag_is_replayed_to_its_last_good_message(bag: Path, tmp_path: Path, config: Config) -> None:
    database = next(bag.glob("*.db3"))
    content = database.read_bytes()
    database.write_bytes(content[: len(content) * 2 // 3])
    source = BagSource(bag)
    done = replay(source, config)
    assert 3 <= len(done.matches) < len(EIGHT_PLACES)
    assert any("last good message" in note or "damaged" in note for note in source.notes)


def test_kitti_00_closes_its_loops(shared_data: Path, tmp_path: Path) -> None:
    """The promise of the README: `vpr replay ../shared/data/kitti --sequence 00` with every default."""
    source = open_source(shared_data / "kitti", "00")
    run = replay_to_folder(source, Config(), tmp_path, created="today", protocol=RevisitProtocol())
    metrics = run.metrics
    assert metrics is not None
    assert metrics.queries == 1700
    assert metrics.revisits == 80
    assert metrics.precision == 1.0
    assert metrics.recall is not None
    assert metrics.recall >= 0.93
    assert metrics.descriptor.max_recall_at_full_precision is not None
    assert metrics.descriptor.max_recall_at_full_precision >= 0.95


def lap(count: int, shift_m: float, start: int) -> list[tuple[int, int, float]]:
    """Second, place and position along the street, of `count` frames."""
    return [(start + i, i, 5.0 * i + shift_m) for i in range(count)]


@pytest.mark.parametrize(("shift_m", "kind"), [(0.0, ""), (-400.0, "jumped by"), (6e5, "jumped by")])
def test_true_revisits_in_a_bag_close_although_its_odometry_was_reset(
    tmp_path: Path, config: Config, shift_m: float, kind: str
) -> None:
    back = [(8 + i, 7 - i, 35.0 - 5.0 * i) for i in range(8)]
    with BagWriter(tmp_path / "bag") as writer:
        for second, place, x in [*lap(8, 0.0, 0), *back, *lap(8, shift_m, 16)]:
            pose = np.eye(4)
            pose[0, 3] = x
            writer.odometry("/odom", (100 + second) * S, pose, "odom", "base_link")
            writer.image("/image", (100 + second) * S, texture(place, 320, 240), "camera")
    done = replay(BagSource(tmp_path / "bag", odom_topic="/odom"), config)
    assert [match.accepted for match in done.matches[-6:]] == [True] * 6
    assert [kind in event for event in done.events] == ([True] if kind else [])
    assert {fix.odometry.segment for fix in done.matches if fix.odometry} == ({0, 1} if kind else {0})


def test_images_without_a_stamp_take_the_time_of_recording(tmp_path: Path, config: Config) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for i, place in enumerate(EIGHT_PLACES):
            writer.image("/image", 0, texture(place, 320, 240), "camera", bag_ns=(100 + i) * S)
    source = BagSource(tmp_path / "bag")
    done = replay(source, config)
    assert [match.stamp_ns // S for match in done.matches] == list(range(100, 100 + len(EIGHT_PLACES)))
    assert (
        f"{len(EIGHT_PLACES)} of {len(EIGHT_PLACES)} images carry no stamp: the time of recording stands in"
        in source.notes
    )


def test_a_clock_that_is_set_while_recording_starts_a_session_that_is_noted(tmp_path: Path, config: Config) -> None:
    """Header stamps jump by an hour, the recorder's clock does not: place 7 was seen a moment ago, place 0 was not."""
    places = [0, 1, 2, 3, 4, 5, 6, 7, 50, 51, 7, 7, 0]
    with BagWriter(tmp_path / "bag") as writer:
        for i, place in enumerate(places):
            stamp = (100 + i + (3600 if i >= 8 else 0)) * S
            writer.image("/image", stamp, texture(place, 320, 240), "camera", bag_ns=(100 + i) * S)
    done = replay(BagSource(tmp_path / "bag"), config, session="day")
    assert done.out_of_order == 2
    assert [match.accepted for match in done.matches[8:]] == [False, False, True]
    assert [match.session for match in done.matches] == ["day"] * 8 + ["day+"] * 3
    assert done.events == ("the stamps of the images jumped forward by 3601.000 s: session 'day+' begins",)


def test_a_recording_may_be_recorded_in_a_map(bag: Path, tmp_path: Path, config: Config) -> None:
    """With the same answers as in memory; the next recording finds the places of the first one."""
    town = tmp_path / "town.vprmap"
    in_memory = replay(BagSource(bag), config, session="drive")
    first = replay(BagSource(bag), config, session="drive", map_file=town)
    first.detector.map.close()
    assert [str(match) for match in first.matches] == [str(match) for match in in_memory.matches]
    second = replay(BagSource(bag), config, session="drive", map_file=town)
    second.detector.map.close()
    assert {match.session for match in second.matches} == {"drive-2"}
    known = [match.match for match in second.matches if match.accepted and match.match is not None]
    assert [ref.session for ref in known[:8]] == ["drive"] * 8
    searched = replay(BagSource(bag), config.with_values({"map.mode": "localization"}), session="drive", map_file=town)
    assert [match.accepted for match in searched.matches] == [True] * 12 + [True]
    assert len(searched.detector.map) == 2 * len(in_memory.detector.map)
    assert all(match.keyframe_id is None for match in searched.matches)


def test_what_cannot_be_recorded_in_is_refused_before_the_replay(
    bag: Path, tmp_path: Path, grid_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "town.vprmap").write_text("precious")
    options = ("--map", tmp_path / "town.vprmap", "--set", f"model.path={grid_model_path}", "--out", tmp_path / "runs")
    assert run_cli("replay", bag, *options) == 2
    assert "is corrupt or no map" in capsys.readouterr().err
    assert (tmp_path / "town.vprmap").read_text() == "precious"


def five_laps(folder: Path) -> Path:
    """Of eight places, ten views of each."""
    with BagWriter(folder / "bag") as writer:
        for i in range(400):
            view = texture(i // 10 % 8, 330, 240)[:, i % 10 : i % 10 + 320]
            writer.image("/image", (100 + i) * S, np.ascontiguousarray(view), "camera")
    return folder / "bag"


def test_a_map_within_its_budget_still_closes_loops(tmp_path: Path, config: Config) -> None:
    """What is pruned are views, not places."""
    path = five_laps(tmp_path)
    limits = {"map.max_keyframes": 60, "match.island_gap": 5, "consistency.min_hits": 2, "verification.enabled": False}
    town = tmp_path / "town.vprmap"
    done = replay(BagSource(path), config.with_values(limits), session="drive", map_file=town)
    assert len(done.detector.map) <= 63
    unlimited = replay(BagSource(path), config.with_values(limits | {"map.max_keyframes": 0}), session="drive")
    assert len(unlimited.detector.map) == 400
    accepted, of_all = (sum(match.accepted for match in run.matches) for run in (done, unlimited))
    assert accepted >= 0.85 * of_all > 200  # 60 views stay of 80 that differ
    names = done.detector.map.names
    done.detector.map.close()
    place_map = PlaceMap.load(town, done.detector.engine.model.id)
    assert place_map.names == names
    assert {place_map[ref].elapsed_ns // (10 * S) % 8 for ref in names} == set(range(8))


def test_a_map_within_its_megabytes(tmp_path: Path, config: Config) -> None:
    """With pictures a fraction of the keyframes fits, and no place is lost."""
    path = five_laps(tmp_path)
    limits = {"map.max_mb": 1, "match.island_gap": 5, "consistency.min_hits": 2}
    town = tmp_path / "town.vprmap"
    done = replay(BagSource(path), config.with_values(limits), session="drive", map_file=town)
    kept, used = done.detector.map, done.detector.map.used_bytes
    assert 2**19 < used <= 1.2 * 2**20
    assert {kept[ref].elapsed_ns // (10 * S) % 8 for ref in kept.names} == set(range(8))
    count = len(kept)
    assert 8 <= count < 300
    kept.close()
    assert len(PlaceMap.load(town, done.detector.engine.model.id)) == count


def test_a_drive_is_found_in_the_map_of_an_earlier_one(bag: Path, tmp_path: Path, config: Config) -> None:
    """By `localization.csv` and a line of the summary: the same drive again is where it was.

    The last place is so far off that odometry cannot be right there: it is recognised, and has no pose.
    """
    values = config.with_values({"relocalization.max_distance_m": 1.0, "exclusion.away_similarity": 1.0})
    town = tmp_path / "town.vprmap"
    replay(BagSource(bag, odom_topic="/truth"), values, session="first", map_file=town).detector.map.close()
    again = values.with_values({"map.mode": "localization"})
    folder = new_folder(tmp_path / "runs", "again")
    source = BagSource(bag, odom_topic="/truth")
    run = replay_to_folder(source, again, folder, created="now", protocol=RevisitProtocol(), map_file=town)
    rows = list(csv.DictReader((folder / "localization.csv").open()))
    assert len(rows) == len(run.localizations) > 3
    assert (rows[0]["state"], rows[0]["is_found"], rows[0]["match_session"]) == ("LOCALIZED", "1", "first")
    assert {row["is_found"] for row in rows[1:]} == {"0"}
    odometry = {frame.stamp_ns: frame.odom_from_body for frame in source}
    assert rows[-1]["x_m"] == ""
    for row in rows[:-1]:
        truth = odometry[int(row["stamp_ns"])]
        assert truth is not None
        assert float(row["x_m"]) == pytest.approx(truth[0, 3], abs=1.0)
        assert float(row["sigma_m"]) > 0
    assert "in the map of earlier drives: found 1 times, lost 0" in "\n".join(summary_lines(run))
