"""Is this machine fit to recognise places? One finding for each thing that breaks robots, with what to type.

Nothing here imports what can be broken: what a check has to import it imports in a process of its own, where a crash is
a finding too. The ROS graph is watched by `vpr_ros.ros.doctor`, likewise a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vpr_ros.config import Config
from vpr_ros.doctor.cv_bridge import check_image_decoder
from vpr_ros.doctor.dds import check_dds_profile, check_discovery, check_receive_buffer, check_shared_memory
from vpr_ros.doctor.finding import Finding, Level, summary
from vpr_ros.doctor.gpu import check_cuda, check_tensorrt, check_tensorrt_rtx
from vpr_ros.doctor.libraries import check_faiss, check_onnxruntime, check_opencv, check_packages
from vpr_ros.doctor.model_files import check_engines, check_map, check_model
from vpr_ros.doctor.python_and_ros import check_python, check_ros
from vpr_ros.doctor.resources import check_cpu, check_folder, check_memory
from vpr_ros.doctor.ros_graph import watch_graph
from vpr_ros.engines.cache import cache_folder
from vpr_ros.errors import VprError
from vpr_ros.files import expanded
from vpr_ros.machine import Machine

__all__ = ["Finding", "Level", "checks", "examine", "guarded", "summary", "watch_graph"]

REPORT_IT = "vpr doctor --json > doctor.json    # and send us the file: this is a fault of ours"


def checks(machine: Machine, config: Config, map_name: str = "") -> dict[str, Callable[[], Finding]]:
    """The checks that need no ROS, by name, in the order in which they are shown."""
    maps = Path(config.node.maps_directory)

    def engines() -> Path:
        return cache_folder(config.engine.cache, machine.environment)

    found: dict[str, Callable[[], Finding]] = {
        "python": lambda: check_python(machine),
        "ros": lambda: check_ros(machine),
        "discovery": lambda: check_discovery(machine),
        "dds profile": lambda: check_dds_profile(machine),
        "shared memory": lambda: check_shared_memory(machine),
        "receive buffer": lambda: check_receive_buffer(machine),
        "image decoder": lambda: check_image_decoder(machine, config.node.image_decoder),
        "opencv": lambda: check_opencv(machine),
        "faiss": lambda: check_faiss(machine),
        "onnxruntime": lambda: check_onnxruntime(machine, config.engine.backend),
        "packages": lambda: check_packages(machine),
        "cuda": lambda: check_cuda(machine),
        "tensorrt": lambda: check_tensorrt(machine),
        "tensorrt_rtx": lambda: check_tensorrt_rtx(machine, config.engine.backend),
        "engines": lambda: check_engines(machine, str(engines())),
        "model": lambda: check_model(machine, config.model.path),
        "memory": lambda: check_memory(machine),
        "cpu": lambda: check_cpu(machine, config.engine.threads),
        "maps folder": lambda: check_folder(machine, "maps folder", maps),
        "engine folder": lambda: check_folder(machine, "engine folder", engines()),
        "runs folder": lambda: check_folder(machine, "runs folder", Path("runs")),
    }
    if name := map_name or config.node.map:
        found["map"] = lambda: check_map(machine, config.model.path, expanded(maps), name, config)
    return found


def examine(
    found: Mapping[str, Callable[[], Finding]], graph: Callable[[], list[Finding]] | None = None
) -> Iterator[Finding]:
    """Run all checks at once and yield what they found, in their order. A check that fails is a finding, not an end."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        # first: it takes longest, because it listens
        heard = None if graph is None else pool.submit(guarded, "ros graph", graph)
        for findings in pool.map(lambda item: guarded(item[0], lambda: [item[1]()]), found.items()):
            yield from findings
        if heard is not None:
            yield from heard.result()


def guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """What a check found; one that fails is a finding of its own, and takes no other with it."""
    try:
        return check()
    except VprError as error:  # no home, say
        return [
            Finding(name, Level.WARNING, str(error), "vpr doctor --help    # --config, --set: other folders and files")
        ]
    except Exception as error:  # whatever it is, the other checks go on
        return [Finding(name, Level.WARNING, f"check failed: {type(error).__name__}: {error}", REPORT_IT)]
