"""Is there an NVIDIA GPU, does its driver answer, and are TensorRT or TensorRT for RTX there to use it?"""

from __future__ import annotations

from typing import Any

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.machine import Machine, ProcessFailed
from vpr_ros.nvidia_driver import NvidiaDriver

TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-lean")


def check_cuda(machine: Machine) -> Finding:
    """Is there a GPU, and does its driver work?"""
    jetson = machine.jetpack
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


def cuda_facts() -> dict[str, Any]:
    """What the CUDA driver reports: `driver` ("" without one), `error` (its code, 0 if all is well), `devices`."""
    try:
        driver = NvidiaDriver()
    except OSError:
        return {"driver": "", "error": 0, "devices": []}
    devices = [driver.device(index) for index in range(driver.count)]
    return {"driver": driver.version().removeprefix("CUDA "), "error": driver.error, "devices": devices}


def check_tensorrt(machine: Machine) -> Finding:
    """TensorRT and pycuda: is what is installed of use here?"""
    packages = machine.installed([*TENSORRT_PACKAGES, "pycuda"])
    pycuda = packages.pop("pycuda", "")
    listed = ", ".join(f"{name} {version}" for name, version in packages.items())
    said = f"{listed or 'TensorRT is not installed'}, {f'pycuda {pycuda}' if pycuda else 'no pycuda'}"
    install = machine.pip_install("tensorrt", "pycuda")
    if machine.is_jetson:
        install = "sudo apt install python3-libnvinfer    # and a venv made with --system-site-packages"
    if not packages and not machine.where("tensorrt"):
        if not _has_gpu(machine):
            return Finding("tensorrt", Level.OK, f"{said}; without an NVIDIA GPU it is not needed")
        return Finding("tensorrt", Level.WARNING, f"{said}: the GPU is not used by TensorRT", install)
    try:
        facts = machine.ask(tensorrt_facts)
    except ProcessFailed as failure:
        return Finding("tensorrt", Level.WARNING, f"{said}: {failure}", machine.fix(failure, install))
    if not facts["devices"]:
        return Finding("tensorrt", Level.OK, f"{said}; not imported, there is no GPU that answers")
    if "pycuda" in facts:
        return Finding("tensorrt", Level.WARNING, f"{said}: {facts['pycuda']}", machine.pip_install("pycuda"))
    return Finding("tensorrt", Level.OK, f"{said}; imports as {facts['tensorrt']}")


def tensorrt_facts() -> dict[str, Any]:
    """`cuda_facts`, and what imports where there is a GPU: without a driver TensorRT may crash."""
    facts = cuda_facts()
    if facts["devices"]:
        import tensorrt

        facts |= {"tensorrt": tensorrt.__version__} | _pycuda_facts()
    return facts


def check_tensorrt_rtx(machine: Machine, backend: str = "auto") -> Finding:
    """TensorRT for RTX: does it import, and is this GPU one of those that it supports? `backend`: engine.backend."""
    is_wanted = backend == "tensorrt_rtx"
    install = f"{machine.pip_install('tensorrt-rtx-cu13')}    # or tensorrt-rtx-cu12 for a driver of CUDA 12"
    other = "--set engine.backend=auto    # TensorRT for RTX is for desktop GPUs from RTX 20 on"
    if not machine.where("tensorrt_rtx"):
        said = "TensorRT for RTX is not installed"
        if is_wanted:
            fix = other if machine.is_jetson else install
            return Finding("tensorrt_rtx", Level.WARNING, f"{said}, but engine.backend is tensorrt_rtx", fix)
        return Finding("tensorrt_rtx", Level.OK, f"{said}: an engine for desktop GPUs")
    try:
        facts = machine.ask(tensorrt_rtx_facts)
    except ProcessFailed as failure:
        return Finding("tensorrt_rtx", Level.WARNING, f"does not work: {failure}", machine.fix(failure, install))
    said = f"{facts['version']}, supports {', '.join(facts['capabilities'])}"
    if not facts["devices"]:
        return Finding("tensorrt_rtx", Level.OK, f"{said}; there is no GPU that answers: it builds for others only")
    device = facts["devices"][0]  # the one that engines use
    if f"sm{device.rpartition(' sm_')[2]}" not in facts["capabilities"]:
        said = f"{said}, not this GPU ({device})"
        return Finding("tensorrt_rtx", *((Level.WARNING, said, other) if is_wanted else (Level.OK, said)))
    if "pycuda" in facts:
        return Finding("tensorrt_rtx", Level.WARNING, f"{said}; {facts['pycuda']}", machine.pip_install("pycuda"))
    return Finding("tensorrt_rtx", Level.OK, f"{said}, also this GPU ({device})")


def tensorrt_rtx_facts() -> dict[str, Any]:
    """`cuda_facts`, version and the capabilities that it supports: it imports without a GPU too, unlike TensorRT."""
    import tensorrt_rtx

    from vpr_ros.engines.tensorrt.capabilities import known_capabilities

    facts = cuda_facts() | {"version": tensorrt_rtx.__version__, "capabilities": known_capabilities(tensorrt_rtx)}
    if facts["devices"]:
        facts |= _pycuda_facts()
    return facts


def _pycuda_facts() -> dict[str, str]:
    try:
        import pycuda.driver  # noqa: F401
    except ImportError as error:
        return {"pycuda": str(error)}
    return {}


def _has_gpu(machine: Machine) -> bool:
    if machine.is_jetson or machine.at("dev/nvidia0").exists() or machine.at("proc/driver/nvidia/version").exists():
        return True
    devices = machine.at("sys/bus/pci/devices").glob("*")
    return any(machine.read(d / "vendor") == "0x10de" and machine.read(d / "class").startswith("0x03") for d in devices)
