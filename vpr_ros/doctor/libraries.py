"""Do the libraries import, work with this NumPy, and have what is used of them?"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.imports import IMPORT_FAILURES, import_failure
from vpr_ros.machine import Machine, ProcessFailed
from vpr_ros.map.index import FAISS

OPENCV_PACKAGES = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
ONNXRUNTIME_PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training",
)  # fmt: skip
PACKAGES = ("matplotlib.figure", "jinja2", "rosbags.highlevel", "tqdm", "yaml")
PROVIDERS = {"onnxruntime_cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}


def check_opencv(machine: Machine) -> Finding:
    """One OpenCV, that works with this NumPy, and has what verification uses."""
    packages = machine.installed(OPENCV_PACKAGES)
    reinstall = machine.pip_install("opencv-python-headless", options="--force-reinstall")
    if packages:
        uninstall = machine.pip(f"uninstall -y {' '.join(packages)}")
        reinstall = f"{uninstall} && {reinstall}"
    several = len(packages) > 1
    listed = " and ".join(f"{name} {version}" for name, version in packages.items())
    try:
        facts = machine.ask(opencv_facts)
    except ProcessFailed as failure:
        found = f"does not work: {failure}" + (f"; {listed} are installed over one another" if several else "")
        return Finding("opencv", Level.ERROR, found, reinstall if several else machine.fix(failure, reinstall))
    said = f"{facts['version']}, {Path(facts['file']).parent}"
    if facts["missing"]:
        return Finding("opencv", Level.ERROR, f"{said}: has no {', '.join(facts['missing'])}", reinstall)
    if several:
        return Finding("opencv", Level.WARNING, f"{said}: {listed} overwrite each other's files", reinstall)
    return Finding("opencv", Level.OK, f"{said}; SIFT, ORB and MAGSAC are there")


def opencv_facts() -> dict[str, Any]:
    """Version, file, what is missing of what verification uses, and that an image goes through it without a crash."""
    import cv2
    import numpy as np

    missing = [name for name in ("SIFT_create", "ORB_create", "USAC_MAGSAC", "fisheye") if not hasattr(cv2, name)]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    cv2.ORB_create().detect(cv2.imdecode(cv2.imencode(".jpg", noise)[1], cv2.IMREAD_GRAYSCALE))
    return {"version": cv2.__version__, "file": str(cv2.__file__), "missing": missing}


def check_faiss(machine: Machine) -> Finding:
    """Does it import and search?"""
    install = machine.pip_install(FAISS, options="--force-reinstall")
    try:
        facts = machine.ask(faiss_facts)
    except ProcessFailed as failure:
        return Finding("faiss", Level.ERROR, f"does not work: {failure}", machine.fix(failure, install))
    if facts["refused"]:
        return Finding("faiss", Level.ERROR, facts["refused"], machine.pip_install(FAISS))
    flavours = [word for word in facts["options"].split() if word.startswith(("AVX", "NEON", "SVE", "GENERIC"))]
    return Finding("faiss", Level.OK, facts["version"] + (f", {' '.join(flavours)}" if flavours else ""))


def faiss_facts() -> dict[str, Any]:
    """Version, CPU flavour, and why the map refuses it; "" if it does not."""
    import faiss

    from vpr_ros.map.index.faiss_index import why_refused

    options = faiss.get_compile_options() if hasattr(faiss, "get_compile_options") else ""
    return {"version": faiss.__version__, "options": options, "refused": why_refused()}


def check_packages(machine: Machine) -> Finding:
    """Do the others import that `vpr replay` and its report need?"""
    try:
        facts = machine.ask(package_facts)
    except ProcessFailed as failure:
        return Finding("packages", Level.ERROR, f"do not work: {failure}", machine.fix(failure, "vpr replay --help"))
    if facts["fault"]:
        found, _, fix = facts["fault"].partition("; type: ")
        return Finding("packages", Level.ERROR, found, fix)
    return Finding("packages", Level.OK, f"{', '.join(name.partition('.')[0] for name in PACKAGES)} import")


def package_facts() -> dict[str, Any]:
    """`fault`: which of `PACKAGES` does not import, why, and what to type; "" if all do."""
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except IMPORT_FAILURES as error:
            return {"fault": import_failure(error)}
    return {"fault": ""}


def check_onnxruntime(machine: Machine, backend: str = "auto") -> Finding:
    """One ONNX Runtime, with the provider that `engine.backend` asks for."""
    packages = machine.installed(ONNXRUNTIME_PACKAGES)
    try:
        facts = machine.ask(onnxruntime_facts)
    except ProcessFailed as failure:
        install = machine.pip_install("onnxruntime", options="--force-reinstall")
        return Finding("onnxruntime", Level.ERROR, f"does not work: {failure}", machine.fix(failure, install))
    providers = [name.removesuffix("ExecutionProvider") for name in facts["providers"]]
    said = f"{facts['version']}, providers {', '.join(providers)}"
    if len(packages) > 1:
        uninstall, install = machine.pip(f"uninstall -y {' '.join(packages)}"), machine.pip_install("onnxruntime")
        fix = f"{uninstall} && {install}    # or onnxruntime-gpu, but one"
        return Finding("onnxruntime", Level.WARNING, f"{said}: {' and '.join(packages)} overwrite each other", fix)
    if backend in PROVIDERS and PROVIDERS[backend] not in facts["providers"]:
        found = f"{said}: engine.backend {backend} needs {PROVIDERS[backend]}; the node falls back to the CPU"
        fix = f"{machine.pip('uninstall -y onnxruntime')} && {machine.pip_install('onnxruntime-gpu')}"
        return Finding("onnxruntime", Level.WARNING, found, fix)
    return Finding("onnxruntime", Level.OK, said)


def onnxruntime_facts() -> dict[str, Any]:
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
