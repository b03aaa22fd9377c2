"""The TensorRT backend against the names of the real bindings, and run on an imitation of them."""

from __future__ import annotations

import ast
import gc
import inspect
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from fake_tensorrt import NAMES, Gpu, install, is_for_rtx, tensorrt
from masked_models import save_masked_grid_model
from onnx import TensorProto, helper, numpy_helper
from small_worlds import save_grid_model, texture

from vpr_ros.engines import tensorrt_engine
from vpr_ros.engines.backend import BuildOptions
from vpr_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from vpr_ros.engines.tensorrt_engine import TensorRtBackend, TensorRtEngine
from vpr_ros.errors import EngineError, ModelError
from vpr_ros.model import PlaceModel

VERSIONS = tuple(version for version in NAMES if not is_for_rtx(version))
OLD, *TYPED = VERSIONS  # 8.6 and those with strongly typed networks and progress monitors
BATCH = BuildOptions(batch=4)


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture(params=VERSIONS)
def backend(request: pytest.FixtureRequest, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> TensorRtBackend:
    install(monkeypatch, request.param, gpu)
    return TensorRtBackend()


@pytest.fixture
def newest(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> TensorRtBackend:
    install(monkeypatch, VERSIONS[-1], gpu)
    return TensorRtBackend()


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "PERIOD_S", 0.01)


def images(model: PlaceModel, count: int) -> np.ndarray:
    return np.stack([texture(seed, model.width, model.height) for seed in range(count)])


def quiet(text: str, share: float | None) -> None:
    pass


def engine_of(
    backend: TensorRtBackend, model: PlaceModel, options: BuildOptions = BATCH, content: bytes | None = None
) -> TensorRtEngine:
    return backend.load(model, backend.build(model, content or model.content, options, quiet), options)


# --- names ------------------------------------------------------------------------------------------------------------

CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "image": "ITensor",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "severity": "ILogger.Severity",
    "flag": "NetworkDefinitionCreationFlag",
}
"""What the module calls objects of TensorRT, where it calls anything else so it is in NOT_TENSORRT."""
NOT_TENSORRT = {"image.host", "image.device", "error.node_operator"}
ONLY_TYPED = {"STRONGLY_TYPED", "IProgressMonitor", "progress_monitor", "node_operator", "node_name"}
ONLY_OLD = {"EXPLICIT_BATCH", "FP16", "INT8"}


def used_names(module: ModuleType = tensorrt_engine) -> set[tuple[str, str, int]]:
    """(class, member, positional arguments or -1 where it is not called) of what the module takes from TensorRT."""
    tree = ast.parse(Path(module.__file__ or "").read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value).replace("self._trt", "trt").replace("self._engine", "engine")
        owner = owner.replace("run.context", "context")
        count = len(calls[id(node)].args) if id(node) in calls else -1
        assert id(node) not in calls or not calls[id(node)].keywords or owner not in CLASS_OF
        if owner.startswith("trt.") and not owner.startswith("trt.__version__"):
            used.add((owner.removeprefix("trt."), node.attr, count - (node.attr == "__init__")))  # without self
        elif owner == "trt" and node.attr != "__version__":
            used.add((node.attr, "__init__", count))
        elif owner in CLASS_OF and f"{owner}.{node.attr}" not in NOT_TENSORRT:
            used.add((CLASS_OF[owner], node.attr, count))
    return used


@pytest.mark.parametrize("version", NAMES)
def test_every_name_exists_in_the_bindings(version: str) -> None:
    """TensorRT for RTX runs the same code."""
    used = used_names()
    assert len({name for name, _, _ in used}) > 12  # the walk found what there is
    for name, member, count in sorted(used):
        if {name, member} & (ONLY_TYPED if version == OLD else set()):
            continue
        if member in ONLY_OLD and version != OLD:
            continue
        assert name in NAMES[version], f"TensorRT {version} has no {name}"
        members = NAMES[version][name]
        if member == "__init__" and (count == -1 or not members.get("__init__")):
            continue  # named, or an enumeration; or made by another object
        if f"{name}.{member}" in NAMES[version]:
            continue
        assert member in members, f"{name} of TensorRT {version} has no {member}"
        if count >= 0:
            overloads = members[member]
            assert overloads is not None, f"{name}.{member} is no method in TensorRT {version}"
            assert any(count <= len(arguments) for arguments in overloads), f"{name}.{member} takes {overloads}"


def test_what_only_one_side_has_is_listed_rightly() -> None:
    for name in ONLY_TYPED:
        assert name not in str(NAMES[OLD])
        assert all(name in str(NAMES[version]) for version in TYPED)
    assert all(name in NAMES[OLD]["BuilderFlag"] for name in ("FP16", "INT8"))
    assert "FP16" not in NAMES[VERSIONS[-1]]["BuilderFlag"]
    assert "EXPLICIT_BATCH" not in NAMES[VERSIONS[-1]]["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize("version", NAMES)
def test_the_imitation_has_the_signatures_of_the_bindings(version: str, gpu: Gpu) -> None:
    module = tensorrt(version, gpu)
    compared = 0
    for name, item in vars(module).items():
        if not isinstance(item, type):
            continue
        for member, value in vars(item).items():
            if not inspect.isfunction(value) or not NAMES[version][name].get(member):
                continue
            arguments = list(inspect.signature(value).parameters)[1:]
            overloads = NAMES[version][name][member]
            assert any(arguments == overload[: len(arguments)] for overload in overloads), f"{name}.{member}"
            compared += 1
    assert compared > 25


# --- missing and identity ---------------------------------------------------------------------------------------------


def test_missing_names_what_to_install_in_order(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    install(monkeypatch, OLD, gpu)
    backend = TensorRtBackend()
    assert backend.missing() == ""
    gpu.devices = 0
    assert "sees no GPU" in backend.missing() or "finds no usable GPU" in backend.missing()

    def no_driver() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr("vpr_ros.engines.nvidia_driver._open_driver", no_driver)
    assert "no NVIDIA driver" in backend.missing()
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert "pip install pycuda" in backend.missing()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "python3-libnvinfer" in backend.missing()


def test_nothing_is_imported_before_the_driver_answers(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    install(monkeypatch, OLD, gpu)
    gpu.devices = 0

    def must_not() -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(tensorrt_engine, "_libraries", lambda module: must_not())
    assert "GPU" in TensorRtBackend().missing()


def test_missing_explains_a_broken_or_old_installation(
    newest: TensorRtBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.4.1.5")
    assert "8.4.1.5 is too old" in newest.missing()

    def broken() -> None:
        raise ImportError("/usr/lib/libgomp.so.1: cannot allocate memory in static TLS block")

    monkeypatch.setattr(tensorrt_engine, "_libraries", lambda module: broken())
    assert "LD_PRELOAD" in newest.missing()


def test_identity_names_version_and_device(backend: TensorRtBackend) -> None:
    version = sys.modules["tensorrt"].__version__
    assert backend.identity() == {
        "library": f"TensorRT {version}",
        "device": "Imitation sm_87",
        "driver": "CUDA 12.6",
    }
    backend.version_compatible = True
    assert backend.identity()["library"] == f"TensorRT {version.split('.')[0]} (version-compatible)"


def test_without_a_gpu_all_is_refused_with_the_reason(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    gpu.devices = 0
    for call in (
        newest.identity,
        lambda: newest.build(grid_model, grid_model.content, BATCH, quiet),
        lambda: newest.load(grid_model, b"plan", BATCH),
    ):
        with pytest.raises(EngineError, match="GPU"):
            call()


# --- build ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_descriptors_are_the_references(backend: TensorRtBackend, grid_model: PlaceModel, count: int) -> None:
    shown = images(grid_model, count)
    engine = engine_of(backend, grid_model)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    for _ in range(3):  # plain, recorded, replayed
        np.testing.assert_allclose(engine.describe(shown), expected, atol=1e-6)
        np.testing.assert_allclose(engine.describe(shown[::-1]), expected[::-1], atol=1e-6)
    engine.close()


def test_a_mask_comes_with_the_descriptors(backend: TensorRtBackend, tmp_path: Path) -> None:
    model = PlaceModel.open(save_masked_grid_model(tmp_path / "masked.onnx"))
    shown = images(model, 5)
    engine = engine_of(backend, model)
    for found, expected in zip(
        engine.describe_with_mask(shown), OnnxRuntimeEngine(model).describe_with_mask(shown), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    engine.close()


def test_a_model_without_a_mask_says_so(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    with pytest.raises(ModelError, match="no mask"):
        engine.describe_with_mask(images(grid_model, 1))
    engine.close()


def transposed_first(path: Path, readers: int = 1) -> bytes:
    """The grid model with the image transposed as uint8 and cast then, as torch exports it; `readers` casts read it."""
    proto = onnx.load(save_grid_model(path))
    nodes = proto.graph.node
    del nodes[:2]
    nodes.insert(0, helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2]))
    for index in range(readers):
        nodes.insert(1, helper.make_node("Cast", ["turned"], [f"planes{index or ''}"], to=TensorProto.FLOAT))
    onnx.save(proto, path)
    return path.read_bytes()


@pytest.mark.parametrize("readers", [1, 2])
def test_a_cast_behind_a_transposition_goes_first(newest: TensorRtBackend, tmp_path: Path, readers: int) -> None:
    content = transposed_first(tmp_path / "turned.onnx", readers)
    model = PlaceModel.open(tmp_path / "turned.onnx")
    changed, outputs = tensorrt_engine._readable(content)
    assert outputs == 1
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    assert onnx.load_from_string(changed).graph.node[0].op_type == "Cast"
    shown = images(model, 3)
    engine = engine_of(newest, model)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(model).describe(shown), atol=1e-6)
    engine.close()


def test_a_graph_that_casts_first_stays_as_it_is(grid_model: PlaceModel) -> None:
    changed, _ = tensorrt_engine._readable(grid_model.content)
    assert onnx.load_from_string(changed) == onnx.load_from_string(grid_model.content)


def quantised(model: PlaceModel, axis: int | None) -> bytes:
    """The model with a constant bias and factor as ONNX Runtime's tools store them: int32 and int8 with scales."""
    proto = onnx.load_from_string(model.content)
    graph, rng = proto.graph, np.random.default_rng(0)
    size = 1 if axis is None else model.dim
    kinds = {"weight": np.int8, "bias": np.int32}
    for name, kind in kinds.items():
        shape = (model.dim,)
        tensors = {
            name: rng.integers(-100, 100, shape).astype(kind),
            f"{name}_scale": rng.uniform(0.01, 0.02, size if size > 1 else ()).astype(np.float32),
            f"{name}_zero": np.zeros(size if size > 1 else (), kind),
        }
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in tensors.items())
        attributes = {} if axis is None else {"axis": axis}
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(tensors), [f"{name}_float"], name, **attributes))
    product = next(node for node in graph.node if node.op_type == "Sub")
    product.output[0] = "plain"
    at = list(graph.node).index(product)
    graph.node.insert(at + 1, helper.make_node("Mul", ["plain", "weight_float"], ["scaled"]))
    graph.node.insert(at + 2, helper.make_node("Add", ["scaled", "bias_float"], ["centred"]))
    return proto.SerializeToString()


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_constants_that_are_stored_quantised_become_float(grid_model: PlaceModel, axis: int | None) -> None:
    content = quantised(grid_model, axis)
    changed, _ = tensorrt_engine._readable(content)
    proto = onnx.load_from_string(changed)
    onnx.checker.check_model(proto, full_check=True)
    constants = {tensor.name for tensor in proto.graph.initializer}
    kinds = [node.op_type for node in proto.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (
        1,
        1,
    )  # of the weight; the bias is plain
    assert not any(node.op_type == "DequantizeLinear" and node.input[0] in constants for node in proto.graph.node)
    shown = images(grid_model, 3)
    expected, found = (OnnxRuntimeEngine(grid_model, graph=graph).describe(shown) for graph in (content, changed))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lost_outputs_are_an_error(newest: TensorRtBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = transposed_first(tmp_path / "turned.onnx")
    model = PlaceModel.open(tmp_path / "turned.onnx")
    monkeypatch.setattr(tensorrt_engine, "_readable", lambda graph: (graph, 1))
    with pytest.raises(EngineError, match="lost 1 outputs of the model: uint8 tensors may only be cast"):
        newest.build(model, content, BATCH, quiet)


def test_a_model_of_one_batch_size_is_padded_and_cut(newest: TensorRtBackend, tmp_path: Path) -> None:
    proto = onnx.load(save_grid_model(tmp_path / "grid.onnx"))
    model = PlaceModel.open(tmp_path / "grid.onnx")
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2
    shown = images(model, 5)
    engine = engine_of(newest, model, content=proto.SerializeToString())
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(model).describe(shown), atol=1e-6)
    engine.close()


def test_an_unknown_operator_is_named(backend: TensorRtBackend, grid_model: PlaceModel) -> None:
    proto = onnx.load_from_string(grid_model.content)
    proto.graph.node.append(helper.make_node("Wave", ["descriptors"], ["foam"], "the_wave", domain="sea"))
    version = sys.modules["tensorrt"].__version__
    name = f"node {len(proto.graph.node) - 1}" if version == OLD else r"operator Wave \(the_wave\)"
    with pytest.raises(EngineError, match=f"{name}: No importer"):
        backend.build(grid_model, proto.SerializeToString(), BATCH, quiet)


def test_a_refused_build_quotes_the_last_error(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    gpu.fails = "build"
    with pytest.raises(EngineError, match="no implementation for node /conv1"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)
    gpu.fails = "raise"
    with pytest.raises(EngineError, match="factory function returned nullptr"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)


def test_without_onnx_the_fix_is_named(
    newest: TensorRtBackend, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match="pip install onnx"):
        newest.build(grid_model, grid_model.content, BATCH, quiet)


def test_flags_follow_version_and_precision(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    typed = sys.modules["tensorrt"].__version__ != OLD
    for precision, flags in {"fp32": set(), "fp16": {"FP16"}, "int8": {"INT8"}}.items():
        backend.build(grid_model, grid_model.content, BuildOptions(precision=precision), quiet)
        assert gpu.flags == (set() if typed else flags)
    with pytest.raises(EngineError, match="no precision bf16"):
        backend.build(grid_model, grid_model.content, BuildOptions(precision="bf16"), quiet)


def test_a_version_compatible_plan_outlives_an_update(
    gpu: Gpu, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "10.0.1", gpu)
    plans = [
        TensorRtBackend(version_compatible=some).build(grid_model, grid_model.content, BATCH, quiet)
        for some in (True, False)
    ]
    install(monkeypatch, VERSIONS[-1], gpu)
    shown = images(grid_model, 2)
    engine = TensorRtBackend(version_compatible=True).load(grid_model, plans[0], BATCH)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(grid_model).describe(shown), atol=1e-6)
    engine.close()
    with pytest.raises(EngineError, match=r"not compatible with this version.*build it again"):
        TensorRtBackend().load(grid_model, plans[1], BATCH)
    with pytest.raises(EngineError, match="host code is not allowed"):
        TensorRtBackend().load(grid_model, plans[0], BATCH)


# --- progress and interruption ----------------------------------------------------------------------------------------


def test_progress_is_told_in_the_callers_thread(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    gpu.steps, gpu.step_s = 6, 0.02
    told: list[tuple[str, float | None]] = []
    threads = set()

    def progress(text: str, share: float | None) -> None:
        told.append((text, share))
        threads.add(threading.current_thread())

    backend.build(grid_model, grid_model.content, BATCH, progress)
    assert threads == {threading.current_thread()}
    assert told[-1][1] == 1.0
    between = [(text, share) for text, share in told[:-1] if "actics" in text]
    assert between
    shares = [share for _, share in between]
    if sys.modules["tensorrt"].__version__ == OLD:
        assert set(shares) == {None}
    else:
        assert any("Building > Tactics" in text for text, _ in between)
        known = [share for share in shares if share is not None]
        assert known == sorted(known)
        assert 0 < known[-1] <= 0.5  # the first of two steps of the outer phase


@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError, RuntimeError])
def test_what_progress_raises_ends_the_build(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel, error: type[BaseException]
) -> None:
    gpu.steps, gpu.step_s = 400, 0.005

    def progress(text: str, share: float | None) -> None:
        if gpu.started.is_set():
            raise error("enough")

    with pytest.raises(error, match="enough"):
        newest.build(grid_model, grid_model.content, BATCH, progress)
    assert not gpu.finished.is_set()
    assert not any(thread.name == "tensorrt-build" for thread in threading.enumerate())


def test_an_8_6_build_goes_on_unseen(gpu: Gpu, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, OLD, gpu)
    gpu.steps, gpu.step_s = 10, 0.02

    def progress(text: str, share: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TensorRtBackend().build(grid_model, grid_model.content, BATCH, progress)
    assert not gpu.finished.is_set()
    assert gpu.finished.wait(10)


# --- timing cache -----------------------------------------------------------------------------------------------------


def test_timings_are_kept_and_a_refused_file_is_replaced(
    backend: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path
) -> None:
    backend.cache = tmp_path / "new" / "folder"
    backend.build(grid_model, grid_model.content, BATCH, quiet)
    (file,) = backend.cache.iterdir()
    version = sys.modules["tensorrt"].__version__
    assert version in file.name
    assert "sm_87" in file.name
    good = b"timings " + version.encode()
    for content in (b"garbage", b"timings 1.2.3", b"", good):
        file.write_bytes(content)
        backend.build(grid_model, grid_model.content, BATCH, quiet)
        assert file.read_bytes() == good
    assert list(backend.cache.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_costs_no_build(
    newest: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    newest.cache = tmp_path / "file"
    assert newest.build(grid_model, grid_model.content, BATCH, quiet)


# --- run --------------------------------------------------------------------------------------------------------------


def test_any_thread_may_describe(backend: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(backend, grid_model)
    shown = images(grid_model, 8)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    with ThreadPoolExecutor(4) as threads:
        counts = [1 + index % 8 for index in range(40)]
        for count, found in zip(counts, threads.map(lambda n: engine.describe(shown[:n]), counts), strict=True):
            np.testing.assert_allclose(found, expected[:count], atol=1e-6)
    engine.close()


def test_two_engines_run_side_by_side(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engines = [engine_of(newest, grid_model) for _ in range(2)]
    shown = images(grid_model, 4)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda index: engines[index % 2].describe(shown), range(20)):
            np.testing.assert_allclose(found, expected, atol=1e-6)
    for engine in engines:
        engine.close()
    assert gpu.live == []


def test_views_and_no_images(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 6)
    whole = engine.describe(shown)
    np.testing.assert_allclose(engine.describe(shown[::2, :, :, :]), whole[::2], atol=1e-6)
    assert engine.describe(shown[:0]).shape == (0, grid_model.dim)
    for wrong in (shown[:, :-1], shown.astype(np.float32), shown[0]):
        with pytest.raises(EngineError, match="images must be uint8"):
            engine.describe(wrong)
    engine.close()


def test_graphs_are_replayed_for_one_and_all(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 4)
    launches = []
    for count in (1, 1, 4, 4, 2, 2, 1):
        engine.describe(shown[:count])
        launches.append(gpu.launches)
    assert launches == [1, 2, 3, 4, 4, 4, 5]  # recording launches once, to compare
    engine.close()
    gpu.launches = 0
    newest.cuda_graphs = False
    engine = engine_of(newest, grid_model)
    for _ in range(3):
        engine.describe(shown[:1])
    assert gpu.launches == 0
    engine.close()


@pytest.mark.parametrize("fault", ["capture", "kernels"])
def test_a_graph_that_cannot_be_recorded_is_not_used(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel, fault: str
) -> None:
    gpu.fails = fault
    gpu.forgets_kernels = fault == "kernels"
    engine = engine_of(newest, grid_model)
    shown = images(grid_model, 3)
    expected = OnnxRuntimeEngine(grid_model).describe(shown)
    for index in (0, 1, 2, 0):
        np.testing.assert_allclose(engine.describe(shown[index : index + 1])[0], expected[index], atol=1e-6)
    engine.close()
    assert gpu.live == []


def test_failures_are_engine_errors(newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(newest, grid_model)
    gpu.fails = "memory"
    with pytest.raises(EngineError, match="no memory"):
        engine.describe(images(grid_model, 1))
    gpu.fails = "run"
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.describe(images(grid_model, 1))
    gpu.fails = ""
    assert engine.describe(images(grid_model, 1)).shape == (1, grid_model.dim)
    engine.close()


def test_close_frees_everything_and_may_be_repeated(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    engine = engine_of(backend, grid_model)
    for count in (1, 4, 2):
        engine.describe(images(grid_model, count))
    assert {"context", "stream", "pinned", "device", "graph"} == set(gpu.live)
    engine.close()
    engine.close()
    assert gpu.live == []
    assert not any(thread.name.startswith("tensorrt") for thread in threading.enumerate())
    with pytest.raises(EngineError, match="is closed"):
        engine.describe(images(grid_model, 1))


# --- files ------------------------------------------------------------------------------------------------------------


def test_close_never_fails(newest: TensorRtBackend, grid_model: PlaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(newest, grid_model)

    def fail() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(engine._gpu, "free", fail)  # as after a failed kernel, when CUDA answers nothing any more
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.describe(images(grid_model, 1))


def test_a_corrupt_plan_is_refused(backend: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel) -> None:
    plan = backend.build(grid_model, grid_model.content, BATCH, quiet)
    for content in (plan[: len(plan) // 2], plan[20:], b"GIF89a" * 100):
        with pytest.raises(EngineError, match=r"refuses the engine file: .*Serialization.*; build it again"):
            backend.load(grid_model, content, BATCH)
    for content in (b"", b"\0" * 1000):
        with pytest.raises(EngineError, match="empty"):
            backend.load(grid_model, content, BATCH)
    assert gpu.live == []
    assert not any(thread.name.startswith("tensorrt") for thread in threading.enumerate())


def test_a_driver_that_is_too_old_for_tensorrt_is_an_error_and_no_crash(
    newest: TensorRtBackend, gpu: Gpu, grid_model: PlaceModel
) -> None:
    plan = newest.build(grid_model, grid_model.content, BATCH, quiet)
    gpu.fails = "driver"
    for call in (
        lambda: newest.load(grid_model, plan, BATCH),
        lambda: newest.build(grid_model, grid_model.content, BATCH, quiet),
    ):
        with pytest.raises(EngineError, match=r"update the NVIDIA driver: .*error: 35"):
            call()
    gc.collect()
    assert gpu.live == []  # what crashes when it is freed is not


def test_errors_of_another_thread_do_not_fail_a_start(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    trt = sys.modules["tensorrt"]
    log = tensorrt_engine._logger(trt)
    log.clear()
    other = threading.Thread(target=log.log, args=(trt.ILogger.Severity.ERROR, "a tactic failed"))
    other.start()
    other.join()
    assert log.reason() == "a tactic failed"
    assert not log.failed()
    log.log(trt.ILogger.Severity.ERROR, "here")
    assert log.failed()


def test_a_plan_of_another_model_is_refused(newest: TensorRtBackend, grid_model: PlaceModel, tmp_path: Path) -> None:
    other = PlaceModel.open(save_grid_model(tmp_path / "other.onnx", width=80))
    plan = newest.build(other, other.content, BATCH, quiet)
    with pytest.raises(EngineError, match="of another model"):
        newest.load(grid_model, plan, BATCH)


def test_a_plan_for_fewer_images_cuts_more(newest: TensorRtBackend, grid_model: PlaceModel) -> None:
    plan = newest.build(grid_model, grid_model.content, BuildOptions(batch=2), quiet)
    engine = newest.load(grid_model, plan, BuildOptions(batch=8))
    shown = images(grid_model, 7)
    np.testing.assert_allclose(engine.describe(shown), OnnxRuntimeEngine(grid_model).describe(shown), atol=1e-6)
    engine.close()
