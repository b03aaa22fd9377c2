"""The machine: its files, environment and packages, what a process of its own reports there, and its description in tables."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from vpr_ros.errors import EngineError
from vpr_ros.nvidia_driver import usable_driver

COMPUTING_PACKAGES = (
    "vpr_ros", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-cu12", "tensorrt-cu13",
    "pycuda", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "opencv-python", "opencv-python-headless",
)  # fmt: skip
"""What figures depend on."""
_JETPACKS = {"32": " (JetPack 4)", "35": " (JetPack 5)", "36": " (JetPack 6)", "38": " (JetPack 7)"}
NUMPY_1_DISTRIBUTIONS = ("humble", "iron", "jazzy", "kilted")
"""Of ROS, on Ubuntu 22.04 and 24.04: their messages, cv_bridge and OpenCV are built for NumPy 1."""
PROCESS_S = 30.0
"""No library takes so long to import; one that does hangs."""


class ProcessFailed(Exception):
    """A process that ended badly, in one line: the error it ended with, the signal, or that it took too long."""


def numpy_complaint(text: str) -> str:
    """In brackets, that a module was built for another NumPy, as NumPy or the module itself said; empty if neither did."""
    if re.search(r"compiled against API version|No module named 'numpy\._core'", text):
        return " (compiled for a newer NumPy)"
    said = re.search(r"_ARRAY_API not found|compiled using NumPy 1\.x|numpy\.core\.multiarray failed", text)
    return " (compiled for NumPy 1, this is NumPy 2)" if said else ""


@dataclass(frozen=True, slots=True)
class Machine:
    """All that is looked at of a machine: this one, or in a test another."""

    root: Path = Path("/")
    """Where `proc`, `sys`, `dev`, `etc` and `opt` are."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    """Where Python modules and installed packages are looked for."""
    python: str = sys.executable
    python_version: tuple[int, int] = sys.version_info[:2]
    cpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    disk_usage: Callable[[Path], Any] = shutil.disk_usage
    process_s: float = PROCESS_S

    @property
    def is_container(self) -> bool:
        return self.at(".dockerenv").exists() or self.at("run/.containerenv").exists()

    @property
    def is_jetson(self) -> bool:
        return self.at("etc/nv_tegra_release").exists()

    @property
    def jetpack(self) -> str:
        """Of a Jetson, `R36.4.3 (JetPack 6)`: of a line like `# R36 (release), REVISION: 4.3, GCID: ...`; else empty."""
        release = self.read("etc/nv_tegra_release")
        if found := re.search(r"R(\d+).*?REVISION: ([\d.]+)", release):
            return f"R{found[1]}.{found[2]}{_JETPACKS.get(found[1], '')}"
        return release.strip("# ")

    @property
    def cpu_limit(self) -> float | None:
        """Cores' worth of time that a container leaves to its processes; None without a limit."""
        quota = self.read("sys/fs/cgroup/cpu.max").split()
        return int(quota[0]) / int(quota[1]) if len(quota) == 2 and quota[0].isdecimal() else None

    @property
    def memory(self) -> dict[str, int]:
        """`MemTotal`, `MemAvailable` ... in bytes; empty where the system does not report them."""
        fields = re.findall(r"^(\w+):\s+(\d+) kB", self.read("proc/meminfo"), re.MULTILINE)
        return {name: int(size) * 1024 for name, size in fields}

    def at(self, path: str | Path) -> Path:
        """Below the root; what `at(folder).glob()` yields is there already."""
        return self.root / path

    def read(self, path: str | Path) -> str:
        """A file's text, empty if it cannot be read."""
        try:
            return self.at(path).read_text(errors="replace").strip("\0\n\t ")
        except OSError:
            return ""

    def installed(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the packages that pip or apt have installed, with their versions."""
        found: dict[str, str] = {}
        for name in names:
            for distribution in metadata.Distribution.discover(name=name, path=list(self.path)):
                found.setdefault(name, distribution.version)
        return found

    def where(self, module: str) -> str:
        """The file of a top-level module, empty if there is none. It is not imported."""
        spec = PathFinder.find_spec(module, list(self.path))
        return "" if spec is None else spec.origin or str(next(iter(spec.submodule_search_locations or ()), ""))

    @property
    def needs_numpy_1(self) -> bool:
        """Whether what apt installed, and pip must not break, is built for NumPy 1: on Ubuntu 22.04 and 24.04."""
        numpys = metadata.Distribution.discover(name="numpy", path=list(self.path))  # also one behind another
        if any(numpy.version.startswith("1.") for numpy in numpys):
            return True
        distribution = self.environment.get("ROS_DISTRO", "")
        return distribution in NUMPY_1_DISTRIBUTIONS and self.at(f"opt/ros/{distribution}").exists()

    def pip(self, command: str) -> str:
        """`pip COMMAND` as it has to be typed for this Python, also where Debian or Ubuntu refuse it (PEP 668)."""
        python = Path(self.python)
        own = shutil.which("pip", path=self.environment.get("PATH", ""))
        pip = "pip" if own and Path(own).parent == python.parent else f"{shlex.quote(self.python)} -m pip"
        is_managed = any(self.at("usr/lib").glob(f"python3.{self.python_version[1]}/EXTERNALLY-MANAGED"))
        if is_managed and python.parent == Path("/usr/bin"):
            verb, _, rest = command.partition(" ")
            command = f"{verb} --break-system-packages {rest}"
        return f"{pip} {command}"

    def pip_install(self, *packages: str, options: str = "") -> str:
        """The command that installs packages without bringing a NumPy that breaks what is there."""
        wanted = [package for package in packages if not (self.needs_numpy_1 and package == "numpy")]
        wanted += ["numpy<2"] if self.needs_numpy_1 else []
        return self.pip(" ".join(filter(None, ["install", options, *map(shlex.quote, wanted)])))

    def fix(self, failure: ProcessFailed, otherwise: str) -> str:
        """What to type where a library did not import, from what it said."""
        said = str(failure)
        if block := re.search(r"(\S+\.so\S*): cannot allocate memory in static TLS block", said):
            return f"export LD_PRELOAD={block[1]}"
        if "compiled for NumPy 1" in said:
            return self.pip("install 'numpy<2'") + (
                "" if self.needs_numpy_1 else f"    # or a newer build: {otherwise}"
            )
        if "compiled for a newer NumPy" in said:
            return self.pip("install -U 'numpy<2'" if self.needs_numpy_1 else "install -U numpy")
        if missing := re.search(r"lib(?:GL|gthread-2\.0|SM|Xext)\.so", said):
            package = "libgl1" if missing[0] == "libGL.so" else "libglib2.0-0 libsm6 libxext6"
            windowless = self.pip_install("opencv-python-headless")
            return f"sudo apt install {package}    # or without windows: {windowless}"
        if "SIGILL" in said:
            return f"export OPENBLAS_CORETYPE=ARMV8    # on Jetson; elsewhere a build for an older CPU: {otherwise}"
        return otherwise

    def ask(self, function: Callable[..., Mapping[str, Any]], *arguments: str) -> dict[str, Any]:
        """What one of this package's functions returns in a process of its own. Raises ProcessFailed.

        Its key `stderr` is what was said meanwhile: NumPy reports a module of another ABI there and goes on.
        """
        program = (
            f"import sys; sys.path[:] = {[*self.path, str(Path(__file__).parents[1])]!r}; import json; "
            f"from {function.__module__} import {function.__name__} as asked; "
            f"print('\\n' + json.dumps(asked(*{arguments!r})))"
        )
        output, errors = self.run([self.python, "-c", program], self.process_s)
        answer = [line for line in output.splitlines() if line.startswith("{")][-1]  # libraries print, too
        return json.loads(answer) | {"stderr": errors}

    def run(self, command: Sequence[str], timeout_s: float) -> tuple[str, str]:
        """Standard output and error of a process that ended well. Raises ProcessFailed."""
        try:
            done = subprocess.run(
                command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise ProcessFailed(f"no answer in {timeout_s:.0f} s") from error
        if done.returncode < 0:
            raise ProcessFailed(f"crashed with {signal.Signals(-done.returncode).name}{numpy_complaint(done.stderr)}")
        if done.returncode > 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            said = lines[-1] if lines else f"ended with status {done.returncode}"
            raise ProcessFailed(f"{said}{numpy_complaint(done.stderr)}")
        return done.stdout, done.stderr

    def description(self) -> MachineDescription:
        """What figures that are measured here depend on."""

        def found(pattern: str, path: str) -> str:
            match = re.search(pattern, self.read(path), re.MULTILINE)
            return match[1].strip() if match else ""

        system = found(r'^PRETTY_NAME="?([^"\n]+)', "etc/os-release") or platform.system()
        governor = self.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        power = (self._power_mode(), f"governor {governor}" if governor else "")
        return MachineDescription(
            cpu=found(r"^(?:model name|Model)\s*:(.*)", "proc/cpuinfo") or platform.machine(),
            cores=self.cpus,
            cpu_limit=self.cpu_limit,
            memory_gb=round(self.memory.get("MemTotal", 0) / 1e9, 1),
            gpu=_gpu(),
            board=self.read("proc/device-tree/model"),
            jetpack=self.jetpack,
            power=", ".join(part for part in power if part),
            system=f"{system}, {platform.release()}, {platform.machine()}",
            python=platform.python_version(),
            load=float(load.partition(" ")[0]) if (load := self.read("proc/loadavg")) else None,
            versions=self.installed(COMPUTING_PACKAGES),
        )

    def _power_mode(self) -> str:
        """Of a Jetson: `power mode 15W`."""
        if not shutil.which("nvpmodel"):
            return ""
        try:
            output, _ = self.run(["nvpmodel", "-q"], 5.0)
        except (OSError, ProcessFailed):
            return ""
        found = re.search(r"NV Power Mode:\s*(.+)", output)
        return f"power mode {found[1].strip()}" if found else ""


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """Where a table was measured; nothing that names its owner. Empty or None is what it has not."""

    cpu: str
    cores: int
    """That this process may use."""
    cpu_limit: float | None
    """Cores' worth of time that a container may use."""
    memory_gb: float
    gpu: str
    board: str
    jetpack: str
    power: str
    """Power mode of a Jetson and the governor of the CPU: both change every figure."""
    system: str
    python: str
    load: float | None
    """Processes that wanted to run in the minute before: near 0 on a machine that was free."""
    versions: Mapping[str, str]
    """Of what computes."""


def _gpu() -> str:
    try:
        driver = usable_driver()
        return f"{driver.device()}, driver for {driver.version()}"
    except EngineError:
        return ""
