"""A machine's processes: whatever happens in them is one line, with what to type."""

from __future__ import annotations

import sys

import pytest

from vpr_ros.doctor import Machine
from vpr_ros.doctor.machine import ProcessFailed


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "crashed with SIGABRT"),
        ("raise ImportError('libx.so.1: cannot open')", "ImportError: libx.so.1: cannot open"),
        ("import sys; sys.exit(7)", "ended with status 7"),
        ("import time; time.sleep(60)", "no answer in 1 s"),
        (
            "import os, sys; sys.stderr.write('AttributeError: _ARRAY_API not found'); sys.stderr.flush(); os.abort()",
            "crashed with SIGABRT (compiled for NumPy 1, this is NumPy 2)",
        ),
    ],
)
def test_a_process_that_ends_badly_is_one_line(machine: Machine, code: str, said: str) -> None:
    with pytest.raises(ProcessFailed) as failure:
        machine.run([sys.executable, "-c", code], 1.0 if "sleep" in code else 20.0)
    assert str(failure.value) == said


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        (
            "ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
            "export LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libgomp.so.1",
        ),
        ("crashed with SIGSEGV (compiled for NumPy 1, this is NumPy 2)", "pip install 'numpy<2'"),
        ("ImportError: libGL.so.1: cannot open shared object file", "sudo apt install libgl1"),
        ("crashed with SIGILL", "OPENBLAS_CORETYPE=ARMV8"),
        ("ModuleNotFoundError: No module named 'faiss'", "the usual"),
    ],
)
def test_known_import_failures_have_their_own_fix(failure: str, fix: str) -> None:
    assert fix in ProcessFailed(failure).fix("the usual")
