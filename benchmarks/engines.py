"""What engines gain over torch and cost in accuracy, and what our wrapper costs, all in one run with as many threads.

    python benchmarks/engines.py
    python benchmarks/engines.py --rounds 3 --size 320x240 --no-compile          # a quick look
    python benchmarks/engines.py --model my_model.onnx
    python benchmarks/engines.py --data ../shared/data

- speed: torch eager and compiled, ONNX Runtime and OpenVINO in each precision, one image at a time, at two sizes;
- wrapper: our engine's `describe` against the library's own call on the same image;
- accuracy: cosine with fp32 on images that did not calibrate, and recall@1.

The speed tables are of the model's architecture with random weights, built in torch and exported at each size: times do not
depend on weights, and the file has only one size. What takes part takes turns in every round; only ratios are printed. A row
that cannot run says why.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distillation_cost import by_name, print_ratio  # first: it finds training, and mends torchvision
from training_cost import size

# isort: split
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from training.evaluation.answers import answer
from training.evaluation.describers import FixedSizeModel
from training.evaluation.descriptor_cache import DescriptorCache
from training.evaluation.metrics import right_within
from training.evaluation.protocols import open_protocol
from training.export.place_model import export
from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.engines.backend import Backend, BuildOptions, Engine
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.graphs.sensitivity import sensitivity
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeBackend
from vpr_ros.engines.openvino_engine import OpenVinoBackend
from vpr_ros.errors import VprError
from vpr_ros.images import read_image, resize
from vpr_ros.model import PlaceModel
from vpr_ros.sources.folders import image_files

BACKENDS: tuple[Backend, ...] = (OnnxRuntimeBackend("cpu"), OpenVinoBackend("CPU"))
ENGINES = [(backend, precision) for backend in BACKENDS for precision in backend.precisions]
CALIBRATION, TEST = 64, 96
FOLDERS = ("kitti/sequences/00/image_0", "camvid/train", "tum_fr1_desk/rgb", "michigan")
"""Images in the team's data; never GardensPoint or Stromovka."""
PLACES = {"kitti-loops": "kitti", "gardenspoint": "gardenspoint", "stromovka": "stromovka"}
"""What recall is measured on, as far as it is there."""
CALLS = 4
"""Of each in a round: one alone is short against the clock and the switch of caches."""


def no_progress(what: str, share: float | None) -> None:
    pass


def torch_network(model: PlaceModel, width: int, height: int) -> PlaceNetwork:
    """The model's architecture in torch, at any size. Raises VprError for a model that does not say what it is."""
    if "options" not in model.metadata:
        raise VprError(f"{model.name} does not say what network it is: it was not trained here")
    options = NetworkOptions.model_validate_json(model.metadata["options"])
    torch.manual_seed(0)
    return PlaceNetwork(options.without_weights().model_copy(update={"width": width, "height": height})).eval()


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(CALLS):
            call()

    return calls


def print_head(title: str) -> None:
    print(f"\n{title:<56}{'median':>8}   least to most")


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(model: PlaceModel, network: PlaceNetwork | None, images: NDArray[np.uint8], options: Any) -> None:
    image = images[:1]
    contestants: dict[str, Callable[[], object]] = {}
    if network is not None:
        batch = torch.from_numpy(image)
        contestants["torch eager"] = lambda: network(batch)
        if options.compile:
            compiled = torch.compile(network)
            try:
                compiled(batch)
                contestants["torch.compile"] = lambda: compiled(batch)
            except Exception as error:  # it needs a C++ compiler, and has many ways to say so
                print(f"torch.compile: not run: {' '.join(str(error).split())[:100]}")
    for name, engine in engines(model, images, options).items():
        contestants[name] = lambda engine=engine: engine.describe(image)
    first = next(iter(contestants))
    seconds = by_name(options.rounds, {name: repeated(call) for name, call in contestants.items()})
    print_head(f"time at {model.width}x{model.height}, of {first}; {options.threads} threads, {options.rounds} rounds")
    for name in contestants:
        print_ratio(name, seconds[name], seconds[first])


def engines(model: PlaceModel, images: NDArray[np.uint8], options: Any) -> dict[str, Engine]:
    """By name; what cannot run is printed with its reason."""
    found = {}
    for backend, precision in ENGINES:
        name = f"{backend.name} {precision}"
        try:
            if reason := backend.missing():
                raise VprError(reason)
            build = BuildOptions(precision=precision, threads=options.threads)
            graph = graph_of(model, precision, images, symmetric=False)
            found[name] = backend.load(model, backend.build(model, graph, build, no_progress), build)
        except VprError as error:
            print(f"{name}: not run: {error}")
    return found


# --- wrapper --------------------------------------------------------------------------------------------------------


def wrapper(model: PlaceModel, image: NDArray[np.uint8], options: Any) -> None:
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for backend in BACKENDS:
        if reason := backend.missing():
            print(f"{backend.name}: not run: {reason}")
            continue
        engine = backend.load(model, model.content, BuildOptions(threads=options.threads))
        raw = (
            raw_onnxruntime(model, options.threads)
            if "onnxruntime" in backend.name
            else raw_openvino(model, options.threads)
        )
        pairs[backend.name] = (lambda engine=engine: engine.describe(image), lambda raw=raw: raw(image))
    contestants = {f"{name} {i}": repeated(call) for name, calls in pairs.items() for i, call in enumerate(calls)}
    seconds = by_name(3 * options.rounds, contestants)
    print_head(f"our call, of the library's own; {3 * options.rounds} rounds")
    for name in pairs:
        print_ratio(name, seconds[f"{name} 0"], seconds[f"{name} 1"])


def raw_onnxruntime(model: PlaceModel, threads: int) -> Callable[[NDArray[np.uint8]], object]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.content, settings, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["descriptors"], {"images": image})


def raw_openvino(model: PlaceModel, threads: int) -> Callable[[NDArray[np.uint8]], object]:
    import openvino

    core = openvino.Core()
    graph = core.read_model(model.content, b"")
    graph.reshape([1, model.height, model.width, 3])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    return lambda image: request.infer({0: image}, share_inputs=True, share_outputs=True)


# --- accuracy -------------------------------------------------------------------------------------------------------


def accuracy(model: PlaceModel, calibration: NDArray[np.uint8], test: NDArray[np.uint8], options: Any) -> None:
    running = engines(model, calibration, options)
    # what TensorRT takes; OpenVINO is faster with it than ONNX Runtime
    runner = next(backend for backend in reversed(BACKENDS) if not backend.missing())
    symmetric = graph_of(model, "int8", calibration)
    running["int8, symmetric"] = runner.load(model, symmetric, BuildOptions("int8", threads=options.threads))
    reference = running["onnxruntime fp32"].describe(test)
    protocols = {
        name: open_protocol(f"{name}={options.data / folder}")
        for name, folder in PLACES.items()
        if (options.data / folder).is_dir()
    }
    print(f"\ncosine with fp32 over {len(test)} images, {len(calibration)} others calibrate; recall@1")
    print(f"{'':<24}{'smallest':>10}{'median':>10}" + "".join(f"{name:>15}" for name in protocols))
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in running.items():
            cosines = np.sum(reference * engine.describe(test), axis=1)
            describer = FixedSizeModel(name, name, model.width, model.height, engine.describe)
            found = [answer(describer, protocol, DescriptorCache(Path(folder))) for protocol in protocols.values()]
            recalls = "".join(f"{right_within(each.right[each.counted])[:, 0].mean():>15.3f}" for each in found)
            print(f"{name:<24}{cosines.min():>10.4f}{np.median(cosines):>10.4f}{recalls}", flush=True)
    print("\nsmallest cosine where only these operators are int8")
    for cost in sensitivity(model, "int8", calibration, symmetric=False):
        print(f"{cost.operator:<24}{cost.cosine:>10.4f}")


def spread(data: Path, count: int, offset: float, model: PlaceModel) -> NDArray[np.uint8]:
    """(count, H, W, 3) from all over the folders; other offsets in 0 to 1 give other images."""
    present = [files for folder in FOLDERS if (data / folder).is_dir() and (files := image_files(data / folder))]
    if not present:
        raise VprError(f"{data} has none of {', '.join(FOLDERS)}: give --data")
    each = count // len(present)
    paths = [files[int((i + offset) * len(files) / each)] for files in present for i in range(each)]
    return np.stack([resize(read_image(path), model.width, model.height) for path in paths])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, help="ONNX file (default: the shipped one)")
    add("--data", type=Path, default=Path("../shared/data"), help="folder of real images (default: %(default)s)")
    add("--size", type=size, action="append", help="of the speed table; may be repeated (default: 320x240 and 640x480)")
    add("--threads", type=int, default=2, help="of every contestant (default: %(default)s)")
    add("--rounds", type=int, default=15, help="each a few calls of every contestant (default: %(default)s)")
    add("--no-compile", dest="compile", action="store_false", help="without torch.compile, which takes a minute")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        model = PlaceModel.open(options.model)
        print(f"{model.name}, {model.width}x{model.height}")
        calibration, test = (spread(options.data, n, at, model) for n, at in ((CALIBRATION, 0), (TEST, 0.5)))
        with tempfile.TemporaryDirectory() as folder:
            for width, height in options.size or [(320, 240), (640, 480)]:
                try:
                    network = torch_network(model, width, height)
                except VprError as error:
                    print(f"torch: not run: {error}")
                    speed(model, None, calibration, options)
                    break
                file = Path(folder) / f"{width}x{height}.onnx"
                at_size = export(network, file, width=width, height=height, metadata={})
                speed(at_size, network, spread(options.data, 16, 0, at_size), options)
        wrapper(model, test[:1], options)
        accuracy(model, calibration, test, options)
    except VprError as error:
        raise SystemExit(f"engines: {error}") from error


if __name__ == "__main__":
    main()
