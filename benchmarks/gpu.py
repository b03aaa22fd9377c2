"""What an NVIDIA GPU makes of the model that ships: every engine against torch, and where the time goes.

    python benchmarks/gpu.py --out gpu_session                    # measures; benchmarks/gpu_session.sh does it all
    python benchmarks/gpu.py --out gpu_session --page docs/hardware    # writes the page of that machine

- limits: a copy within the GPU's memory and a product of large matrices, on random data: what the card can do;
- speed: a call from images of the host to descriptors of the host, for each size and batch, in turns;
- graphs: the same engine with its own CUDA graphs and without;
- kernels: torch on the GPU alone, against the floor that arithmetic and the fewest possible bytes set, and the share of the copies;
- training: one step of the recipe's network and loss on images in memory, against the same step on the CPU.

What cannot run says why. The model at another size than its file's has random weights: times do not depend on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # training is no installed package
import training  # noqa: F401  # first: it mends torchvision

# isort: split
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.data.batch import Targets
from training.export.place_model import export
from training.losses.multi_similarity import MultiSimilarity
from training.models.place_network import NetworkOptions, PlaceNetwork
from vpr_ros.engines.backend import Backend, BuildOptions, Engine
from vpr_ros.engines.backends import backends
from vpr_ros.engines.cache import EngineCache
from vpr_ros.engines.graphs.precision import graph_of
from vpr_ros.engines.open import fitted, open_reference
from vpr_ros.engines.tensorrt.backend import TensorRtBackend
from vpr_ros.errors import EngineError, VprError
from vpr_ros.images import read_image
from vpr_ros.machine import Machine
from vpr_ros.model import PlaceModel, shipped_model
from vpr_ros.sources.folders import image_files
from vpr_ros.stopwatch import in_turns

SIZES = ((320, 240), (640, 480))
BATCHES = (1, 16)
BACKENDS = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "onnxruntime_tensorrt")
ROUNDS = 40
LIMIT_S = 2.0
"""A call that has taken so long is measured in fewer rounds."""
TRAINING_BATCH = 48
MATRIX = 8192
RESULTS = "gpu.json"


def quiet(text: str, share: float | None) -> None:
    pass


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if isinstance(error, VprError) else f"{type(error).__name__}: {text}")[:300]


class Results:
    """Rows by section; every row is written at once, so that an end in the middle loses one row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections: dict[str, list[dict[str, Any]]] = {}

    def add(self, section: str, **row: Any) -> None:
        self.sections.setdefault(section, []).append(row)
        self.path.write_text(json.dumps(self.sections, indent=1))
        print(f"{section}: {', '.join(f'{name} {value}' for name, value in row.items())}", flush=True)


# --- the card ---------------------------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    def asked(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            return reason(error)

    description = Machine().description()
    return {
        "GPU": asked("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
        "driver": description.gpu,
        "CPU": f"{description.cpu}, {description.cores} cores",
        "system": f"{description.system}, Python {description.python}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        **description.versions,
    }


def seconds_on_gpu(call: Callable[[], object], calls: int = 20, rounds: int = 15) -> float:
    """Median over rounds of the time of one call, by events around `calls` of them."""
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / calls)
    return float(np.median(times))


def limits(results: Results) -> tuple[float, float]:
    """(bytes/s, FLOP/s) that the card reaches; float16 products, random data."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / seconds_on_gpu(lambda: target.copy_(source), 5)
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16) for _ in range(2))
    rate = 2 * MATRIX**3 / seconds_on_gpu(lambda: a @ b, 5)
    results.add("limits", copy_TB_per_s=round(bandwidth / 1e12, 2), fp16_TFLOP_per_s=round(rate / 1e12, 1))
    return bandwidth, rate


# --- speed ------------------------------------------------------------------------------------------------------------


def network_of(model: PlaceModel, width: int, height: int) -> PlaceNetwork:
    options = NetworkOptions.model_validate_json(model.metadata["options"]).without_weights()
    torch.manual_seed(0)
    return PlaceNetwork(options.model_copy(update={"width": width, "height": height})).eval()


def model_of(size: tuple[int, int], folder: Path) -> PlaceModel:
    """The model that ships, or its architecture for another size, exported once into `folder`."""
    shipped = PlaceModel.open(shipped_model())
    if (shipped.width, shipped.height) == size:
        return shipped
    path = folder / f"{size[0]}x{size[1]}.onnx"
    if not path.is_file():
        export(network_of(shipped, *size), path, width=size[0], height=size[1], metadata={"name": path.stem})
    return PlaceModel.open(path)


class TorchCall:
    """Images of the host -> descriptors of the host, with pinned memory both ways; `network_call` is without copies."""

    def __init__(self, network: nn.Module, images: NDArray[np.uint8], half: bool, compiled: bool, graph: bool) -> None:
        self._network = torch.compile(network) if compiled else network
        self._half = half
        self._host = torch.from_numpy(images).pin_memory()
        self._images = self._host.cuda()
        for _ in range(3):
            self._out = self.forward()
        torch.cuda.synchronize()
        self._back = torch.empty(self._out.shape, dtype=self._out.dtype).pin_memory()
        self._graph = None
        if graph:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self.forward()

    @torch.no_grad()
    def forward(self) -> Tensor:
        with torch.autocast("cuda", dtype=torch.float16, enabled=self._half):
            return self._network(self._images)

    def network_call(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            self._out = self.forward()

    def __call__(self) -> NDArray[np.float32]:
        self._images.copy_(self._host, non_blocking=True)
        self.network_call()
        self._back.copy_(self._out, non_blocking=True)
        torch.cuda.synchronize()
        return self._back.numpy()


def torch_calls(
    network: PlaceNetwork, images: NDArray[np.uint8], compiling: bool, results: Results, where: dict[str, Any]
) -> Iterator[tuple[str, TorchCall]]:
    kinds = [("fp32", "eager"), ("fp32", "graph"), ("fp16", "eager"), ("fp16", "graph")]
    kinds += [("fp16", "compile"), ("fp16", "compile+graph")] if compiling else []
    for precision, how in kinds:
        name = f"torch {precision} {how}"
        try:
            yield name, TorchCall(network, images, precision == "fp16", "compile" in how, "graph" in how)
        except Exception as error:  # a compiler has many ways to fail
            results.add("failed", **where, engine=name, reason=reason(error))


def engine_calls(
    model: PlaceModel, images: NDArray[np.uint8], known: list[Backend], results: Results, where: dict[str, Any]
) -> Iterator[tuple[str, Engine]]:
    for backend in known:
        if missing := backend.missing():
            results.add("failed", **where, engine=backend.name, reason=missing)
            continue
        for precision in backend.precisions:
            options = BuildOptions(precision, len(images))
            try:
                graph = graph_of(model, precision, images[:8], symmetric=backend.needs_symmetric_int8)
                start = time.perf_counter()
                content = backend.build(model, graph, options, quiet)
                built = time.perf_counter()
                engine = backend.load(model, content, options)
                engine.describe(images)
                first = time.perf_counter()
                results.add(
                    "builds",
                    **where,
                    engine=engine.name,
                    build_s=round(built - start, 2),
                    load_and_first_s=round(first - built, 2),
                    MB=round(len(content) / 1e6, 1),
                )
                yield engine.name, engine
                if isinstance(backend, TensorRtBackend):
                    plain = dataclasses.replace(backend, cuda_graphs=False)
                    yield f"{engine.name} without CUDA graphs", plain.load(model, content, options)
            except Exception as error:
                results.add("failed", **where, engine=f"{backend.name} {precision}", reason=reason(error))


def cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return round(float(np.sum(found * expected, axis=1).min()), 5)


def speed(
    results: Results,
    size: tuple[int, int],
    batch: int,
    real: list[NDArray[np.uint8]],
    options: Any,
    peak: tuple[float, float],
) -> None:
    model = model_of(size, options.models)
    where = {"size": f"{size[0]}x{size[1]}", "batch": batch}
    images = fitted(model, [real[i % len(real)] for i in range(batch)] if real else ())[:batch]
    images = np.ascontiguousarray(images)
    reference = open_reference(model)
    expected = reference.describe(images)
    calls: dict[str, Callable[[], NDArray[np.float32]]] = {
        "onnxruntime fp32 on the CPU": lambda: reference.describe(images)
    }
    network = network_of(model if "options" in model.metadata else PlaceModel.open(shipped_model()), *size).cuda()
    for name, call in torch_calls(network, images, (size, batch) in options.compiling, results, where):
        calls[name] = call
    engines = []
    with tempfile.TemporaryDirectory() as folder:
        known = [backend for name, backend in backends(EngineCache(folder)).items() if name in BACKENDS]
        for name, engine in engine_calls(model, images, known, results, where):
            engines.append(engine)
            try:
                engine.describe(images)
                calls[name] = lambda engine=engine: engine.describe(images)
            except EngineError as error:
                results.add("failed", **where, engine=name, reason=reason(error))
        seconds = dict(zip(calls, in_turns(list(calls.values()), ROUNDS, warm_up=1, limit_s=LIMIT_S), strict=True))
        for name, times in seconds.items():
            row: dict[str, Any] = {"engine": name, "ms": round(1e3 * float(np.median(times)), 3)}
            row["p90_ms"] = round(1e3 * float(np.quantile(times, 0.9)), 3)
            row["images_per_s"] = round(batch / float(np.median(times)))
            row["x_cpu"] = round(float(np.median(seconds["onnxruntime fp32 on the CPU"]) / np.median(times)), 2)
            if not name.startswith("torch"):  # whose weights are random
                row["cosine_min"] = cosine(calls[name](), expected)
            results.add("speed", **where, **row)
        for engine in engines:
            engine.close()
    kernels(
        results,
        network,
        images,
        {name: call for name, call in calls.items() if isinstance(call, TorchCall)},
        where,
        peak,
    )


# --- kernels ----------------------------------------------------------------------------------------------------------


def floor(network: PlaceNetwork, images: Tensor, element_bytes: int) -> tuple[float, float]:
    """(FLOP, least bytes): of each convolution and product its input, weights and output once, all else fused into them."""
    moved = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        elements = inputs[0].numel() + output.numel() + sum(p.numel() for p in module.parameters())
        moved += elements * element_bytes

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), moved


def kernels(
    results: Results,
    network: PlaceNetwork,
    images: NDArray[np.uint8],
    calls: dict[str, TorchCall],
    where: dict[str, Any],
    peak: tuple[float, float],
) -> None:
    on_gpu = torch.from_numpy(images).cuda()
    host = torch.from_numpy(images).pin_memory()
    up = seconds_on_gpu(lambda: on_gpu.copy_(host, non_blocking=True))
    for name, call in calls.items():
        flop, moved = floor(network, on_gpu, 2 if "fp16" in name else 4)
        least = max(flop / peak[1], moved / peak[0])
        seconds = seconds_on_gpu(call.network_call)
        results.add(
            "kernels",
            **where,
            engine=name,
            ms=round(1e3 * seconds, 3),
            copy_up_ms=round(1e3 * up, 3),
            GFLOP=round(flop / 1e9, 2),
            least_MB=round(moved / 1e6, 1),
            floor_ms=round(1e3 * least, 4),
            floor_is="arithmetic" if flop / peak[1] > moved / peak[0] else "memory",
            share_of_floor=round(least / seconds, 3),
        )


# --- training ---------------------------------------------------------------------------------------------------------


def training_steps(results: Results) -> None:
    for device, precision, tf32 in (
        ("cpu", "32-true", False),
        ("cuda", "32-true", False),
        ("cuda", "32-true", True),
        ("cuda", "16-mixed", True),
        ("cuda", "bf16-mixed", True),
    ):
        named = f"{precision} with TF32" if tf32 and precision == "32-true" else precision
        try:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            seconds = training_step(device, precision)
            results.add(
                "training",
                device=device,
                precision=named,
                step_ms=round(1e3 * seconds, 1),
                images_per_s=round(TRAINING_BATCH / seconds, 1),
                peak_GB=None if device == "cpu" else round(torch.cuda.max_memory_allocated() / 1e9, 2),
            )
        except Exception as error:
            results.add("failed", engine=f"training {device} {named}", reason=reason(error))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def training_step(device: str, precision: str) -> float:
    """Median seconds of a step on a batch of images in memory: network, loss, gradients, optimiser."""
    model = PlaceModel.open(shipped_model())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (TRAINING_BATCH, model.height, model.width, 3), dtype=np.uint8)
    places = torch.arange(TRAINING_BATCH) // 4
    similarity = (places[:, None] == places[None]).float()
    network = network_of(model, model.width, model.height).train().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    scaler = torch.amp.GradScaler(device, enabled=precision == "16-mixed")
    images, loss_of = torch.from_numpy(pixels).to(device), MultiSimilarity()
    targets = Targets(similarity, torch.empty(0, 3, dtype=torch.int64)).to(device)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    times = []
    for _ in range(3 if device == "cpu" else 25):
        start = now()
        optimiser.zero_grad()
        with torch.autocast(device, dtype=dtype, enabled="mixed" in precision):
            descriptors = network(images)
        scaler.scale(loss_of(descriptors.float(), targets)).backward()
        scaler.step(optimiser)
        scaler.update()
        times.append(now() - start)
    return float(np.median(times[1 if device == "cpu" else 5 :]))


# --- page -------------------------------------------------------------------------------------------------------------

TITLES = {
    "limits": "What the card can do: a copy within its memory, and a product of 8192 x 8192 matrices in fp16",
    "speed": "A call from images of the host to descriptors of the host, in turns (`x_cpu`: against ONNX Runtime on the CPU)",
    "kernels": "torch on the GPU alone, against the floor of arithmetic and of the fewest bytes, and the copy of the images",
    "builds": "Engines: built, and loaded with their first descriptors",
    "training": f"One training step on {TRAINING_BATCH} images of 320x240 in memory: network, loss, gradients, optimiser",
    "failed": "What did not run",
}


def write_page(results: Path, folder: Path) -> Path:
    """The results of a machine as `FOLDER/GPU.md`."""
    sections = json.loads(results.read_text())
    facts = sections.pop("machine")[0]
    name = facts["GPU"].partition(",")[0]
    lines = [f"# {name}", "", "Written by `python benchmarks/gpu.py --page`.", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    for section, title in TITLES.items():
        rows = sections.get(section, [])
        if not rows:
            continue
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]
    path = folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}.md"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


# --- main -------------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    options.models = options.models or options.out
    results = Results(options.out / RESULTS)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 shall mean it
    results.add("machine", **machine())
    peak = limits(results)
    files = list(image_files(options.images)) if options.images else []
    real = [read_image(path) for path in files]
    end = time.monotonic() + 60 * options.minutes
    options.compiling = [((320, 240), 1), ((640, 480), 16)] if options.compile else []
    for size in SIZES:
        for batch in BATCHES:
            if time.monotonic() > end:
                results.add("failed", engine=f"{size[0]}x{size[1]} batch {batch}", reason="no time left")
                continue
            try:
                speed(results, size, batch, real, options, peak)
            except Exception as error:
                results.add("failed", engine=f"{size[0]}x{size[1]} batch {batch}", reason=reason(error))
    training_steps(results)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_session"), help="folder of the results")
    parser.add_argument("--images", type=Path, help="folder of images of a camera; without it ours")
    parser.add_argument("--models", type=Path, help="folder of exported models, WIDTHxHEIGHT.onnx; default: --out")
    parser.add_argument("--minutes", type=float, default=5.0, help="after so many no new combination is begun")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    parser.add_argument(
        "--page", type=Path, metavar="FOLDER", help="write the page of --out there, and measure nothing"
    )
    options = parser.parse_args()
    if options.page:
        print(write_page(options.out / RESULTS, options.page))
    else:
        measure(options)


if __name__ == "__main__":
    main()
