"""True poses in all the forms in which people have them, of drives whose exact poses are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpr_ros.bags.writer import BagWriter
from vpr_ros.errors import SourceError
from vpr_ros.sources import BagSource, FolderSource, KittiSource, Source, TumSource, VideoSource, open_source
from vpr_ros.sources.truth import ClockedTruth, read_truth, runs_of_clock
from vpr_ros.trajectory import is_known

S = 10**9
EPOCH = 1_700_000_000
COUNT = 60
TIMES = [0.1 * i for i in range(COUNT)]
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)

Row = list[str]


def pose(time_s: float) -> np.ndarray:
    """5 m/s ahead in a slow turn."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.2 * time_s, 0.0]))[0]
    matrix[:3, 3] = 5.0 * time_s, -1.0, 0.25
    return matrix


def row(time_s: float, at: float | None = None) -> Row:
    """Of the pose at `at`, stamped `time_s`."""
    matrix = pose(time_s if at is None else at)
    angle = 0.2 * (time_s if at is None else at)
    quaternion = (0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2))
    return [f"{time_s:.6f}", *(f"{value:.9f}" for value in (*matrix[:3, 3], *quaternion))]


def rows(times: Sequence[float] = TIMES, epoch: int = EPOCH) -> list[Row]:
    return [[f"{epoch + round(t * 1e6) // 10**6}.{round(t * 1e6) % 10**6:06d}", *row(t)[1:]] for t in times]


def text(table: Sequence[Row], separator: str = " ", header: str = "") -> str:
    return "".join(line + "\n" for line in [header, *(separator.join(each) for each in table)] if line)


def tum(root: Path, truth: bytes | str, epoch: int = EPOCH, times: Sequence[float] = TIMES) -> TumSource:
    (root / "rgb").mkdir(parents=True)
    cv2.imwrite(str(root / "rgb" / "a.png"), IMAGE)
    (root / "rgb.txt").write_text(text([[r[0], "rgb/a.png"] for r in rows(times, epoch)]))
    (root / "groundtruth.txt").write_bytes(truth.encode() if isinstance(truth, str) else truth)
    return TumSource(root)


def check(source: Source, missing: Sequence[int] = (), times: Sequence[float] = TIMES) -> None:
    """The poses of all frames are right, but for those that are missing."""
    (found,) = source.true_poses([np.array([frame.stamp_ns for frame in source], np.int64)])
    assert np.flatnonzero(~is_known(found)).tolist() == list(missing)
    for i in np.flatnonzero(is_known(found)):
        np.testing.assert_allclose(found[i], pose(times[i]), atol=2e-3)


HEADER = "# timestamp tx ty tz qx qy qz qw"
EUROC = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], "
    "v_RS_R_x [m s^-1], v_RS_R_y [m s^-1], v_RS_R_z [m s^-1], b_w_RS_S_x [rad s^-1], b_w_RS_S_y [rad s^-1], "
    "b_w_RS_S_z [rad s^-1], b_a_RS_S_x [m s^-2], b_a_RS_S_y [m s^-2], b_a_RS_S_z [m s^-2]"
)


def euroc() -> list[Row]:
    return [[r[0].replace(".", "") + "000", *r[1:4], r[7], *r[4:7], *["0.5"] * 9] for r in rows()]


FORMS: dict[str, bytes | str] = {
    "as TUM has it": text(rows(), header=HEADER),
    "no comment": text(rows()),
    "byte order mark": b"\xef\xbb\xbf" + text(rows()).encode(),
    "byte order mark and comment": b"\xef\xbb\xbf" + text(rows(), header=HEADER).encode(),
    "utf-16": text(rows(), header=HEADER).encode("utf-16"),
    "utf-16 big endian": b"\xfe\xff" + text(rows()).encode("utf-16-be"),
    "crlf": text(rows(), header=HEADER).replace("\n", "\r\n"),
    "cr": text(rows(), header=HEADER).replace("\n", "\r"),
    "tabs": text(rows(), "\t"),
    "blanks at the end": text([[*r, ""] for r in rows()]),
    "commas": text(rows(), ","),
    "commas and blanks": text(rows(), ", "),
    "semicolons": text(rows(), ";"),
    "decimal commas": text([[word.replace(".", ",") for word in r] for r in rows()]),
    "header without a mark": text(rows(), header=HEADER.removeprefix("# ")),
    "header with %": text(rows(), header=HEADER.replace("#", "%")),
    "comments after values": text([[*r, "# tracked"] for r in rows()]),
    "in the order of the header": text(
        [[str(k), *r[1:4], r[7], *r[4:7], r[0]] for k, r in enumerate(rows())], header="id x y z qw qx qy qz time"
    ),
    "names of ROS": text(
        [["7", r[0].replace(".", "") + "000", "map", *r[1:]] for r in rows()],
        ",",
        "%time,field.header.stamp,field.header.frame_id,"
        + ",".join(f"field.pose.position.{a}" for a in "xyz")
        + ","
        + ",".join(f"field.pose.orientation.{a}" for a in "xyzw"),
    ),
    "EuRoC": text(euroc(), ",", EUROC),
    "EuRoC without its header": text(euroc(), ","),
    "ns": text([[r[0].replace(".", "") + "000", *r[1:]] for r in rows()]),
    "us": text([[r[0].replace(".", ""), *r[1:]] for r in rows()]),
    "ms": text([[r[0].replace(".", "")[:-3], *r[1:]] for r in rows()]),
    "ns as floats": text([[f"{int(r[0].replace('.', '') + '000'):.18e}", *r[1:]] for r in rows()]),
    "latest first": text(rows()[::-1]),
    "each twice": text([r for r in rows() for _ in range(2)]),
    "quaternions of another length": text([[*r[:4], *(f"{3 * float(q):.9f}" for q in r[4:])] for r in rows()]),
    "KITTI rows": text([[f"{v:.9e}" for v in pose(t)[:3].ravel()] for t in TIMES]),
    "another phase": text(rows([t + 0.043 for t in [-0.1, *TIMES]])),
    "1 Hz": text(rows([t - 0.2 for t in range(8)])),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_poses(tmp_path: Path, form: str) -> None:
    source = tum(tmp_path / "recording", FORMS[form])
    check(source)
    unit = {"EuRoC": "ns", "names": "ns", "ns": "ns", "us": "us", "ms": "ms"}.get(form.split()[0])
    assert source.notes == ([f"groundtruth.txt: its stamps are read as {unit}"] if unit else [])


def spoilt(change: Callable[[Row], Row]) -> str:
    """Rows 7 and 30 are changed."""
    return text([change(r) if i in (7, 30) else r for i, r in enumerate(rows())])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: [r[0], *["nan"] * 7], "is not a position"),
        (lambda r: [r[0], "inf", *r[2:]], "is not a position"),
        (lambda r: [*r[:4], *["0"] * 4], "is not a rotation"),
        (lambda r: [*r[:4], *["nan"] * 4], "is not a rotation"),
        (lambda r: ["nan", *r[1:]], "is not a time"),
        (lambda r: ["1e400", *r[1:]], "is out of range"),
        (lambda r: [*r[:3], "lost", *r[4:]], "could not convert"),
        (lambda r: r[:5], "found 5 words"),
        (lambda r: [*r[:7], r[7][:2]], "not as long as the others"),
    ],
)
def test_rows_without_a_pose_are_dropped_and_counted(tmp_path: Path, change: Callable[[Row], Row], reason: str) -> None:
    source = tum(tmp_path / "recording", spoilt(change))
    check(source)  # between their neighbours
    (note,) = source.notes
    assert note.startswith("groundtruth.txt: 2 of 60 rows hold no pose and are not used; the first, line 8: ")
    assert reason in note


def test_a_file_that_ends_within_a_line(tmp_path: Path) -> None:
    for cut in (3, 20, 60):
        source = tum(tmp_path / str(cut), text(rows())[:-cut])
        check(source, missing=[] if cut == 3 else [59])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no poses; expected lines 't tx ty tz qx qy qz qw'"),
        (HEADER + "\n", "holds no poses"),
        ("1 2 3 4\n1 2 3 4\n", r"txt:1: expected 't tx ty tz qx qy qz qw', found 4 words"),
        ("\n1 0 0 0 0 0 0 0\n", r"txt:2: .* is not a rotation"),
        (b"\xff\xfe\x00\xd8", "cannot be read as text"),
        (b"\x80\x81 \x00", "cannot be read as text"),
    ],
)
def test_a_file_without_a_pose_is_refused(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        tum(tmp_path / "recording", content)


def test_rows_without_times_that_are_not_as_many_as_the_images_are_refused(tmp_path: Path) -> None:
    kitti = text([[f"{v:.9e}" for v in pose(t)[:3].ravel()] for t in TIMES[:-1]])
    with pytest.raises(SourceError, match="59 rows and 60 images"):
        next(iter(tum(tmp_path / "recording", kitti)))


@pytest.mark.parametrize(
    ("shift_s", "epoch"), [(3600, EPOCH), (-2 * 3600, EPOCH), (18, EPOCH), (-37, EPOCH), (0, 0), (-0.35, EPOCH)]
)
def test_an_offset_is_proposed_but_never_applied(tmp_path: Path, shift_s: float, epoch: int) -> None:
    stamps = [r[0] for r in rows([t + shift_s for t in TIMES], epoch)]
    shifted = [[stamp, *row(t)[1:]] for stamp, t in zip(stamps, TIMES, strict=True)]
    source = tum(tmp_path / "recording", text(shifted))
    images = np.array([frame.stamp_ns for frame in source], np.int64)
    offset_s = -shift_s if epoch else EPOCH
    covered = is_known(source.true_poses([images])[0]).sum()
    assert covered == (56 if shift_s == -0.35 else 0)
    option = next(note for note in source.notes if "--ground-truth-offset-s=" in note).split("offset-s=")[1].split()[0]
    assert float(option.rstrip(";")) == pytest.approx(offset_s)
    check(TumSource(tmp_path / "recording", ground_truth_offset_s=float(option.rstrip(";"))))


def test_a_truth_that_is_too_slow_names_the_option(tmp_path: Path) -> None:
    times = [0.1 * i for i in range(200)]
    source = tum(tmp_path / "recording", text(rows([2.5 * k + 0.05 for k in range(9)])), times=times)
    images = np.array([frame.stamp_ns for frame in source], np.int64)
    assert not is_known(source.true_poses([images])[0]).any()
    assert any("--ground-truth-gap-s=2.75" in note for note in source.notes)
    assert is_known(source.true_poses([images], max_gap_s=2.75)[0]).sum() == 199


def test_every_source_can_be_judged(tmp_path: Path) -> None:
    """Folder, video, KITTI, TUM and bag take the same file, in place of what they may have of their own."""
    times = [0.04 * i for i in range(20)]
    folder, kitti = tmp_path / "folder", tmp_path / "kitti" / "sequences" / "00" / "image_0"
    for parent in (folder, kitti):
        parent.mkdir(parents=True)
        for i in range(20):
            cv2.imwrite(str(parent / f"{i:06d}.png"), IMAGE)
    (kitti.parent / "times.txt").write_text("".join(f"{t:.6e}\n" for t in times))
    tum(tmp_path / "tum", "1 0 0 0 0 0 0 1\n", epoch=0, times=times)
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 24))
    with BagWriter(tmp_path / "bag") as bag:
        for t in times:
            bag.image("/image", round(t * S) + S, IMAGE)
            writer.write(IMAGE)
    writer.release()
    options: dict[str, dict[str, float]] = {"folder": {"rate_hz": 25.0}, "bag": {"ground_truth_offset_s": 1.0}}
    of_images = tmp_path / "kitti.txt"
    of_images.write_text(text([[f"{v:.9e}" for v in pose(t)[:3].ravel()] for t in times]))
    for name in ("folder", "kitti", "tum", "a.avi", "bag"):
        path = tmp_path / "gt.txt"
        path.write_text(text([row(t) for t in times]))
        check(open_source(tmp_path / name, ground_truth_file=path, **options.get(name, {})), times=times)
        rate = {"rate_hz": 25.0} if name == "folder" else {}
        check(open_source(tmp_path / name, ground_truth_file=of_images, **rate), times=times)
    with pytest.raises(SourceError, match="no ground truth that an offset"):
        FolderSource(folder, ground_truth_offset_s=1.0)
    with pytest.raises(SourceError, match="no times that an offset"):
        list(FolderSource(folder, ground_truth_file=of_images, ground_truth_offset_s=1.0))
    assert isinstance(open_source(tmp_path / "kitti"), KittiSource)
    assert isinstance(open_source(tmp_path / "a.avi"), VideoSource)


@pytest.mark.parametrize("rate_hz", [1, 2, 5, 10, 20])
def test_a_topic_slower_than_the_camera_and_out_of_phase(tmp_path: Path, rate_hz: int) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for t in TIMES:
            bag.image("/image", EPOCH * S + round(t * S), IMAGE)
        for k in range(-1, 7 * rate_hz + 1):
            t = k / rate_hz + 0.007
            bag.odometry("/gps", EPOCH * S + round(t * S), pose(t))
    check(BagSource(tmp_path / "bag", ground_truth_topic="/gps"))


@pytest.mark.parametrize("step_s", [0.1, 0.4, 1.0])
@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("begin_s", [0, 1000, EPOCH])
def test_units_of_a_truth_on_another_clock(tmp_path: Path, unit: str, factor: int, step_s: float, begin_s: int) -> None:
    """Images begin at 0. No other unit may make the stamps of another clock look like the images' by chance."""
    times = [round((begin_s + step_s * k) * factor * 1000) / 1000 for k in range(int(12 / step_s))]
    (tmp_path / "a.txt").write_text(text([[f"{t:.3f}", *row(step_s * k)[1:]] for k, t in enumerate(times)]))
    images = np.arange(120) * S // 10
    truth = read_truth(tmp_path / "a.txt").on_clock_of(images)
    (poses,) = truth.poses_of([images])
    if begin_s == 0:
        assert is_known(poses).sum() >= 110
    else:
        assert not is_known(poses).any()
    if begin_s != 1000 or unit == "s":  # a short relative time in another unit than the images' could be any
        assert truth.stamps[0] == begin_s * S
        assert bool(truth.notes) == (unit != "s")
    if begin_s == EPOCH:
        assert f"--ground-truth-offset-s=-{EPOCH}" in (truth.reason([images]) or "")


def test_stamps_of_messages_have_one_unit(tmp_path: Path) -> None:
    """Whatever a comparison would show: the truth of an hour that the camera saw two seconds of."""
    with BagWriter(tmp_path / "bag") as bag:
        for t in TIMES[:20]:
            bag.image("/image", S + round(t * S), IMAGE)
        for k in range(360):
            bag.odometry("/gps", 10 * S + k * 10 * S, pose(10.0 * k))
    source = BagSource(tmp_path / "bag", ground_truth_topic="/gps")
    assert not is_known(source.true_poses([np.arange(20) * S // 10 + S])[0]).any()
    assert not any("its stamps are read" in note for note in source.notes)


NOWHERE = np.zeros((4, 4))
NOWHERE[0, 3] = math.inf


def test_messages_without_a_pose_are_counted(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for i, t in enumerate(TIMES):
            bag.image("/image", EPOCH * S + round(t * S), IMAGE)
            bag.odometry("/gps", EPOCH * S + round(t * S), NOWHERE + np.eye(4) if i % 20 == 7 else pose(t))
    source = BagSource(tmp_path / "bag", ground_truth_topic="/gps")
    check(source)
    assert source.notes == ["/gps: 3 of 60 messages hold no pose and are not used"]


# Two drives with the same stamps: the second is 1 km further.
FAR = np.array([[1, 0, 0, 1000], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
FIRST, SECOND = np.arange(0, 60) * 10**8, np.arange(5, 45) * 10**8
DRIVES = np.array([*(pose(s / S) for s in FIRST), *(FAR @ pose(s / S) for s in SECOND)])
BOTH = ClockedTruth("truth", np.concatenate([FIRST, SECOND]), DRIVES)


def test_a_truth_that_restarts_with_the_camera_is_told_apart() -> None:
    first, second = BOTH.poses_of([FIRST[::2], SECOND[1:] - 3 * 10**7])
    np.testing.assert_allclose(first, DRIVES[:60:2])
    assert is_known(second).all()
    np.testing.assert_allclose(second[:, 0, 3], DRIVES[61:, 0, 3] - 0.15, atol=1e-6)


def test_a_truth_that_could_be_of_several_drives_is_of_none() -> None:
    once = ClockedTruth("truth", FIRST, DRIVES[:60])
    first, second = once.poses_of([FIRST, SECOND])
    # what only the first drive has is certain
    assert np.flatnonzero(is_known(first)).tolist() == [*range(5), *range(45, 60)]
    assert not is_known(second).any()
    (alone,) = BOTH.poses_of([FIRST])
    assert np.flatnonzero(is_known(alone)).tolist() == [*range(5), *range(45, 60)]
    assert "restarts its clock 0 times and the images 1 times" in (once.reason([FIRST, SECOND]) or "")


def test_sessions_whose_stamps_differ_need_no_restart_of_the_truth() -> None:
    later = FIRST + 100 * S
    truth = ClockedTruth(
        "truth", np.concatenate([FIRST, later]), np.array([pose(s / S % 100) for s in [*FIRST, *later]])
    )
    for sessions in ([FIRST, later], [later, FIRST]):
        assert all(is_known(poses).all() for poses in truth.poses_of(sessions))


def test_one_stray_stamp_restarts_no_clock() -> None:
    images = FIRST + 50 * S
    for stray in (0, 3000 * S, 49 * S, images[40]):
        stamps = images.copy()
        stamps[20] = stray
        assert len(runs_of_clock(stamps)) == 1
        assert len(runs_of_clock(10 * stamps)) == 1, "1 Hz"
        (poses,) = ClockedTruth("truth", stamps, DRIVES[:60]).poses_of([images])
        np.testing.assert_allclose(poses, DRIVES[:60], atol=2e-3)


@settings(deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=4), st.integers(2, 100))
def test_runs_end_where_the_clock_steps_back(lengths: list[int], back_s: int) -> None:
    runs = [np.arange(length) * S // 10 for length in lengths]
    begin, stamps = 0, []
    for run in runs:
        stamps.append(begin + run)
        begin = int(stamps[-1][-1]) - back_s * S
    found = runs_of_clock(np.concatenate(stamps))
    assert [len(run) for run in found] == lengths
    assert np.concatenate(found).tolist() == list(range(sum(lengths)))


def test_a_bag_whose_clocks_restart(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for number, (stamps, poses) in enumerate(((FIRST, DRIVES[:60]), (SECOND, DRIVES[60:]))):
            for stamp, at in zip(stamps.tolist(), poses, strict=True):
                received = (100 * number) * S + stamp + S
                image = np.full_like(IMAGE, 100 * number + stamp // S)
                bag.image("/image", S + stamp, image, bag_ns=received)
                bag.odometry("/gps", S + stamp, at, bag_ns=received)
    source = BagSource(tmp_path / "bag", ground_truth_topic="/gps", odometry_from_poses=True)
    frames = list(source)
    np.testing.assert_allclose([frame.odom_from_body for frame in frames], DRIVES, atol=1e-9)
    first, second = source.true_poses([FIRST + S, SECOND + S])
    np.testing.assert_allclose(np.concatenate([first, second]), DRIVES, atol=1e-9)
    # one stamp, two images
    assert frames[10].stamp_ns == frames[65].stamp_ns
    for number in (10, 65):
        found = source.image_of(number)
        assert found is not None
        np.testing.assert_array_equal(found, frames[number].image)


def test_images_are_numbered_as_they_were_given(tmp_path: Path) -> None:
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), 10 * i, np.uint8))
    (tmp_path / "1.png").write_bytes(b"rubbish")
    source = FolderSource(tmp_path)
    for number, frame in enumerate(source):
        image = source.image_of(number)
        assert image is not None
        np.testing.assert_array_equal(image, frame.image)


def test_rows_of_a_file_come_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2 2 0 0 0 0 0 1\n1 1 0 0 0 0 0 9\n1.5 1.5 0 0 0 0 0 1\n")
    truth = read_truth(tmp_path / "a.txt")
    assert truth.times == (2 * S, 1_500_000_000)
    assert truth.poses[:, 0, 3].tolist() == [2, 1.5]
    assert "not as long as the others" in truth.notes[0]
