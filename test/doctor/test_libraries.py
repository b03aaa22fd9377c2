"""Libraries that are missing, installed twice, built for another NumPy, or crash when they are imported."""

from __future__ import annotations

import sys
from dataclasses import replace

from fake_machine import assert_bad, module, package

from vpr_ros.doctor import Level
from vpr_ros.doctor.libraries import check_faiss, check_onnxruntime, check_opencv
from vpr_ros.machine import Machine


def test_opencv_here_is_fine(machine: Machine) -> None:
    finding = check_opencv(replace(machine, path=tuple(sys.path)))
    assert finding.level is Level.OK, finding


def test_several_opencvs_are_a_warning_and_an_error_once_one_breaks(machine: Machine) -> None:
    package(machine, "opencv-python", "4.9.0.80")
    finding = check_opencv(machine)
    assert_bad(
        finding, Level.WARNING, "opencv-python 4.9.0.80 and opencv-python-headless", "pip uninstall -y opencv-python "
    )
    module(machine, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    finding = check_opencv(machine)
    assert_bad(
        finding, Level.ERROR, "installed over one another", "pip install --force-reinstall opencv-python-headless"
    )


def test_opencv_that_lacks_what_we_use_or_does_not_import(machine: Machine) -> None:
    module(
        machine,
        "cv2",
        "class ORB_create:\n    detect = lambda self, image: []\n"
        "imencode = lambda *a: (True, b'')\nimdecode = lambda *a: None\n"
        "fisheye = IMREAD_GRAYSCALE = 0\n__version__ = '3.2.0'",
    )
    assert_bad(check_opencv(machine), Level.ERROR, "3.2.0", "opencv-python-headless")
    assert "has no SIFT_create, USAC_MAGSAC" in check_opencv(machine).found
    module(machine, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    assert_bad(check_opencv(machine), Level.ERROR, "libGL.so.1", "sudo apt install libgl1")


def test_faiss(machine: Machine) -> None:
    assert check_faiss(machine).level is Level.OK
    module(machine, "faiss", "import os; os.kill(os.getpid(), 4)")
    assert_bad(check_faiss(machine), Level.ERROR, "SIGILL", "faiss-cpu")
    module(machine, "faiss", "raise AttributeError('_ARRAY_API not found')")
    assert_bad(check_faiss(machine), Level.ERROR, "compiled for NumPy 1", "numpy<2")


def test_faiss_that_searches_everything_is_an_error(machine: Machine) -> None:
    module(
        machine,
        "faiss",
        "import numpy as np\n__version__ = '1.6'\n"
        "class IndexFlatIP:\n"
        "    def __init__(self, dim): pass\n"
        "    def add(self, x): pass\n"
        "    def search(self, x, k, params): return np.ones((1, 2)), np.array([[3, 0]])\n"
        "class SearchParameters:\n    def __init__(self, sel): pass\n"
        "class IDSelectorRange:\n    def __init__(self, a, b): pass\n",
    )
    assert_bad(check_faiss(machine), Level.ERROR, "does not search a part", "faiss-cpu>=1.7.3")


def test_onnxruntime(machine: Machine) -> None:
    here = replace(machine, path=tuple(sys.path))
    assert check_onnxruntime(here).level is Level.OK
    module(machine, "onnxruntime", "__version__ = '1.20'\nget_available_providers = lambda: ['CPUExecutionProvider']")
    assert check_onnxruntime(machine).found == "1.20, providers CPU"
    gpu = check_onnxruntime(machine, "onnxruntime_cuda")
    assert_bad(gpu, Level.WARNING, "needs CUDAExecutionProvider", "pip install onnxruntime-gpu")
    package(machine, "onnxruntime-gpu", "1.20")
    assert_bad(check_onnxruntime(machine), Level.WARNING, "overwrite each other", "pip uninstall -y onnxruntime ")
    module(machine, "onnxruntime", "raise ImportError('x.so: cannot allocate memory in static TLS block')")
    assert_bad(check_onnxruntime(machine), Level.ERROR, "static TLS", "export LD_PRELOAD=x.so")
