"""Every check against a machine that has the fault: fake /proc, fake packages, modules that crash on import."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vpr_ros import doctor
from vpr_ros.config import Config
from vpr_ros.doctor import Finding, Level, Machine, ProcessFailed
from vpr_ros.engines import backends
from vpr_ros.engines.cache import EngineCache, Key
from vpr_ros.model import PlaceModel
from vpr_ros.place_map import PlaceMap
from vpr_ros.types import Keyframe

GB = 2**30
Usage = namedtuple("Usage", "total used free")  # as shutil's


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine with the real Python: files come from `tmp_path`; modules there shadow real ones."""
    (tmp_path / "modules").mkdir()
    return Machine(
        root=tmp_path,
        environment={"PATH": "/usr/bin"},
        path=(str(tmp_path / "modules"), *sys.path),
        cpus=4,
        disk_usage=lambda _: Usage(100 * GB, 0, 100 * GB),
    )


def put(machine: Machine, path: str, text: str = "") -> None:
    file = machine.at(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def module(machine: Machine, name: str, code: str) -> None:
    put(machine, f"modules/{name}.py", code)


def package(machine: Machine, name: str, version: str) -> None:
    folder = f"modules/{name.replace('-', '_')}-{version}.dist-info"
    put(machine, f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def alone(machine: Machine) -> Machine:
    """The same without what is really installed here."""
    return replace(machine, path=(str(machine.root / "modules"),))


def assert_bad(finding: Finding, level: Level, found: str, fix: str) -> None:
    assert finding.level is level, finding
    assert found in finding.found
    assert fix in finding.fix


# --- findings and processes ------------------------------------------------------------------------------------------


def test_a_finding_says_what_to_type_exactly_if_it_is_not_ok() -> None:
    with pytest.raises(ValueError, match="names its fix"):
        Finding("disk", Level.ERROR, "full")
    with pytest.raises(ValueError, match="names its fix"):
        Finding("disk", Level.OK, "empty", "rm")


def test_a_finding_survives_json() -> None:
    finding = Finding("disk", Level.WARNING, "nearly full", "df -h")
    assert doctor.from_json(json.loads(json.dumps(doctor.to_json(finding)))) == finding


def test_a_check_that_fails_is_a_warning_and_the_others_go_on() -> None:
    def fail() -> Finding:
        raise KeyError("surprise")

    def fail_too() -> list[Finding]:
        raise RuntimeError("no graph")

    fine = Finding("after", Level.OK, "fine")
    before, after, graph = doctor.examine({"before": fail, "after": lambda: fine}, fail_too)
    assert_bad(before, Level.WARNING, "check failed: KeyError: 'surprise'", "vpr doctor --json")
    assert after == fine
    assert_bad(graph, Level.WARNING, "check failed: RuntimeError: no graph", "vpr doctor --json")


def test_findings_come_in_the_order_of_the_checks() -> None:
    def slow(name: str, seconds: float) -> Callable[[], Finding]:
        def check() -> Finding:
            time.sleep(seconds)
            return Finding(name, Level.OK, "")

        return check

    found = doctor.examine({"a": slow("a", 0.2), "b": slow("b", 0)}, lambda: [Finding("c", Level.OK, "")])
    assert [finding.name for finding in found] == ["a", "b", "c"]


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
    assert fix in doctor.fix_of(failure, "the usual")


# --- Python and ROS --------------------------------------------------------------------------------------------------


def test_python_is_new_enough(machine: Machine) -> None:
    assert doctor.check_python(machine).level is Level.OK
    assert_bad(doctor.check_python(replace(machine, python_version=(3, 8))), Level.ERROR, "needs 3.10", "python3.10")


@pytest.mark.parametrize("folder", ["lib/python3.10/site-packages", "local/lib/python3.10/dist-packages"])
def test_python_is_the_one_that_ros_was_built_for(machine: Machine, folder: str) -> None:
    machine = replace(machine, environment={"ROS_DISTRO": "humble"}, python_version=(3, 12))
    put(machine, f"opt/ros/humble/{folder}/rclpy/__init__.py")
    assert_bad(
        doctor.check_python(machine), Level.ERROR, "ROS here was built for 3.10", "/usr/bin/python3.10 -m vpr_ros"
    )
    assert doctor.check_python(replace(machine, python_version=(3, 10))).level is Level.OK


def test_ros_that_is_not_there_is_skipped_and_one_not_sourced_is_an_error(machine: Machine) -> None:
    machine = alone(machine)
    assert_bad(doctor.check_ros(machine), Level.SKIPPED, "no ROS here", "make setup")
    put(machine, "opt/ros/jazzy/setup.bash")
    assert_bad(doctor.check_ros(machine), Level.ERROR, "ROS jazzy is installed", "source /opt/ros/jazzy/setup.bash")
    module(machine, "rclpy", "raise SystemExit('never imported')")
    sourced = replace(machine, environment={"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert doctor.check_ros(sourced).level is Level.OK
    assert "jazzy, rmw_cyclonedds_cpp" in doctor.check_ros(sourced).found


@pytest.mark.parametrize(
    ("environment", "level", "fix"),
    [
        ({}, Level.OK, ""),
        ({"ROS_DOMAIN_ID": "42", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, Level.OK, ""),
        ({"ROS_DOMAIN_ID": "233"}, Level.ERROR, "export ROS_DOMAIN_ID="),
        ({"ROS_DOMAIN_ID": "robot"}, Level.ERROR, "export ROS_DOMAIN_ID="),
        ({"ROS_DOMAIN_ID": "102"}, Level.WARNING, "export ROS_DOMAIN_ID="),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, Level.WARNING, "=LOCALHOST"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCAL"}, Level.ERROR, "=LOCALHOST"),
        ({"ROS_LOCALHOST_ONLY": "1", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, Level.WARNING, "unset ROS_LOCALHOST"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.1:11811"}, Level.WARNING, "ROS_SUPER_CLIENT=TRUE"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.1:11811", "ROS_SUPER_CLIENT": "TRUE"}, Level.OK, ""),
    ],
)
def test_discovery(machine: Machine, environment: dict[str, str], level: Level, fix: str) -> None:
    finding = doctor.check_discovery(replace(machine, environment=environment))
    assert (finding.level, bool(finding.fix)) == (level, bool(fix))
    assert fix in finding.fix
    assert all(value in finding.found for name, value in environment.items() if name != "ROS_SUPER_CLIENT")


def test_dds_profile_that_is_missing_broken_or_not_read(machine: Machine, tmp_path: Path) -> None:
    def check(**environment: str) -> Finding:
        return doctor.check_dds_profile(replace(machine, environment=environment))

    assert check().level is Level.OK
    nowhere = check(FASTDDS_DEFAULT_PROFILES_FILE="/nowhere.xml")
    assert_bad(nowhere, Level.ERROR, "/nowhere.xml cannot be read", "config/fastdds.xml")
    put(machine, "broken.xml", "<profiles>")
    assert_bad(
        check(CYCLONEDDS_URI=f"file://{tmp_path}/broken.xml"), Level.ERROR, "cannot be read", "unset CYCLONEDDS_URI"
    )
    put(machine, "fine.xml", "<profiles/>")
    fine = str(tmp_path / "fine.xml")
    assert check(FASTDDS_DEFAULT_PROFILES_FILE=fine, ROS_DISTRO="kilted").level is Level.OK
    old = check(FASTDDS_DEFAULT_PROFILES_FILE=fine, ROS_DISTRO="humble")
    assert_bad(old, Level.WARNING, "does not look at", f"export FASTRTPS_DEFAULT_PROFILES_FILE={fine}")
    assert check(CYCLONEDDS_URI="<CycloneDDS/>").level is Level.OK


def test_shared_memory(machine: Machine) -> None:
    assert_bad(doctor.check_shared_memory(machine), Level.ERROR, "no /dev/shm", "mount")
    machine.at("dev/shm").mkdir(parents=True)
    assert doctor.check_shared_memory(machine).level is Level.OK
    small = replace(machine, disk_usage=lambda _: Usage(64 * 2**20, 0, 64 * 2**20))
    assert_bad(doctor.check_shared_memory(small), Level.WARNING, "64 MB", "sudo mount -o remount,size=1G /dev/shm")
    put(small, ".dockerenv")
    assert_bad(doctor.check_shared_memory(small), Level.WARNING, "too little", "docker run --shm-size=1g")
    full = replace(machine, disk_usage=lambda _: Usage(8 * GB, 8 * GB, 2**20))
    assert_bad(doctor.check_shared_memory(full), Level.WARNING, "nearly full", "rm /dev/shm/")


def test_receive_buffer_matters_to_cyclone(machine: Machine) -> None:
    cyclone = replace(machine, environment={"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert doctor.check_receive_buffer(cyclone).level is Level.SKIPPED
    put(machine, "proc/sys/net/core/rmem_max", "212992\n")
    assert_bad(doctor.check_receive_buffer(cyclone), Level.WARNING, "208 KB", "net.core.rmem_max=2147483647")
    assert doctor.check_receive_buffer(machine).level is Level.OK
    put(machine, "proc/sys/net/core/rmem_max", "2147483647\n")
    assert doctor.check_receive_buffer(cyclone).level is Level.OK


# --- libraries -------------------------------------------------------------------------------------------------------

BRIDGE = """
import sys
class CvBridge:
    def cv2_to_imgmsg(self, image, encoding):
        {fault}
        return image
    def imgmsg_to_cv2(self, message, encoding):
        return message
"""


def test_cv_bridge_is_not_needed(machine: Machine) -> None:
    finding = doctor.check_cv_bridge(machine)
    assert finding.level is Level.OK
    assert "not needed" in finding.found
    module(machine, "cv_bridge", BRIDGE.format(fault="pass"))
    assert "works with NumPy" in doctor.check_cv_bridge(machine).found


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("raise ImportError('numpy.core.multiarray failed to import')", "multiarray failed"),
        (BRIDGE.format(fault="import os; os.kill(os.getpid(), 11)"), "SIGSEGV"),
        (BRIDGE.format(fault="sys.stderr.write('AttributeError: _ARRAY_API not found')"), "compiled for NumPy 1"),
    ],
)
def test_cv_bridge_of_another_numpy_is_a_warning_and_not_our_end(machine: Machine, code: str, said: str) -> None:
    module(machine, "cv_bridge", code)
    finding = doctor.check_cv_bridge(machine)
    assert_bad(finding, Level.WARNING, said, "pip install 'numpy<2'")
    assert f"NumPy {np.__version__}" in finding.found
    assert "vpr_ros does not need it" in finding.found


def test_opencv_here_is_fine(machine: Machine) -> None:
    finding = doctor.check_opencv(replace(machine, path=tuple(sys.path)))
    assert finding.level is Level.OK, finding


def test_several_opencvs_are_a_warning_and_an_error_once_one_breaks(machine: Machine) -> None:
    package(machine, "opencv-python", "4.9.0.80")
    finding = doctor.check_opencv(machine)
    assert_bad(
        finding, Level.WARNING, "opencv-python 4.9.0.80 and opencv-python-headless", "pip uninstall -y opencv-python "
    )
    module(machine, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    finding = doctor.check_opencv(machine)
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
    assert_bad(doctor.check_opencv(machine), Level.ERROR, "3.2.0", "opencv-python-headless")
    assert "has no SIFT_create, USAC_MAGSAC" in doctor.check_opencv(machine).found
    module(machine, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    assert_bad(doctor.check_opencv(machine), Level.ERROR, "libGL.so.1", "sudo apt install libgl1")


def test_faiss(machine: Machine) -> None:
    assert doctor.check_faiss(machine).level is Level.OK
    module(machine, "faiss", "import os; os.kill(os.getpid(), 4)")
    assert_bad(doctor.check_faiss(machine), Level.ERROR, "SIGILL", "faiss-cpu")
    module(machine, "faiss", "raise AttributeError('_ARRAY_API not found')")
    assert_bad(doctor.check_faiss(machine), Level.ERROR, "compiled for NumPy 1", "numpy<2")


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
    assert_bad(doctor.check_faiss(machine), Level.ERROR, "does not search a part", "faiss-cpu>=1.7.3")


def test_onnxruntime(machine: Machine) -> None:
    here = replace(machine, path=tuple(sys.path))
    assert doctor.check_onnxruntime(here).level is Level.OK
    module(machine, "onnxruntime", "__version__ = '1.20'\nget_available_providers = lambda: ['CPUExecutionProvider']")
    assert doctor.check_onnxruntime(machine).found == "1.20, providers CPU"
    gpu = doctor.check_onnxruntime(machine, "onnxruntime_cuda")
    assert_bad(gpu, Level.WARNING, "needs CUDAExecutionProvider", "pip install onnxruntime-gpu")
    package(machine, "onnxruntime-gpu", "1.20")
    assert_bad(
        doctor.check_onnxruntime(machine), Level.WARNING, "overwrite each other", "pip uninstall -y onnxruntime "
    )
    module(machine, "onnxruntime", "raise ImportError('x.so: cannot allocate memory in static TLS block')")
    assert_bad(doctor.check_onnxruntime(machine), Level.ERROR, "static TLS", "export LD_PRELOAD=x.so")


# --- GPU -------------------------------------------------------------------------------------------------------------


class FakeCuda:
    """What `ctypes.CDLL("libcuda.so.1")` returns on a machine with one GPU, or with a driver that fails."""

    def __init__(self, error: int = 0) -> None:
        self.error = error

    def cuInit(self, _: int) -> int:
        return self.error

    def cuDriverGetVersion(self, version: ctypes.c_int) -> int:
        version._obj.value = 12060  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetCount(self, count: ctypes.c_int) -> int:
        count._obj.value = 1  # type: ignore[attr-defined]
        return 0

    def cuDeviceGet(self, device: ctypes.c_int, ordinal: int) -> int:
        device._obj.value = ordinal  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, _: ctypes.c_int) -> int:
        name.value = b"Orin"[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: ctypes.c_int, attribute: int, _: ctypes.c_int) -> int:
        value._obj.value = {75: 8, 76: 7}[attribute]  # type: ignore[attr-defined]
        return 0


def test_cuda_facts_of_a_gpu_of_a_driver_that_fails_and_of_none() -> None:
    assert doctor.cuda_facts(lambda _: FakeCuda()) == {"driver": "12.6", "error": 0, "devices": ["Orin sm_87"]}
    assert doctor.cuda_facts(lambda _: FakeCuda(803)) == {"driver": "12.6", "error": 803, "devices": []}
    assert doctor.cuda_facts(lambda name: ctypes.CDLL(f"/nowhere/{name}"))["driver"] == ""


class Answering(Machine):
    """A machine on which the questions have fixed answers: no GPU is at hand where the tests run."""

    __slots__ = ("answer",)

    def ask(self, function, *arguments):  # type: ignore[no-untyped-def]
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer | {"stderr": ""}


def answering(machine: Machine, answer: object) -> Machine:
    fields = {name: getattr(machine, name) for name in Machine.__dataclass_fields__}
    other = Answering(**fields)
    object.__setattr__(other, "answer", answer)
    return other


NO_DRIVER = {"driver": "", "error": 0, "devices": []}
GPU = {"driver": "12.6", "error": 0, "devices": ["Orin sm_87"]}


def test_cuda(machine: Machine) -> None:
    assert doctor.check_cuda(machine).level is (Level.OK)  # really asked: the test machine may have a GPU or not
    assert "the model runs on the CPU" in doctor.check_cuda(answering(machine, NO_DRIVER)).found
    unused = answering(machine, {"driver": "12.6", "error": 100, "devices": []})
    assert doctor.check_cuda(unused).level is Level.OK
    put(machine, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    put(machine, "sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    assert_bad(
        doctor.check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "no libcuda.so.1", "ubuntu-drivers install"
    )
    broken = answering(machine, {"driver": "12.6", "error": 803, "devices": []})
    assert_bad(doctor.check_cuda(broken), Level.WARNING, "updated and not rebooted", "sudo reboot")
    hung = answering(machine, ProcessFailed("no answer in 30 s"))
    assert_bad(doctor.check_cuda(hung), Level.WARNING, "no answer in 30 s", "nvidia-smi")
    put(machine, ".dockerenv")
    assert_bad(doctor.check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "no libcuda", "docker run --gpus all")


def test_cuda_on_a_jetson(machine: Machine) -> None:
    put(machine, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 1\n")
    assert_bad(doctor.check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "Jetson R36", "nvidia-jetpack")
    assert doctor.check_cuda(answering(machine, GPU)).found == "driver for CUDA 12.6: Orin sm_87 (Jetson R36 (release))"
    put(machine, ".dockerenv")
    assert_bad(doctor.check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "Jetson", "--runtime nvidia")


def test_tensorrt_is_not_imported_without_a_gpu(machine: Machine) -> None:
    machine = alone(machine)
    assert doctor.check_tensorrt(machine).level is Level.OK
    package(machine, "tensorrt", "10.3.0")
    module(machine, "tensorrt", "import os; os.abort()")
    finding = doctor.check_tensorrt(answering(machine, NO_DRIVER))
    assert finding.level is Level.OK
    assert "tensorrt 10.3.0, no pycuda; not imported" in finding.found


def test_tensorrt_that_a_gpu_misses(machine: Machine) -> None:
    machine = alone(machine)
    put(machine, "dev/nvidia0")
    assert_bad(
        doctor.check_tensorrt(machine), Level.WARNING, "TensorRT is not installed", "pip install tensorrt pycuda"
    )
    put(machine, "etc/nv_tegra_release", "# R36 (release)\n")
    assert_bad(doctor.check_tensorrt(machine), Level.WARNING, "not installed", "sudo apt install python3-libnvinfer")
    package(machine, "tensorrt", "10.3.0")
    bad = answering(machine, ProcessFailed("ImportError: libnvinfer.so.10: cannot open shared object file"))
    assert_bad(doctor.check_tensorrt(bad), Level.WARNING, "libnvinfer.so.10", "--system-site-packages")
    no_pycuda = answering(machine, GPU | {"tensorrt": "10.3.0", "pycuda": "No module named 'pycuda'"})
    assert_bad(doctor.check_tensorrt(no_pycuda), Level.WARNING, "No module named 'pycuda'", "pip install pycuda")
    package(machine, "pycuda", "2024.1")
    fine = doctor.check_tensorrt(answering(machine, GPU | {"tensorrt": "10.3.0"}))
    assert fine == Finding("tensorrt", Level.OK, "tensorrt 10.3.0, pycuda 2024.1; imports as 10.3.0")


def test_engine_files(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    identity = backends(cache)["onnxruntime"].identity()
    assert doctor.check_engines(machine, str(cache.folder)) == Finding("engines", Level.OK, "none built yet")
    fits = Key.of(grid_model, "onnxruntime", identity, "fp32", 1)
    cache.keep(fits, b"engine", {})
    assert doctor.check_engines(machine, str(cache.folder)) == Finding("engines", Level.OK, "1 engine file fits")
    of_old = Key.of(grid_model, "onnxruntime", {name: "old" for name in identity}, "fp32", 1)
    cache.keep(of_old, b"engine", {})
    finding = doctor.check_engines(machine, str(cache.folder))
    assert_bad(finding, Level.WARNING, f"{of_old.file.name}.json: it was built for old", "vpr engine clean")
    assert finding.found.count(".json: ") == 1
    damaged = cache.folder / f"{fits.file}.bin"
    damaged.write_bytes(b"engin")
    assert "damaged" in doctor.check_engines(machine, str(cache.folder)).found
    module(machine, "onnxruntime", "import os; os.abort()")
    assert_bad(doctor.check_engines(machine, str(cache.folder)), Level.WARNING, "SIGABRT", "vpr engine check")


def test_engine_folder_is_where_the_cache_is(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for users in ("", str(tmp_path)):
        monkeypatch.setenv("XDG_CACHE_HOME", users)
        here = replace(machine, environment={"XDG_CACHE_HOME": users})
        for folder in ("", str(tmp_path / "mine"), "~/mine"):
            config = Config().with_values({"engine.cache": folder})
            assert doctor.engine_folder(here, config).expanduser() == EngineCache(folder).folder


# --- model and map ---------------------------------------------------------------------------------------------------


def test_model(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    finding = doctor.check_model(machine, str(grid_model.path))
    assert finding.level is Level.OK
    assert finding.found.startswith(f"grid ({grid_model.id[:12]}), 64x48 -> 144, ")
    missing = doctor.check_model(machine, "/nowhere/my model.onnx")
    assert_bad(missing, Level.ERROR, "cannot read model /nowhere", "ls -l '/nowhere/my model.onnx'")
    put(machine, "text.onnx", "version https://git-lfs.github.com/spec/v1")
    assert_bad(
        doctor.check_model(machine, str(tmp_path / "text.onnx")), Level.ERROR, "corrupt or no ONNX model", "ls -l"
    )
    module(machine, "onnxruntime", "import os; os.abort()")
    assert_bad(doctor.check_model(machine, str(grid_model.path)), Level.ERROR, "SIGABRT", "pip install")


def test_map(machine: Machine, grid_model: PlaceModel, tmp_path: Path) -> None:
    place_map = PlaceMap(grid_model.dim)
    place_map.add(
        Keyframe(
            id=0,
            session="s",
            stamp_ns=1,
            descriptor=np.full(grid_model.dim, grid_model.dim**-0.5, np.float32),
            thumbnail=None,
            camera=None,
            odom_from_body=None,
            travelled_m=None,
            frame_id="camera",
        )
    )
    place_map.save(tmp_path / "lab.vprmap", grid_model.id)
    place_map.save(tmp_path / "foreign.vprmap", "0" * 64)
    put(machine, "torn.vprmap", "PK")

    def check(name: str, model: str = str(grid_model.path)) -> Finding:
        return doctor.check_map(machine, model, tmp_path, name)

    assert check("lab").found.startswith("lab: 1 keyframes, ")
    assert check("lab").level is Level.OK
    assert_bad(check("foreign"), Level.ERROR, "made with another model", "vpr doctor --model MODEL.onnx --map foreign")
    assert_bad(check("torn"), Level.ERROR, "is corrupt", "save_map")
    assert_bad(check("lobby"), Level.ERROR, "maps there: foreign, lab, torn", "save_map")
    assert_bad(check("../lab"), Level.ERROR, "no map name", f"ls {tmp_path}")
    assert_bad(check("lab", "/nowhere.onnx"), Level.SKIPPED, "the model does not open", "vpr doctor")


# --- the machine -----------------------------------------------------------------------------------------------------


def meminfo(machine: Machine, available_mb: int) -> None:
    put(machine, "proc/meminfo", f"MemTotal:       8000000 kB\nMemAvailable:   {available_mb * 1024} kB\n")


def test_memory(machine: Machine) -> None:
    assert doctor.check_memory(machine).level is Level.SKIPPED
    meminfo(machine, 4096)
    assert doctor.check_memory(machine).level is Level.OK
    meminfo(machine, 900)
    assert_bad(doctor.check_memory(machine), Level.WARNING, "900 MB available", "ps aux")
    meminfo(machine, 400)
    assert_bad(doctor.check_memory(machine), Level.ERROR, "400 MB available", "ps aux")


@pytest.mark.parametrize(
    ("group", "folder", "limit", "used"),
    [
        ("0::/", "sys/fs/cgroup", "memory.max", "memory.current"),
        ("0::/system.slice/robot.service", "sys/fs/cgroup/system.slice", "memory.max", "memory.current"),
        (
            "4:memory:/docker/0123",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_memory_limit_of_a_container(machine: Machine, group: str, folder: str, limit: str, used: str) -> None:
    meminfo(machine, 4096)
    put(machine, "proc/self/cgroup", f"9:cpu:/\n{group}\n")
    put(machine, f"{folder}/{used}", str(800 * 2**20))
    put(machine, f"{folder}/{limit}", "max" if limit == "memory.max" else "9223372036854771712")
    assert doctor.check_memory(machine).level is Level.OK
    put(machine, f"{folder}/{limit}", str(1000 * 2**20))
    assert_bad(doctor.check_memory(machine), Level.ERROR, "200 MB available", "docker run --memory")


def test_cpu_governor(machine: Machine) -> None:
    assert doctor.check_cpu(machine).level is Level.OK
    for driver, level in (("intel_pstate", Level.OK), ("tegra194", Level.WARNING)):
        put(machine, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
        put(machine, "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver)
        assert doctor.check_cpu(machine).level is level
    assert_bad(doctor.check_cpu(machine), Level.WARNING, "holds cpu0 at its lowest", "scaling_governor")


def test_more_threads_than_cores(machine: Machine) -> None:
    assert doctor.check_cpu(machine, threads=4).level is Level.OK
    assert_bad(doctor.check_cpu(machine, threads=5), Level.WARNING, "4 cores", "engine.threads=4")
    put(machine, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert_bad(doctor.check_cpu(machine, threads=4), Level.WARNING, "leaves 1.5", "engine.threads=1")
    put(machine, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert doctor.check_cpu(machine, threads=4).level is Level.OK


def test_folders(machine: Machine, tmp_path: Path) -> None:
    made = doctor.check_folder(machine, "maps folder", tmp_path / "a" / "b")
    assert made.level is Level.OK
    assert made.found.endswith("(will be made)")
    assert not (tmp_path / "a").exists(), "a check leaves nothing behind"
    put(machine, "file")
    in_a_file = doctor.check_folder(machine, "maps folder", tmp_path / "file" / "maps")
    assert_bad(in_a_file, Level.ERROR, "is no folder", f"mv {tmp_path}/file")
    unwritable = doctor.check_folder(machine, "maps folder", Path("/proc/vpr maps"))
    assert_bad(unwritable, Level.ERROR, "nothing can be written", "sudo chown -R $USER '/proc/vpr maps'")
    for free, level in ((50 * 2**20, Level.ERROR), (500 * 2**20, Level.WARNING)):
        filled = replace(machine, disk_usage=lambda _, free=free: Usage(GB, GB, free))
        assert_bad(doctor.check_folder(filled, "maps folder", tmp_path), level, f"{free // 2**20} MB free", "df -h")


def test_home_folder_is_expanded(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "maps") in doctor.check_folder(machine, "maps folder", Path("~/maps")).found


# --- the ROS process -------------------------------------------------------------------------------------------------


def test_without_rclpy_the_graph_is_one_skipped_line(machine: Machine) -> None:
    (finding,) = doctor.watch_graph(alone(machine), Config(), 3.0)
    assert_bad(finding, Level.SKIPPED, "no rclpy", "source /opt/ros/")


class Ending(Machine):
    """A machine whose processes end in a given way."""

    __slots__ = ("answer",)

    def run(self, command, timeout_s):  # type: ignore[no-untyped-def]
        raise ProcessFailed(self.answer)


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        ("Expected RMW implementation identifier of 'rmw_x' but", "sudo apt install ros-humble-rmw-x"),
        ("ModuleNotFoundError: No module named 'rclpy._rclpy_pybind11'", "source /opt/ros/$ROS_DISTRO/setup.bash"),
        ("no answer in 15 s", "ros2 doctor --report"),
    ],
)
def test_a_graph_that_cannot_be_watched(machine: Machine, failure: str, fix: str) -> None:
    module(machine, "rclpy", "")
    environment = {"RMW_IMPLEMENTATION": "rmw_x", "ROS_DISTRO": "humble"}
    other = Ending(root=machine.root, path=machine.path, environment=environment)
    object.__setattr__(other, "answer", failure)
    (finding,) = doctor.watch_graph(other, Config(), 3.0)
    assert_bad(finding, Level.ERROR, failure, fix)


def test_a_ros_process_that_hangs_is_ended(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(machine, "rclpy", "")
    put(machine, "python", "#!/bin/sh\nexec sleep 60\n")
    machine.at("python").chmod(0o755)
    monkeypatch.setattr(doctor, "GRAPH_EXTRA_S", 0.3)
    began = time.monotonic()
    (finding,) = doctor.watch_graph(replace(machine, python=str(tmp_path / "python")), Config(), 0.2)
    assert time.monotonic() - began < 30
    assert_bad(finding, Level.ERROR, "no answer", "ros2 doctor")


# --- all together ----------------------------------------------------------------------------------------------------


def test_every_check_answers_under_its_own_name(machine: Machine, tmp_path: Path, grid_model: PlaceModel) -> None:
    config = Config().with_values({"node.maps_directory": str(tmp_path), "model.path": str(grid_model.path)})
    checks = doctor.checks(machine, config, "lab")
    assert list(checks)[-1] == "map"
    quick = {name: check for name, check in checks.items() if name not in ("opencv", "faiss", "onnxruntime")}
    for name, finding in zip(quick, doctor.examine(quick), strict=True):
        assert finding.name == name
        assert "check failed" not in finding.found


def test_lines_are_aligned_and_coloured_only_if_asked() -> None:
    good, bad = Finding("cpu", Level.OK, "4 cores"), Finding("maps folder", Level.ERROR, "full", "df -h")
    (first,), (second, fix) = doctor.lines(good), doctor.lines(bad)
    assert first.index("4 cores") == second.index("full") == fix.index("-> type: df -h")
    assert "\033" not in first + second + fix
    assert doctor.lines(bad, colour=True)[0].startswith("\033[31mERROR\033[0m")
    assert doctor.summary([good, bad, bad]) == "3 checks: 1 OK, 2 errors"
