"""Do the libraries import, work with this NumPy, and have what is used of them?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vpr_ros.doctor.finding import Finding, Level
from vpr_ros.machine import Machine, ProcessFailed

OPENCV_PACKAGES = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
ONNXRUNTIME_PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training",
)  # fmt: skip
PROVIDERS = {"onnxruntime_cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}


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
        return Finding("opencv", Level.ERROR, found, reinstall if several else failure.fix(reinstall))
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
    install = "pip install --force-reinstall faiss-cpu"
    try:
        facts = machine.ask(faiss_facts)
    except ProcessFailed as failure:
        return Finding("faiss", Level.ERROR, f"does not work: {failure}", failure.fix(install))
    if not facts["searches"]:
        found = f"{facts['version']} does not search a part of an index"
        return Finding("faiss", Level.ERROR, found, "pip install -U 'faiss-cpu>=1.7.3'")
    flavours = [word for word in facts["options"].split() if word.startswith(("AVX", "NEON", "SVE", "GENERIC"))]
    return Finding("faiss", Level.OK, facts["version"] + (f", {' '.join(flavours)}" if flavours else ""))


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


def check_onnxruntime(machine: Machine, backend: str = "auto") -> Finding:
    """One ONNX Runtime, with the provider that `engine.backend` asks for."""
    packages = machine.installed(ONNXRUNTIME_PACKAGES)
    try:
        facts = machine.ask(onnxruntime_facts)
    except ProcessFailed as failure:
        install = "pip install --force-reinstall onnxruntime"
        return Finding("onnxruntime", Level.ERROR, f"does not work: {failure}", failure.fix(install))
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


def onnxruntime_facts() -> dict[str, Any]:
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
