"""The machine that is examined: its files, its environment, its packages, and what a process of its own says there."""

from __future__ import annotations

import json
import os
import re
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

PROCESS_S = 30.0
"""No library takes so long to import; one that does hangs."""


class ProcessFailed(Exception):
    """A process that ended badly, in one line: the error it ended with, the signal, or that it took too long."""

    def fix(self, otherwise: str) -> str:
        """What to type where a library did not import, from what it said."""
        failure = str(self)
        if block := re.search(r"(\S+\.so\S*): cannot allocate memory in static TLS block", failure):
            return f"export LD_PRELOAD={block[1]}"
        if "compiled for NumPy 1" in failure:
            return f"pip install 'numpy<2'    # or a newer build: {otherwise}"
        if missing := re.search(r"lib(?:GL|gthread-2\.0|SM|Xext)\.so", failure):
            package = "libgl1" if missing[0] == "libGL.so" else "libglib2.0-0 libsm6 libxext6"
            return f"sudo apt install {package}    # or without windows: pip install opencv-python-headless"
        if "SIGILL" in failure:
            return f"export OPENBLAS_CORETYPE=ARMV8    # on Jetson; elsewhere a build for an older CPU: {otherwise}"
        return otherwise


def numpy_complaint(text: str) -> str:
    """In brackets, that NumPy said so of a module built for another NumPy; empty if it did not."""
    said = re.search(r"_ARRAY_API not found|compiled using NumPy 1\.x|numpy\.core\.multiarray failed", text)
    return " (compiled for NumPy 1, this is NumPy 2)" if said else ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that the checks look at: this machine, or in a test another one."""

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

    def at(self, path: str | Path) -> Path:
        """Below the root; what `at(folder).glob()` yields is there already."""
        return self.root / path

    def read(self, path: str | Path) -> str:
        """A file's text, empty if it cannot be read."""
        try:
            return self.at(path).read_text(errors="replace").strip()
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

    def ask(self, function: Callable[..., Mapping[str, Any]], *arguments: str) -> dict[str, Any]:
        """What one of this package's functions returns in a process of its own. Raises ProcessFailed.

        Its key `stderr` is what was said meanwhile: NumPy reports a module of another ABI there and goes on.
        """
        program = (
            f"import sys; sys.path[:] = {[*self.path, str(Path(__file__).parents[2])]!r}; import json; "
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
