"""Is there an NVIDIA GPU, does its driver answer, and is TensorRT there to use it?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.doctor.machine import Machine, ProcessFailed

TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-lean")


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
    if not _has_gpu(machine):
        missing = f"a driver for CUDA {facts['driver']} but no GPU" if facts["driver"] else "no NVIDIA GPU"
        return Finding("cuda", Level.OK, f"{missing}: the model runs on the CPU")
    if not facts["driver"]:
        if machine.is_container:
            fix = "docker run --runtime nvidia ..." if jetson else "docker run --gpus all ..."
        else:
            fix = "sudo apt install nvidia-jetpack" if jetson else "sudo ubuntu-drivers install && sudo reboot"
        return Finding("cuda", Level.WARNING, f"an NVIDIA GPU, but no libcuda.so.1{on}", fix)
    why = {
        100: "no device",
        803: "its library does not fit the kernel module: updated and not rebooted",
        804: "forward compatibility is not supported on this GPU",
    }.get(facts["error"], f"cuInit returned {facts['error']}")
    return Finding("cuda", Level.WARNING, f"driver for CUDA {facts['driver']} does not work: {why}{on}", fix)


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


def check_tensorrt(machine: Machine) -> Finding:
    """TensorRT and pycuda: is what is installed of use here?"""
    packages = machine.installed([*TENSORRT_PACKAGES, "pycuda"])
    pycuda = packages.pop("pycuda", "")
    listed = ", ".join(f"{name} {version}" for name, version in packages.items())
    said = f"{listed or 'TensorRT is not installed'}, {f'pycuda {pycuda}' if pycuda else 'no pycuda'}"
    install = "pip install tensorrt pycuda"
    if machine.is_jetson:
        install = "sudo apt install python3-libnvinfer    # and a venv made with --system-site-packages"
    if not packages and not machine.where("tensorrt"):
        if not _has_gpu(machine):
            return Finding("tensorrt", Level.OK, f"{said}; without an NVIDIA GPU it is not needed")
        return Finding("tensorrt", Level.WARNING, f"{said}: the GPU is not used by TensorRT", install)
    try:
        facts = machine.ask(tensorrt_facts)
    except ProcessFailed as failure:
        return Finding("tensorrt", Level.WARNING, f"{said}: {failure}", failure.fix(install))
    if not facts["devices"]:
        return Finding("tensorrt", Level.OK, f"{said}; not imported, there is no GPU that answers")
    if "pycuda" in facts:
        return Finding("tensorrt", Level.WARNING, f"{said}: {facts['pycuda']}", "pip install pycuda")
    return Finding("tensorrt", Level.OK, f"{said}; imports as {facts['tensorrt']}")


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


def _has_gpu(machine: Machine) -> bool:
    if machine.is_jetson or machine.at("dev/nvidia0").exists() or machine.at("proc/driver/nvidia/version").exists():
        return True
    devices = machine.at("sys/bus/pci/devices").glob("*")
    return any(machine.read(d / "vendor") == "0x10de" and machine.read(d / "class").startswith("0x03") for d in devices)
