"""What the C library keeps of freed memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
from vpr_ros.memory import return_large_blocks

def resident_mb():
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024

if sys.argv[1] == "returned":
    return_large_blocks()
large = np.ones(4_000_000)  # 32 MB: once they are freed, glibc keeps blocks up to that size in its heap
del large
held = [np.ones(40_000) for _ in range(300)]  # 96 MB, of 320 kB each
last = np.ones(4_000)  # lives on, at the heap's end
before = resident_mb()
held.clear()
print(before - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
@pytest.mark.parametrize("what", ["returned", "kept"])
def test_large_blocks_go_back_to_the_system(what: str) -> None:
    """As soon as they are freed; without that they stay."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
    assert (float(done.stdout) > 60) == (what == "returned")
