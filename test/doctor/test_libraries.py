"""Libraries that are missing, installed twice, built for another NumPy, or crash when they are imported."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec

from fake_machine import assert_bad, module, package

from vpr_ros.doctor import Level
from vpr_ros.doctor.libraries import check_faiss, check_onnxruntime, check_opencv, check_packages
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
        "class Index: pass\n"
        "class IndexFlatIP:\n"
        "    def __init__(self, dim): pass\n"
        "    def add(self, x): pass\n"
        "    def search(self, x, k, params): return np.ones((1, 2)), np.array([[1, 0]])\n"
        "class SearchParameters:\n    def __init__(self, sel): pass\n"
        "IDSelectorBatch = IDSelectorNot = lambda x: x\n",
    )
    assert_bad(check_faiss(machine), Level.ERROR, "1.6 does not search a part", "faiss-cpu>=1.7.3")


def test_faiss_that_cannot_search_a_part_is_an_error(machine: Machine) -> None:
    """As 1.7.2, which Ubuntu 22.04 has: the map refuses it, and so does the doctor."""
    here = find_spec("faiss")
    assert here is not None
    module(
        machine,
        "faiss",
        f"import sys\nfrom importlib import util\nspec = util.spec_from_file_location('faiss', {here.origin!r}, "
        f"submodule_search_locations={list(here.submodule_search_locations or ())!r})\n"
        "sys.modules['faiss'] = faiss = util.module_from_spec(spec)\nspec.loader.exec_module(faiss)\n"
        "del faiss.SearchParameters\n",
    )
    finding = check_faiss(machine)
    assert_bad(finding, Level.ERROR, "cannot search a part of an index (AttributeError", "faiss-cpu>=1.7.3")


def test_packages_of_replay(machine: Machine) -> None:
    assert check_packages(machine).level is Level.OK
    module(machine, "matplotlib", "raise ImportError('numpy.core.multiarray failed to import')")
    bad = check_packages(machine)
    assert_bad(bad, Level.ERROR, "matplotlib does not import: ImportError: numpy.core", "pip install 'numpy<2'")
    module(machine, "matplotlib", "import no_such_module")
    assert_bad(check_packages(machine), Level.ERROR, "No module named 'no_such_module'", "pip install no_such_module")


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
