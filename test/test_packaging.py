"""What holds the package together: one description of it, and a core that runs alone.

That imports point one way is checked by import-linter (.importlinter), in `make lint`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which
from xml.etree import ElementTree

import pytest
import yaml

from vpr_ros.config import Config, ros_yaml
from vpr_ros.types import MatchStatus

ROOT = Path(__file__).parents[1]

MODULES = sorted(
    set((ROOT / "vpr_ros").rglob("*.py")) - {ROOT / "vpr_ros" / "__init__.py"}
)  # which names them all, lazily


def name(path: Path) -> str:
    """`vpr_ros/map/index/faiss_index.py` -> `vpr_ros.map.index.faiss_index`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_robot_needs_no_torch_and_core_no_ros() -> None:
    core = [name(path) for path in MODULES if "ros" not in path.relative_to(ROOT / "vpr_ros").parts]
    program = f"""
import importlib, sys
for blocked in ("rclpy", "vpr_msgs", "torch", "training", "demo_world"):
    sys.modules[blocked] = None  # importing it raises ImportError
for module in {core}:
    importlib.import_module(module)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_package_xml_is_the_only_description() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    setup = subprocess.run(
        [sys.executable, "setup.py", "--name", "--version", "--license"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert setup.stdout.split() == [package.findtext(tag) for tag in ("name", "version", "license")]


def setup_py(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


def test_colcon_is_stopped_where_vpr_msgs_is_left_out(tmp_path: Path) -> None:
    """colcon and rosdep look for no package inside of a package; the line to type is there, and not a node that fails."""
    colcon = {"PYTHONPATH": f"{tmp_path}/build/vpr_ros/prefix_override", "AMENT_PREFIX_PATH": str(tmp_path)}
    stopped = setup_py("--help", "install", **colcon)
    assert stopped.returncode == 1
    assert f"ln -s {ROOT.name}/vpr_msgs {ROOT.parent}/\n" in stopped.stderr
    (tmp_path / "share/vpr_msgs").mkdir(parents=True)
    (tmp_path / "share/vpr_msgs/package.xml").touch()
    assert setup_py("--help", "install", **colcon).returncode == 0
    assert setup_py("--help", "install", AMENT_PREFIX_PATH="", PYTHONPATH="").returncode == 0  # pip's


def test_the_messages_of_the_checkout_are_what_pip_installs() -> None:
    """They are not on PyPI, so `pip install '.[ros]'` could not find them by name."""
    program = (
        "import distutils.core as core; print(core.run_setup('setup.py', ['--name'], 'init').extras_require['ros'])"
    )
    read = subprocess.run(
        [sys.executable, "-c", f"import setuptools; {program}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert f"vpr-msgs @ {(ROOT / 'vpr_msgs').as_uri()}" in read.stdout


def test_a_sourced_shell_finds_the_commands(tmp_path: Path) -> None:
    """colcon puts only bin/ on the PATH, and `ros2 run` wants them in lib/vpr_ros."""
    hooks = yaml.safe_load((ROOT / "colcon.pkg").read_text())["hooks"]
    sources = [ROOT / "resource" / "environment" / Path(hook).name for hook in hooks]
    assert {path.suffix for path in sources} == {".dsv", ".sh"}
    assert [Path(hook).parent.as_posix() for hook in hooks] == ["share/vpr_ros/environment"] * 2
    assert (
        f"install_scripts=$base/lib/{sources[0].read_text().rpartition('/')[2].strip()}"
        in (ROOT / "setup.cfg").read_text()
    )
    script = '_colcon_prepend_unique_value() { export "$1=$2:/usr/bin"; }; . "$0"; echo "$PATH"'
    shell = next(path for path in sources if path.suffix == ".sh")
    done = subprocess.run(
        ["sh", "-c", script, str(shell)],
        capture_output=True,
        text=True,
        check=True,
        env={"COLCON_CURRENT_PREFIX": str(tmp_path)},
    )
    assert done.stdout.split(":")[0] == f"{tmp_path}/lib/vpr_ros"


def test_colcon_finds_both_packages_by_the_link_of_the_readme(tmp_path: Path) -> None:
    colcon = which("colcon", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if colcon is None:
        pytest.skip("colcon is not installed")
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if "git clone <this" in line)
    assert "src/vpr_ros && ln -s vpr_ros/vpr_msgs src/" in line
    (tmp_path / "src").mkdir()
    (tmp_path / "src/vpr_ros").symlink_to(ROOT)

    def packages() -> set[str]:
        listed = subprocess.run(
            [colcon, "--log-base", "/dev/null", "list", "--names-only"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return set(listed.stdout.split())

    assert packages() == {"vpr_ros"}
    (tmp_path / "src/vpr_msgs").symlink_to("vpr_ros/vpr_msgs")
    assert packages() == {"vpr_ros", "vpr_msgs"}


def test_vpr_msgs_has_the_same_version() -> None:
    versions = {ElementTree.parse(ROOT / folder / "package.xml").findtext("version") for folder in (".", "vpr_msgs")}
    assert len(versions) == 1


def test_parameter_file_is_up_to_date() -> None:
    assert (ROOT / "config" / "vpr.yaml").read_text() == ros_yaml(Config()), (
        "run: .venv/bin/python -m vpr_ros.config > config/vpr.yaml"
    )


def test_match_status_equals_the_message() -> None:
    message = (ROOT / "vpr_msgs" / "msg" / "PlaceMatch.msg").read_text()
    constants = {name: int(value) for name, value in re.findall(r"^uint8 (\w+)=(\d+)", message, re.MULTILINE)}
    assert constants == {status.name: status.value for status in MatchStatus}
