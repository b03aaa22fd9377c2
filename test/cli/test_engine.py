from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from small_worlds import texture

from vpr_ros.cli import main
from vpr_ros.engines.backends import backends
from vpr_ros.engines.cache import EngineCache
from vpr_ros.errors import EngineError

pytest.importorskip("openvino", reason="an engine to build")


@pytest.fixture
def arguments(grid_model_path: Path, tmp_path: Path) -> list[str]:
    return [
        "--model",
        str(grid_model_path),
        "--set",
        f"engine.cache={tmp_path / 'engines'}",
        "--set",
        "engine.threads=1",
    ]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of `vpr engine ...`."""
    with pytest.raises(SystemExit) as exit_:
        main(["engine", *map(str, words)])
    said = capsys.readouterr()
    return exit_.value.code, said.out, said.err


def test_an_engine_s_life(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, progress = run(capsys, "build", *arguments, "--backend", "openvino")
    assert status == 0
    assert said.startswith("openvino fp32: ")
    assert "x as fast as the reference" in said
    assert "cosine with the reference at least 1.0000" in said
    assert "building openvino fp32: there is none yet" in progress
    status, again, progress = run(capsys, "build", *arguments, "--backend", "openvino")
    assert (status, again, progress) == (0, said, "")
    assert "there is none yet" in run(capsys, "build", *arguments, "--backend", "openvino", "--rebuild")[2]

    status, said, _ = run(capsys, "list", *arguments)
    assert status == 0
    assert "grid 64x48" in said
    assert said.endswith(f"1 engines in {tmp_path / 'engines'}\n")
    assert run(capsys, "check", *arguments)[0] == 0

    [file] = (tmp_path / "engines").glob("*/*.bin")
    file.write_bytes(b"")
    status, said, _ = run(capsys, "check", *arguments)
    assert status == 1
    assert "its content is damaged" in said
    assert said.endswith("1 would be built again when they are needed\n")
    status, said, _ = run(capsys, "clean", *arguments)
    assert status == 0
    assert "its content is damaged" in said
    assert list((tmp_path / "engines").iterdir()) == []


def test_an_engine_that_a_full_disk_does_not_keep_is_a_failure(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise EngineError("cannot write engine x: No space left on device; set engine.cache to another folder")

    monkeypatch.setattr(EngineCache, "keep", full)
    status, said, progress = run(capsys, "build", *arguments, "--backend", "openvino")
    assert status == 1
    assert "No space left on device" in progress
    assert said.startswith("openvino fp32: ")


def test_clean_keeps_what_fits_unless_it_is_told_all(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "build", *arguments, "--backend", "openvino")
    assert run(capsys, "clean", *arguments)[1] == "0 engines removed\n"
    (tmp_path / "engines" / "foreign").mkdir()
    (tmp_path / "engines" / "foreign" / "text.json").write_text("{}")
    assert run(capsys, "clean", *arguments)[1].endswith("text.json is damaged\n1 engines removed\n")
    assert run(capsys, "clean", *arguments, "--all")[1].endswith("1 engines removed\n")


def test_an_engine_of_another_library_is_said(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "build", *arguments, "--backend", "openvino")
    known = backends(EngineCache(tmp_path))
    monkeypatch.setattr(type(known["openvino"]), "identity", lambda self: {"library": "OpenVINO 1", "device": "Abacus"})
    status, said, _ = run(capsys, "check", *arguments)
    assert status == 1
    assert "it was built for OpenVINO" in said
    assert "here is OpenVINO 1, Abacus" in said


def test_auto_says_what_it_chose(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "build", *arguments)
    assert status == 0
    assert said.startswith("fastest: ")


def test_places_judge_an_engine(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drive = write_drive(tmp_path / "drive")
    words = ("build", *arguments, "--backend", "openvino", "--places", drive, "--sequence", "00")
    status, said, _ = run(capsys, *words)
    assert status == 0
    assert "recall@1 1.000, the reference's 1.000 on" in said
    recalls = iter([0.5, 1.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vpr_ros.cli.places.recall_at_1", lambda *arguments: next(recalls))
        status, _, error = run(capsys, *words)
    assert status == 2
    assert "recall@1 0.500, the reference's 1.000" in error
    assert "refused" in run(capsys, "list", *arguments)[1]


def write_drive(root: Path) -> Path:
    """A KITTI tree: 20 places along a line, driven twice."""
    images = root / "sequences" / "00" / "image_0"
    images.mkdir(parents=True)
    poses = []
    for i in range(40):
        cv2.imwrite(str(images / f"{i:06d}.png"), cv2.cvtColor(texture(i % 20, 64, 48), cv2.COLOR_RGB2GRAY))
        poses.append(f"1 0 0 {20 * (i % 20)} 0 1 0 0 0 0 1 0")
    (root / "sequences" / "00" / "times.txt").write_text("\n".join(str(float(i)) for i in range(40)))
    (root / "poses").mkdir()
    (root / "poses" / "00.txt").write_text("\n".join(poses))
    return root


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--backend", "tensorrt", "--precision", "bf16"], "tensorrt"),
        (["--backend", "openvino", "--images", "/nowhere"], "/nowhere: no such file or folder"),
        (["--places", "/nowhere"], "--places judges one engine: name it with --backend"),
        (["--batch", "0"], "engine.batch must be in [1, 64], not 0"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    status, _, error = run(capsys, "build", *arguments, *words)
    assert status == 2
    assert reason in error
    assert len(error.splitlines()) == 1
