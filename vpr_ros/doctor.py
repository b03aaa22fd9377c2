"""Is this machine fit to recognise places? One finding for each thing that breaks robots, with what to type.

This module imports nothing that can be broken: what a check has to import it imports in a process of its own, where a
crash is a finding too. The ROS graph is watched by `vpr_ros.ros.doctor`, likewise a process.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vpr_ros.config import Config
from vpr_ros.errors import VprError
from vpr_ros.share import shared_files

MIB, GIB = 2**20, 2**30
PROCESS_S = 30.0
"""No library takes so long to import; one that does hangs."""
GRAPH_EXTRA_S = 12.0
"""What the process that watches the ROS graph may take on top of watching, before it counts as hung."""
NEEDED_MEMORY = GIB // 2
WANTED_MEMORY = GIB
NEEDED_DISK = 100 * MIB
WANTED_DISK = GIB
WANTED_SHARED_MEMORY = 128 * MIB
"""A segment of config/fastdds.xml has 32 MiB, and every process of the robot has one."""
WANTED_RECEIVE_BUFFER = 8 * MIB
LARGEST_DOMAIN = 232
LARGEST_SAFE_DOMAIN = 101
"""Ports of higher ones are among those that Linux gives to anybody."""
OPENCV_PACKAGES = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
ONNXRUNTIME_PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training",
)  # fmt: skip
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-lean")
PROVIDERS = {"onnxruntime_cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}
REPORT_IT = "vpr doctor --json > doctor.json    # and send us the file: this is a fault of ours"


class Level(Enum):
    OK = "OK"
    WARNING = "WARN"
    ERROR = "ERROR"
    SKIPPED = "SKIP"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `fix` is what to type, empty only if all is well."""

    name: str
    level: Level
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if (self.level is Level.OK) != (not self.fix):
            raise ValueError(f"{self.name}: a finding names its fix exactly if it is not OK")


class ProcessFailed(Exception):
    """A process that ended badly, in one line: the error it ended with, the signal, or that it took too long."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that the checks look at: this machine, or in a test another one."""

    root: Path = Path("/")
    """Where `proc`, `sys`, `dev`, `etc` and `opt` are."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    """Where Python modules and installed packages are looked for."""
    python: str = sys.executable
    python_version: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
    cpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    disk_usage: Callable[[Path], Any] = shutil.disk_usage
    process_s: float = PROCESS_S

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
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
        """What a function of this module returns in a process of its own. Raises ProcessFailed.

        Its key `stderr` is what was said meanwhile: NumPy reports a module of another ABI there and goes on.
        """
        program = (
            f"import sys; sys.path[:] = {[*self.path, str(Path(__file__).parents[1])]!r}; import json, vpr_ros.doctor; "
            f"print('\\n' + json.dumps(vpr_ros.doctor.{function.__name__}(*{arguments!r})))"
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
            raise ProcessFailed(f"crashed with {signal.Signals(-done.returncode).name}{_abi_hint(done.stderr)}")
        if done.returncode > 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            said = lines[-1] if lines else f"ended with status {done.returncode}"
            raise ProcessFailed(f"{said}{_abi_hint(done.stderr)}")
        return done.stdout, done.stderr


def _is_numpy_abi(text: str) -> bool:
    """Whether NumPy complains of a module that was compiled for another NumPy."""
    return bool(re.search(r"_ARRAY_API not found|compiled using NumPy 1\.x|numpy\.core\.multiarray failed", text))


def _abi_hint(text: str) -> str:
    return " (compiled for NumPy 1, this is NumPy 2)" if _is_numpy_abi(text) else ""


def fix_of(failure: str, otherwise: str) -> str:
    """What to type when a library does not import, from what it said."""
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


# --- Python and ROS --------------------------------------------------------------------------------------------------


def check_python(machine: Machine) -> Finding:
    """Is it new enough, and the one that ROS was built for?"""
    version = ".".join(map(str, machine.python_version))
    found = f"{version}, {machine.python}"
    if machine.python_version < (3, 10):
        return Finding("python", Level.ERROR, f"{found}: vpr_ros needs 3.10", "sudo apt install python3.10")
    prefixes = [Path(p) for p in machine.environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if distribution := machine.environment.get("ROS_DISTRO"):
        prefixes.append(machine.at(f"opt/ros/{distribution}"))
    built_for = {
        (int(number[1]), int(number[2]))
        for prefix in prefixes
        for lib in ("lib", "local/lib")
        for package in prefix.glob(f"{lib}/python3*/*-packages/rclpy")
        if (number := re.search(r"/python(3)\.(\d+)/", str(package)))
    }
    if built_for and machine.python_version not in built_for:
        ros = ".".join(map(str, max(built_for)))
        fix = f"/usr/bin/python{ros} -m vpr_ros.cli doctor    # and install vpr_ros for that Python"
        return Finding("python", Level.ERROR, f"{found}; but ROS here was built for {ros}", fix)
    return Finding("python", Level.OK, found)


def check_ros(machine: Machine) -> Finding:
    """Which distribution and RMW the environment names, and whether rclpy can be found."""
    distribution = machine.environment.get("ROS_DISTRO", "")
    rclpy = machine.where("rclpy")
    if rclpy:
        rmw = machine.environment.get("RMW_IMPLEMENTATION", "")
        said = (
            f"{distribution or 'no ROS_DISTRO (ROS from PyPI)'}, {rmw or 'default RMW'}, rclpy in {Path(rclpy).parent}"
        )
        return Finding("ros", Level.OK, said)
    ros = machine.at("opt/ros")
    known = sorted(path.parent.name for path in ros.glob("*/setup.bash"))
    if known:
        found = f"rclpy is not on Python's path, but ROS {' and '.join(known)} is installed"
        return Finding("ros", Level.ERROR, found, f"source /opt/ros/{known[-1]}/setup.bash")
    fix = "make setup    # ROS from PyPI; or install ROS 2: https://docs.ros.org"
    return Finding("ros", Level.SKIPPED, "no ROS here: vpr replay works, the node does not", fix)


def check_discovery(machine: Machine) -> Finding:
    """Whom the environment lets ROS processes see."""
    env = machine.environment
    domain, only = env.get("ROS_DOMAIN_ID", ""), env.get("ROS_LOCALHOST_ONLY", "")
    reach, server = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""), env.get("ROS_DISCOVERY_SERVER", "")
    said = f"ROS_DOMAIN_ID {domain or '0 (default)'}, discovery {reach or 'SUBNET (default)'}"
    said += f", ROS_LOCALHOST_ONLY {only}" if only else ""
    said += f", discovery server {server}" if server else ""
    if not (domain == "" or (domain.isdecimal() and int(domain) <= LARGEST_DOMAIN)):
        found = f"{said}: a domain is a number from 0 to {LARGEST_DOMAIN}"
        return Finding("discovery", Level.ERROR, found, "export ROS_DOMAIN_ID=0    # the same in every terminal")
    if domain and int(domain) > LARGEST_SAFE_DOMAIN:
        found = f"{said}: above {LARGEST_SAFE_DOMAIN} other programs may have taken its ports"
        return Finding("discovery", Level.WARNING, found, "export ROS_DOMAIN_ID=42    # the same in every terminal")
    if reach not in ("", "SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        found = f"{said}: no such range"
        return Finding("discovery", Level.ERROR, found, "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST")
    if reach == "OFF":
        found = f"{said}: no process sees another"
        return Finding("discovery", Level.WARNING, found, "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST")
    if only == "1" and reach:
        found = f"{said}: while the older one is 1, the other is ignored"
        return Finding("discovery", Level.WARNING, found, "unset ROS_LOCALHOST_ONLY")
    if server and env.get("ROS_SUPER_CLIENT", "").upper() not in ("TRUE", "1"):
        found = f"{said}: the topics of others stay hidden"
        return Finding("discovery", Level.WARNING, found, "export ROS_SUPER_CLIENT=TRUE")
    return Finding("discovery", Level.OK, said)


def check_dds_profile(machine: Machine) -> Finding:
    """Do the files with DDS settings exist, and does this Fast DDS read them?"""
    env = machine.environment
    new, old, cyclone = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI"
    files = {name: env[name] for name in (new, old) if env.get(name)}
    if env.get(cyclone, "").startswith(("file://", "/")):
        files[cyclone] = env[cyclone].removeprefix("file://")
    for name, file in files.items():
        try:
            ElementTree.parse(file)
        except (OSError, ElementTree.ParseError) as error:
            fix = f"export {name}={_profile()}" if name != cyclone else f"unset {cyclone}"
            return Finding("dds profile", Level.ERROR, f"{name}: {file} cannot be read: {error}", fix)
    if new in files and old not in files and env.get("ROS_DISTRO") in ("humble", "iron", "jazzy"):
        found = f"Fast DDS of ROS {env['ROS_DISTRO']} does not look at {new}"
        return Finding("dds profile", Level.WARNING, found, f"export {old}={files[new]}")
    if files:
        return Finding("dds profile", Level.OK, ", ".join(f"{name}={file}" for name, file in files.items()))
    return Finding("dds profile", Level.OK, "none: raw images larger than 512 KB need one where they are published")


def _profile() -> str:
    return str(next(iter(shared_files("config/fastdds.xml")), "config/fastdds.xml"))


def check_shared_memory(machine: Machine) -> Finding:
    """Is there room in /dev/shm for DDS to pass images?"""
    folder = machine.at("dev/shm")
    docker = "docker run --shm-size=1g ...    # or --ipc=host"
    mount = "sudo mount -o remount,size=1G /dev/shm"
    fix = docker if _is_container(machine) else mount
    if not folder.is_dir():
        return Finding("shared memory", Level.ERROR, "there is no /dev/shm: images go through the network stack", fix)
    usage = machine.disk_usage(folder)
    said = f"{_size(usage.free)} free of {_size(usage.total)} in /dev/shm"
    if usage.total < WANTED_SHARED_MEMORY:
        return Finding("shared memory", Level.WARNING, f"{said}: too little for camera images", fix)
    if usage.free < WANTED_SHARED_MEMORY:
        fix = (
            "rm /dev/shm/*fastrtps* /dev/shm/*fastdds*    # with every ROS process stopped: left by processes that died"
        )
        return Finding("shared memory", Level.WARNING, f"{said}: nearly full", fix)
    return Finding("shared memory", Level.OK, said)


def check_receive_buffer(machine: Machine) -> Finding:
    """May a socket buffer a whole image? Cyclone DDS and images from other machines need it."""
    text = machine.read("proc/sys/net/core/rmem_max")
    if not text.isdecimal():
        fix = "sysctl net.core.rmem_max    # want 8388608 or more"
        return Finding("receive buffer", Level.SKIPPED, "net.core.rmem_max cannot be read", fix)
    said = f"net.core.rmem_max {_size(int(text))}"
    if int(text) >= WANTED_RECEIVE_BUFFER:
        return Finding("receive buffer", Level.OK, said)
    if "cyclone" in machine.environment.get("RMW_IMPLEMENTATION", ""):
        fix = "echo net.core.rmem_max=2147483647 | sudo tee /etc/sysctl.d/60-dds.conf && sudo sysctl --system"
        return Finding("receive buffer", Level.WARNING, f"{said}: Cyclone DDS loses large images with it", fix)
    return Finding("receive buffer", Level.OK, f"{said}: enough on one machine; raw images over a network need more")


def _is_container(machine: Machine) -> bool:
    return machine.at(".dockerenv").exists() or machine.at("run/.containerenv").exists()


# --- libraries -------------------------------------------------------------------------------------------------------


def cv_bridge_facts() -> dict[str, Any]:
    """Converts an image with cv_bridge, which is what crashes."""
    import cv_bridge
    import numpy as np

    bridge = cv_bridge.CvBridge()
    bridge.imgmsg_to_cv2(bridge.cv2_to_imgmsg(np.zeros((2, 2, 3), np.uint8), "bgr8"), "rgb8")
    return {"numpy": np.__version__}


def check_cv_bridge(machine: Machine) -> Finding:
    """Does cv_bridge get along with this NumPy? vpr_ros does not use it, but other packages of a robot do."""
    numpy = machine.installed(["numpy"]).get("numpy", "?")
    if not machine.where("cv_bridge"):
        return Finding("cv_bridge", Level.OK, f"not installed, and not needed (NumPy {numpy})")
    try:
        failure = _abi_hint(machine.ask(cv_bridge_facts)["stderr"]).strip()
    except ProcessFailed as error:
        failure = str(error)
    if not failure:
        return Finding("cv_bridge", Level.OK, f"works with NumPy {numpy}; vpr_ros does not need it")
    found = f"does not work with NumPy {numpy}: {failure}. vpr_ros does not need it, other packages here may"
    return Finding(
        "cv_bridge", Level.WARNING, found, "pip install 'numpy<2'    # only if another package uses cv_bridge"
    )


def opencv_facts() -> dict[str, Any]:
    """Version, file, what is missing of what verification uses, and that an image goes through it."""
    import cv2
    import numpy as np

    missing = [name for name in ("SIFT_create", "ORB_create", "USAC_MAGSAC", "fisheye") if not hasattr(cv2, name)]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    keypoints = cv2.ORB_create().detect(cv2.imdecode(cv2.imencode(".jpg", noise)[1], cv2.IMREAD_GRAYSCALE))
    return {"version": cv2.__version__, "file": str(cv2.__file__), "missing": missing, "keypoints": len(keypoints)}


def check_opencv(machine: Machine) -> Finding:
    """One OpenCV, that works with this NumPy, and has what verification uses."""
    packages = machine.installed(OPENCV_PACKAGES)
    reinstall = "pip install --force-reinstall opencv-python-headless"
    if packages:
        reinstall = f"pip uninstall -y {' '.join(packages)} && {reinstall}"
    several = len(packages) > 1
    listed = " and ".join(f"{name} {version}" for name, version in packages.items())
    try:
        facts = machine.ask(opencv_facts)
    except ProcessFailed as failure:
        found = f"does not work: {failure}" + (f"; {listed} are installed over one another" if several else "")
        return Finding("opencv", Level.ERROR, found, fix_of("" if several else str(failure), reinstall))
    said = f"{facts['version']}, {Path(facts['file']).parent}"
    if facts["missing"]:
        return Finding("opencv", Level.ERROR, f"{said}: has no {', '.join(facts['missing'])}", reinstall)
    if several:
        return Finding("opencv", Level.WARNING, f"{said}: {listed} overwrite each other's files", reinstall)
    return Finding("opencv", Level.OK, f"{said}; SIFT, ORB and MAGSAC are there")


def faiss_facts() -> dict[str, Any]:
    """Version, CPU flavour, and that it searches a part of an index, as the map does."""
    import faiss
    import numpy as np

    index = faiss.IndexFlatIP(4)
    index.add(np.eye(4, dtype=np.float32))
    only = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, 2))
    found = index.search(np.eye(4, dtype=np.float32)[3:], 2, params=only)[1]
    options = faiss.get_compile_options() if hasattr(faiss, "get_compile_options") else ""
    return {"version": faiss.__version__, "options": options, "searches": sorted(found[0].tolist()) == [0, 1]}


def check_faiss(machine: Machine) -> Finding:
    """Does it import and search?"""
    install = "pip install --force-reinstall faiss-cpu"
    try:
        facts = machine.ask(faiss_facts)
    except ProcessFailed as failure:
        return Finding("faiss", Level.ERROR, f"does not work: {failure}", fix_of(str(failure), install))
    if not facts["searches"]:
        found = f"{facts['version']} does not search a part of an index"
        return Finding("faiss", Level.ERROR, found, "pip install -U 'faiss-cpu>=1.7.3'")
    flavours = [word for word in facts["options"].split() if word.startswith(("AVX", "NEON", "SVE", "GENERIC"))]
    return Finding("faiss", Level.OK, facts["version"] + (f", {' '.join(flavours)}" if flavours else ""))


def onnxruntime_facts() -> dict[str, Any]:
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def check_onnxruntime(machine: Machine, backend: str = "auto") -> Finding:
    """One ONNX Runtime, with the provider that `engine.backend` asks for."""
    packages = machine.installed(ONNXRUNTIME_PACKAGES)
    try:
        facts = machine.ask(onnxruntime_facts)
    except ProcessFailed as failure:
        install = "pip install --force-reinstall onnxruntime"
        return Finding("onnxruntime", Level.ERROR, f"does not work: {failure}", fix_of(str(failure), install))
    providers = [name.removesuffix("ExecutionProvider") for name in facts["providers"]]
    said = f"{facts['version']}, providers {', '.join(providers)}"
    if len(packages) > 1:
        fix = f"pip uninstall -y {' '.join(packages)} && pip install onnxruntime    # or onnxruntime-gpu, but one"
        return Finding("onnxruntime", Level.WARNING, f"{said}: {' and '.join(packages)} overwrite each other", fix)
    if backend in PROVIDERS and PROVIDERS[backend] not in facts["providers"]:
        found = f"{said}: engine.backend {backend} needs {PROVIDERS[backend]}; the node falls back to the CPU"
        fix = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        return Finding("onnxruntime", Level.WARNING, found, fix)
    return Finding("onnxruntime", Level.OK, said)


# --- GPU -------------------------------------------------------------------------------------------------------------


def cuda_facts(load: Callable[[str], Any] = ctypes.CDLL) -> dict[str, Any]:
    """What the CUDA driver says: `driver` ("" without one), `error` (its code, 0 if all is well), `devices`."""
    try:
        cuda = load("libcuda.so.1")
    except OSError:
        return {"driver": "", "error": 0, "devices": []}
    version, count, devices = ctypes.c_int(), ctypes.c_int(), []
    error = cuda.cuInit(0)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    if error == 0:
        error = cuda.cuDeviceGetCount(ctypes.byref(count))
    for ordinal in range(count.value):
        device, major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, len(name), device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # ..._MINOR
        devices.append(f"{name.value.decode(errors='replace')} sm_{major.value}{minor.value}")
    number = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return {"driver": number, "error": error, "devices": devices}


def check_cuda(machine: Machine) -> Finding:
    """Is there a GPU, and does its driver work?"""
    jetson = machine.read("etc/nv_tegra_release").partition(",")[0].strip("# ")
    on = f" (Jetson {jetson})" if jetson else ""
    fix = "sudo reboot    # and if it stays: nvidia-smi"
    try:
        facts = machine.ask(cuda_facts)
    except ProcessFailed as failure:
        return Finding("cuda", Level.WARNING, f"the driver does not answer: {failure}{on}", fix)
    if facts["devices"]:
        return Finding("cuda", Level.OK, f"driver for CUDA {facts['driver']}: {', '.join(facts['devices'])}{on}")
    has_gpu = bool(jetson) or _has_nvidia_gpu(machine)
    if not facts["driver"]:
        if not has_gpu:
            return Finding("cuda", Level.OK, "no NVIDIA GPU: the model runs on the CPU")
        fix = "sudo ubuntu-drivers install && sudo reboot"
        if jetson:
            fix = "sudo apt install nvidia-jetpack"
        if _is_container(machine):
            fix = "docker run --runtime nvidia ..." if jetson else "docker run --gpus all ..."
        return Finding("cuda", Level.WARNING, f"an NVIDIA GPU, but no libcuda.so.1{on}", fix)
    why = {
        100: "no device",
        803: "its library does not fit the kernel module: updated and not rebooted",
        804: "forward compatibility is not supported on this GPU",
    }.get(facts["error"], f"cuInit returned {facts['error']}")
    if not has_gpu:
        return Finding("cuda", Level.OK, f"a driver for CUDA {facts['driver']} but no GPU: the model runs on the CPU")
    return Finding("cuda", Level.WARNING, f"driver for CUDA {facts['driver']} does not work: {why}{on}", fix)


def _has_nvidia_gpu(machine: Machine) -> bool:
    if machine.at("dev/nvidia0").exists() or machine.at("proc/driver/nvidia/version").exists():
        return True
    devices = machine.at("sys/bus/pci/devices").glob("*")
    return any(_text(d / "vendor") == "0x10de" and _text(d / "class").startswith("0x03") for d in devices)


def tensorrt_facts() -> dict[str, Any]:
    """`cuda_facts`, and what imports where there is a GPU: without a driver TensorRT may crash."""
    facts = cuda_facts()
    if facts["devices"]:
        import tensorrt

        facts["tensorrt"] = tensorrt.__version__
        try:
            import pycuda.driver  # noqa: F401
        except ImportError as error:
            facts["pycuda"] = str(error)
    return facts


def check_tensorrt(machine: Machine) -> Finding:
    """TensorRT and pycuda: is what is installed of use here?"""
    packages = machine.installed([*TENSORRT_PACKAGES, "pycuda"])
    pycuda = packages.pop("pycuda", "")
    listed = ", ".join(f"{name} {version}" for name, version in packages.items())
    said = f"{listed or 'TensorRT is not installed'}, {f'pycuda {pycuda}' if pycuda else 'no pycuda'}"
    jetson = machine.at("etc/nv_tegra_release").exists()
    install = (
        "sudo apt install python3-libnvinfer    # and a venv made with --system-site-packages"
        if jetson
        else "pip install tensorrt pycuda"
    )
    if not packages and not machine.where("tensorrt"):
        has_gpu = jetson or _has_nvidia_gpu(machine)
        if not has_gpu:
            return Finding("tensorrt", Level.OK, f"{said}; without an NVIDIA GPU it is not needed")
        return Finding("tensorrt", Level.WARNING, f"{said}: the GPU is not used by TensorRT", install)
    try:
        facts = machine.ask(tensorrt_facts)
    except ProcessFailed as failure:
        return Finding("tensorrt", Level.WARNING, f"{said}: {failure}", fix_of(str(failure), install))
    if not facts["devices"]:
        return Finding("tensorrt", Level.OK, f"{said}; not imported, there is no GPU that answers")
    if "pycuda" in facts:
        return Finding("tensorrt", Level.WARNING, f"{said}: {facts['pycuda']}", "pip install pycuda")
    return Finding("tensorrt", Level.OK, f"{said}; imports as {facts['tensorrt']}")


def engine_facts(folder: str) -> dict[str, Any]:
    """How many engine files there are, and which of them would be built again: (file, why)."""
    from vpr_ros.engines import misfits
    from vpr_ros.engines.cache import EngineCache

    found = {path.name: misfit for path, misfit in misfits(EngineCache(folder))}
    return {"count": len(found), "problems": {name: misfit for name, misfit in found.items() if misfit}}


def check_engines(machine: Machine, folder: str) -> Finding:
    """Are the engine files whole, and for the libraries and the GPU of now?"""
    if not any(Path(folder).expanduser().glob("*/*.json")):
        return Finding("engines", Level.OK, "none built yet")
    try:
        facts = machine.ask(engine_facts, folder)
    except ProcessFailed as failure:
        return Finding("engines", Level.WARNING, f"cannot be looked at: {failure}", "vpr engine check")
    if facts["problems"]:
        found = "; ".join(f"{name}: {problem}" for name, problem in facts["problems"].items())
        return Finding("engines", Level.WARNING, found, "vpr engine clean    # the node builds anew what it needs")
    plural = "s fit" if facts["count"] > 1 else " fits"
    return Finding("engines", Level.OK, f"{facts['count']} engine file{plural}")


def engine_folder(machine: Machine, config: Config) -> Path:
    """Where engines are kept: as `EngineCache`, which cannot be imported where ONNX Runtime cannot."""
    users = machine.environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(config.engine.cache or f"{users}/vpr_ros/engines")


# --- model and map ---------------------------------------------------------------------------------------------------


def model_facts(path: str, place_map: str = "") -> dict[str, Any]:
    """Opens a model ("": the shipped one), or with `place_map` a map that was made with it. `error` if that fails."""
    from vpr_ros.model import PlaceModel, shipped_model

    try:
        model = PlaceModel.open(path or shipped_model())
    except VprError as error:
        return {"model_error": str(error)}
    facts = {
        "name": model.name,
        "id": model.id,
        "dim": model.dim,
        "size": f"{model.width}x{model.height}",
        "bytes": len(model.content),
        "path": str(model.path),
    }
    if place_map:
        from vpr_ros.place_map import PlaceMap

        try:
            facts["keyframes"] = len(PlaceMap.load(Path(place_map), model.id))
        except VprError as error:
            facts["map_error"] = str(error)
    return facts


def check_model(machine: Machine, path: str) -> Finding:
    """Does the model open?"""
    fix = (
        f"ls -l {shlex.quote(path)}    # or without model.path: the model that ships with vpr_ros"
        if path
        else "make setup"
    )
    try:
        facts = machine.ask(model_facts, path)
    except ProcessFailed as failure:
        fix = fix_of(str(failure), "pip install --force-reinstall onnxruntime numpy")
        return Finding("model", Level.ERROR, f"cannot be opened: {failure}", fix)
    if "model_error" in facts:
        return Finding("model", Level.ERROR, facts["model_error"], fix)
    said = f"{facts['name']} ({facts['id'][:12]}), {facts['size']} -> {facts['dim']}, {_size(facts['bytes'])}"
    return Finding("model", Level.OK, f"{said}, {facts['path']}")


def check_map(machine: Machine, model: str, folder: Path, name: str) -> Finding:
    """Does the map load, and was it made with this model?"""
    if name != Path(name).name or name.startswith("."):
        found = f"{name!r} is no map name: one word, a file in {folder}"
        return Finding("map", Level.ERROR, found, f"ls {shlex.quote(str(folder))}")
    path = folder / f"{name.removesuffix('.vprmap')}.vprmap"
    try:
        facts = machine.ask(model_facts, model, str(path))
    except ProcessFailed as failure:
        return Finding("map", Level.ERROR, f"{path} cannot be loaded: {failure}", fix_of(str(failure), f"ls -l {path}"))
    if "model_error" in facts:
        return Finding(
            "map", Level.SKIPPED, "not loaded: the model does not open", "vpr doctor    # after that is mended"
        )
    if "map_error" in facts:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.vprmap"))) or "none"
        found = f"{facts['map_error']}; maps there: {known}"
        fix = "vpr doctor --model MODEL.onnx --map " + shlex.quote(name)
        if "another model" not in facts["map_error"]:
            fix = f"ros2 service call /vpr/save_map vpr_msgs/srv/SaveMap '{{name: {name}}}'    # or --map, one of those"
        return Finding("map", Level.ERROR, found, fix)
    said = f"{name}: {facts['keyframes']} keyframes, {_size(path.stat().st_size)}, made with this model"
    return Finding("map", Level.OK, said)


# --- the machine -----------------------------------------------------------------------------------------------------


def check_memory(machine: Machine) -> Finding:
    """How much memory is left, also under a container's limit?"""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", machine.read("proc/meminfo"), re.MULTILINE))
    if "MemAvailable" not in fields:
        return Finding("memory", Level.SKIPPED, "/proc/meminfo cannot be read", "free -h    # want 1 GB available")
    free, said = int(fields["MemAvailable"]) * 1024, ""
    fix = "ps aux --sort=-rss | head    # what takes it; stop something or add swap"
    limit, used = _memory_limit(machine)
    if limit is not None:
        said = f", this container may use {_size(limit)} and uses {_size(used)}"
        if limit - used < free:
            free, fix = max(0, limit - used), "docker run --memory=4g ...    # or MemoryMax= of the systemd unit"
    said = f"{_size(free)} available of {_size(int(fields.get('MemTotal', 0)) * 1024)}{said}"
    if free < NEEDED_MEMORY:
        return Finding("memory", Level.ERROR, f"{said}: the node needs {_size(NEEDED_MEMORY)}", fix)
    if free < WANTED_MEMORY:
        return Finding("memory", Level.WARNING, f"{said}: little for a map that grows", fix)
    return Finding("memory", Level.OK, said)


def _memory_limit(machine: Machine) -> tuple[int | None, int]:
    """The least limit of this process's control groups (None: none) and what is used of it, in bytes."""
    found = []
    for line in machine.read("proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            base, names = Path("sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = Path("sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = base / group.lstrip("/")
        # inside a container the group's path is the host's and is not there; its own is the root
        for folder in (inner, *(parent for parent in inner.parents if parent.is_relative_to(base))):
            limit, used = (machine.read(str(folder / name)) for name in names)
            if limit.isdecimal() and used.isdecimal() and int(limit) < 2**60:
                found.append((int(limit), int(used)))
    return min(found, key=lambda pair: pair[0] - pair[1]) if found else (None, 0)


def check_cpu(machine: Machine, threads: int = 0) -> Finding:
    """How many cores this process may use, and whether they are throttled on purpose."""
    allowed, said = float(machine.cpus), f"{machine.cpus} cores"
    quota = machine.read("sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdecimal():
        share = int(quota[0]) / int(quota[1])
        if share < allowed:
            allowed, said = share, f"{said}, of which a container's limit leaves {share:.1f}"
    if threads > max(1.0, allowed):
        found = f"{said}: engine.threads {threads} are more than there are, which is slower than fewer"
        return Finding(
            "cpu", Level.WARNING, found, f"--set engine.threads={max(1, int(allowed))}    # or 0: the engine chooses"
        )
    slow = []
    for folder in sorted(machine.at("sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        # the powersave of these two drivers scales with the load; that of any other is the lowest frequency, always
        scales = _text(folder / "scaling_driver") in ("intel_pstate", "amd-pstate-epp")
        if _text(folder / "scaling_governor") == "powersave" and not scales:
            slow.append(folder.parent.name)
    if slow:
        fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        return Finding(
            "cpu", Level.WARNING, f"{said}; the governor powersave holds {', '.join(slow)} at its lowest", fix
        )
    return Finding("cpu", Level.OK, said)


def check_folder(machine: Machine, name: str, folder: Path) -> Finding:
    """Can files be written there, and is there room? What is missing will be made, so its nearest parent counts."""
    folder = folder.expanduser().absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    quoted = shlex.quote(str(folder))
    if not existing.is_dir():
        return Finding(
            name, Level.ERROR, f"{folder}: {existing} is no folder", f"mv {shlex.quote(str(existing))} /tmp/"
        )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        fix = f"sudo mkdir -p {quoted} && sudo chown -R $USER {quoted}"
        return Finding(name, Level.ERROR, f"{folder}: nothing can be written there: {error.strerror}", fix)
    free = machine.disk_usage(existing).free
    said = f"{folder}, {_size(free)} free" + ("" if existing == folder else " (will be made)")
    place = shlex.quote(str(existing))
    fix = f"df -h {place} && du -sh {place}/* | sort -h | tail    # what fills it"
    if free < NEEDED_DISK:
        return Finding(name, Level.ERROR, f"{said}: full", fix)
    if free < WANTED_DISK:
        return Finding(name, Level.WARNING, f"{said}: nearly full", fix)
    return Finding(name, Level.OK, said)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _size(count: float) -> str:
    """`1536 MB`, `23.5 GB`, in powers of 1024."""
    if count < MIB:
        return f"{count / 1024:.0f} KB"
    if count < 2 * GIB:
        return f"{count / MIB:.0f} MB"
    return f"{count / GIB:.1f} GB"


# --- all of them -----------------------------------------------------------------------------------------------------


def watch_graph(machine: Machine, config: Config, seconds: float) -> list[Finding]:
    """What `vpr_ros.ros.doctor` finds in a process of its own, which is ended if it hangs."""
    if not machine.where("rclpy"):
        fix = "source /opt/ros/$ROS_DISTRO/setup.bash && vpr doctor"
        return [Finding("ros graph", Level.SKIPPED, "not watched: there is no rclpy here", fix)]
    command = [machine.python, "-m", "vpr_ros.ros.doctor", "--json", "--seconds", str(seconds)]
    command += ["--image-transport", config.node.image_transport]
    command += ["--max-odometry-age", str(config.node.max_odometry_age_s)]
    command += [] if config.node.use_odometry else ["--no-odometry"]
    rmw, distribution = machine.environment.get("RMW_IMPLEMENTATION", ""), machine.environment.get("ROS_DISTRO", "")
    try:
        output, _ = machine.run(command, seconds + GRAPH_EXTRA_S)
    except ProcessFailed as failure:
        fix = "ros2 daemon stop; ros2 doctor --report"
        if "RMW" in str(failure) or "rmw" in str(failure):
            fix = "unset RMW_IMPLEMENTATION"
            if distribution and rmw:
                fix += f"    # or: sudo apt install ros-{distribution}-{rmw.replace('_', '-')}"
        elif "No module named" in str(failure) or "ImportError" in str(failure):
            fix = (
                "source /opt/ros/$ROS_DISTRO/setup.bash; source install/setup.bash    # with the Python that ROS is for"
            )
        return [Finding("ros graph", Level.ERROR, f"cannot be watched: {failure}", fix)]
    return [from_json(item) for item in json.loads(output.splitlines()[-1])]


def checks(
    machine: Machine,
    config: Config,
    map_name: str = "",
    runs: Path = Path("runs"),
) -> dict[str, Callable[[], Finding]]:
    """The checks that need no ROS, by name, in the order in which they are shown."""
    maps = Path(config.node.maps_directory).expanduser()
    name = map_name or config.node.map
    found: dict[str, Callable[[], Finding]] = {
        "python": lambda: check_python(machine),
        "ros": lambda: check_ros(machine),
        "discovery": lambda: check_discovery(machine),
        "dds profile": lambda: check_dds_profile(machine),
        "shared memory": lambda: check_shared_memory(machine),
        "receive buffer": lambda: check_receive_buffer(machine),
        "cv_bridge": lambda: check_cv_bridge(machine),
        "opencv": lambda: check_opencv(machine),
        "faiss": lambda: check_faiss(machine),
        "onnxruntime": lambda: check_onnxruntime(machine, config.engine.backend),
        "cuda": lambda: check_cuda(machine),
        "tensorrt": lambda: check_tensorrt(machine),
        "engines": lambda: check_engines(machine, str(engine_folder(machine, config))),
        "model": lambda: check_model(machine, config.model.path),
        "memory": lambda: check_memory(machine),
        "cpu": lambda: check_cpu(machine, config.engine.threads),
        "maps folder": lambda: check_folder(machine, "maps folder", maps),
        "engine folder": lambda: check_folder(machine, "engine folder", engine_folder(machine, config)),
        "runs folder": lambda: check_folder(machine, "runs folder", runs),
    }
    if name:
        found["map"] = lambda: check_map(machine, config.model.path, maps, name)
    return found


def examine(
    found: Mapping[str, Callable[[], Finding]], graph: Callable[[], list[Finding]] | None = None
) -> Iterator[Finding]:
    """Run all checks at once and yield what they found, in their order. A check that fails is a finding, not an end."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        # first: it takes longest, because it listens
        heard = None if graph is None else pool.submit(_guarded, "ros graph", graph)
        for findings in pool.map(lambda item: _guarded(item[0], lambda: [item[1]()]), found.items()):
            yield from findings
        if heard is not None:
            yield from heard.result()


def _guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except Exception as error:  # whatever it is, the other checks go on
        return [Finding(name, Level.WARNING, f"check failed: {type(error).__name__}: {error}", REPORT_IT)]


COLOURS = {Level.OK: 32, Level.WARNING: 33, Level.ERROR: 31, Level.SKIPPED: 36}
NAME_WIDTH = 14


def lines(finding: Finding, colour: bool = False) -> list[str]:
    """A finding for people: one line, and one with what to type unless all is well."""
    mark = f"{finding.level.value:<5}"
    if colour:
        mark = f"\033[{COLOURS[finding.level]}m{mark}\033[0m"
    first = f"{mark}  {finding.name:<{NAME_WIDTH}}  {finding.found}"
    return [first, f"{'':<{NAME_WIDTH + 9}}-> type: {finding.fix}"] if finding.fix else [first]


def summary(findings: Sequence[Finding]) -> str:
    """`24 checks: 22 OK, 1 warning, 1 error`."""
    count = {level: sum(finding.level is level for finding in findings) for level in Level}
    parts = [f"{count[Level.OK]} OK"]
    for level, word in ((Level.WARNING, "warning"), (Level.ERROR, "error")):
        if count[level]:
            parts.append(f"{count[level]} {word}{'s' if count[level] > 1 else ''}")
    if count[Level.SKIPPED]:
        parts.append(f"{count[Level.SKIPPED]} skipped")
    return f"{len(findings)} checks: {', '.join(parts)}"


def to_json(finding: Finding) -> dict[str, str]:
    return {"name": finding.name, "level": finding.level.name, "found": finding.found, "fix": finding.fix}


def from_json(item: Mapping[str, str]) -> Finding:
    return Finding(item["name"], Level[item["level"]], item["found"], item["fix"])
