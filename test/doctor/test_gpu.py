"""GPUs, drivers and TensorRT that are not at hand where the tests run: their answers are fixed."""

from __future__ import annotations

import ctypes

import pytest
from fake_machine import alone, assert_bad, module, package, put

from vpr_ros.doctor import Finding, Level
from vpr_ros.doctor.gpu import check_cuda, check_tensorrt, check_tensorrt_rtx, cuda_facts
from vpr_ros.machine import Machine, ProcessFailed

NO_DRIVER = {"driver": "", "error": 0, "devices": []}
GPU = {"driver": "12.6", "error": 0, "devices": ["Orin sm_87"]}


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


def test_cuda_facts_of_a_gpu_of_a_driver_that_fails_and_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for open_driver, facts in (
        (lambda: FakeCuda(), {"driver": "12.6", "error": 0, "devices": ["Orin sm_87"]}),
        (lambda: FakeCuda(803), {"driver": "12.6", "error": 803, "devices": []}),
        (lambda: ctypes.CDLL("/nowhere/libcuda.so.1"), NO_DRIVER),
    ):
        monkeypatch.setattr("vpr_ros.nvidia_driver._open_driver", open_driver)
        assert cuda_facts() == facts


class Answering(Machine):
    """A machine on which the questions have fixed answers."""

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


def test_cuda(machine: Machine) -> None:
    assert check_cuda(machine).level is Level.OK  # really asked: the test machine may have a GPU or not
    assert "the model runs on the CPU" in check_cuda(answering(machine, NO_DRIVER)).found
    unused = answering(machine, {"driver": "12.6", "error": 100, "devices": []})
    assert check_cuda(unused).level is Level.OK
    put(machine, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    put(machine, "sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    assert_bad(check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "no libcuda.so.1", "ubuntu-drivers install")
    broken = answering(machine, {"driver": "12.6", "error": 803, "devices": []})
    assert_bad(check_cuda(broken), Level.WARNING, "updated and not rebooted", "sudo reboot")
    hung = answering(machine, ProcessFailed("no answer in 30 s"))
    assert_bad(check_cuda(hung), Level.WARNING, "no answer in 30 s", "nvidia-smi")
    put(machine, ".dockerenv")
    assert_bad(check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "no libcuda", "docker run --gpus all")


def test_cuda_on_a_jetson(machine: Machine) -> None:
    put(machine, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 1\n")
    assert_bad(check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "Jetson R36", "nvidia-jetpack")
    assert check_cuda(answering(machine, GPU)).found == "driver for CUDA 12.6: Orin sm_87 (Jetson R36.4.0 (JetPack 6))"
    put(machine, ".dockerenv")
    assert_bad(check_cuda(answering(machine, NO_DRIVER)), Level.WARNING, "Jetson", "--runtime nvidia")


def test_tensorrt_is_not_imported_without_a_gpu(machine: Machine) -> None:
    machine = alone(machine)
    assert check_tensorrt(machine).level is Level.OK
    package(machine, "tensorrt", "10.3.0")
    module(machine, "tensorrt", "import os; os.abort()")
    finding = check_tensorrt(answering(machine, NO_DRIVER))
    assert finding.level is Level.OK
    assert "tensorrt 10.3.0, no pycuda; not imported" in finding.found


def test_tensorrt_that_a_gpu_misses(machine: Machine) -> None:
    machine = alone(machine)
    put(machine, "dev/nvidia0")
    assert_bad(check_tensorrt(machine), Level.WARNING, "TensorRT is not installed", "pip install tensorrt pycuda")
    put(machine, "etc/nv_tegra_release", "# R36 (release)\n")
    assert_bad(check_tensorrt(machine), Level.WARNING, "not installed", "sudo apt install python3-libnvinfer")
    package(machine, "tensorrt", "10.3.0")
    bad = answering(machine, ProcessFailed("ImportError: libnvinfer.so.10: cannot open shared object file"))
    assert_bad(check_tensorrt(bad), Level.WARNING, "libnvinfer.so.10", "--system-site-packages")
    no_pycuda = answering(machine, GPU | {"tensorrt": "10.3.0", "pycuda": "No module named 'pycuda'"})
    assert_bad(check_tensorrt(no_pycuda), Level.WARNING, "No module named 'pycuda'", "pip install pycuda")
    package(machine, "pycuda", "2024.1")
    fine = check_tensorrt(answering(machine, GPU | {"tensorrt": "10.3.0"}))
    assert fine == Finding("tensorrt", Level.OK, "tensorrt 10.3.0, pycuda 2024.1; imports as 10.3.0")


RTX = {"version": "1.7.1", "capabilities": ["sm75", "sm89"]}


def test_tensorrt_rtx_that_is_not_installed_matters_only_if_it_is_wanted(machine: Machine) -> None:
    machine = alone(machine)
    assert check_tensorrt_rtx(machine).level is Level.OK
    assert_bad(check_tensorrt_rtx(machine, "tensorrt_rtx"), Level.WARNING, "not installed", "pip install tensorrt-rtx")
    put(machine, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 1\n")
    assert_bad(check_tensorrt_rtx(machine, "tensorrt_rtx"), Level.WARNING, "not installed", "engine.backend=auto")


def test_tensorrt_rtx_names_the_gpus_that_it_supports(machine: Machine) -> None:
    module(machine, "tensorrt_rtx", "")
    for devices, backend, level, said in (
        (
            [],
            "tensorrt_rtx",
            Level.OK,
            "1.7.1, supports sm75, sm89; there is no GPU that answers: it builds for others only",
        ),
        (
            ["RTX 4090 sm_89", "H200 sm_90"],
            "auto",
            Level.OK,
            "1.7.1, supports sm75, sm89, also this GPU (RTX 4090 sm_89)",
        ),
        (["H200 sm_90"], "auto", Level.OK, "1.7.1, supports sm75, sm89, not this GPU (H200 sm_90)"),
        (["H200 sm_90"], "tensorrt_rtx", Level.WARNING, "1.7.1, supports sm75, sm89, not this GPU (H200 sm_90)"),
    ):
        finding = check_tensorrt_rtx(answering(machine, NO_DRIVER | RTX | {"devices": devices}), backend)
        assert (finding.level, finding.found) == (level, said)
    no_pycuda = answering(machine, GPU | RTX | {"devices": ["RTX 4090 sm_89"], "pycuda": "No module named 'pycuda'"})
    assert_bad(check_tensorrt_rtx(no_pycuda), Level.WARNING, "No module named 'pycuda'", "pip install pycuda")


def test_tensorrt_rtx_is_really_asked(machine: Machine) -> None:
    module(machine, "tensorrt_rtx", "__version__ = '1.8.0'\nclass ComputeCapability: CURRENT, SM120, SM86 = 0, 2, 1")
    assert "1.8.0, supports sm86, sm120" in check_tensorrt_rtx(machine).found
    module(machine, "tensorrt_rtx", "raise ImportError('libtensorrt_rtx.so.1: cannot open shared object file')")
    assert_bad(check_tensorrt_rtx(machine), Level.WARNING, "libtensorrt_rtx.so.1", "pip install tensorrt-rtx-cu13")
