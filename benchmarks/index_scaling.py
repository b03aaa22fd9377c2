"""What a search costs as a map grows, beside faiss alone, numpy, the loop of a peer, and Milvus; and whether building holds up queries.

    python benchmarks/index_scaling.py [--counts 10000 100000 1000000] [--queries 200] [--folder /tmp/...] [--plot docs/images/index_scaling.png]

Descriptors are those of `index_world.py`, three queries of four show a place of the map. Of one query all methods take turns, so all meet the
same machine: read ratios. `exact` has the rows in memory and compares all of them. A million needs 2 GB of disk in --folder and 6 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a robot's other core has other work

import faiss
import numpy as np
from index_world import STREET, Floats, IndexWorld
from tqdm import tqdm

from vpr_ros.map.index.base import Index
from vpr_ros.map.index.codes import Hnsw, IvfPq
from vpr_ros.map.index.open import open_index
from vpr_ros.map.index.snapshot import Snapshot
from vpr_ros.map.index.tiered_index import TieredIndex
from vpr_ros.plot_style import AMBER, BLUE, GREEN, RED

DIM, K, CHUNK = 512, 10, 50_000
HNSW_UP_TO = 20_000
MILVUS_UP_TO = 100_000
"""Above these, HNSW and milvus-lite take longer to fill than anybody waits for; a cluster was not at hand."""
MILVUS_QUERIES = 20
LOOP_ROWS = 20_000
"""The peer's loop is timed over so many rows and its time multiplied: it is linear."""
COLOURS = {"auto": GREEN, "exact": BLUE, "numpy": AMBER, "peer": RED, "hnsw": "#8a5bc7"}


@dataclass
class Row:
    """One method at one size."""

    count: int
    method: str
    build_s: float = float("nan")
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    recalls: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """Of queries that show a place of the map, and of others."""
    bytes_anonymous: float = float("nan")

    def line(self) -> str:
        split = " / ".join(f"{np.mean(found):.3f}" if found else "-" for found in self.recalls.values())
        numbers = [f"{self.build_s:.0f}", f"{statistics.median(self.ms):.2f}", f"{np.quantile(self.ms, 0.95):.2f}"]
        numbers += [f"{statistics.median(self.cpu_ms):.2f}", split, f"{self.bytes_anonymous:.0f}"]
        return " | ".join(
            ["", f"{self.count:,}", self.method, *(n if n != "nan" else "-" for n in numbers), ""]
        ).strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where descriptors and indexes go; without it a temporary folder")
    parser.add_argument("--plot", type=Path, help="draw what --folder has of this run and of earlier ones")
    parser.add_argument("--only", choices=["scaling", "rebuild"])
    arguments = parser.parse_args()
    print(f"load of the last minute {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, faiss {faiss.__version__}")
    with tempfile.TemporaryDirectory(prefix="vpr_index_") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.only != "rebuild":
            print(
                "| keyframes | method | build s | ms | p95 | CPU ms | recall@10 known / new | B of memory a keyframe |"
            )
            print("|---:|---|---:|---:|---:|---:|---|---:|", flush=True)
            for count in arguments.counts:
                with (folder / "medians.jsonl").open("a") as file:
                    for row in in_a_process(scaling, folder, count, arguments.queries):
                        file.write(json.dumps([row.count, row.method, statistics.median(row.cpu_ms)]) + "\n")
        if arguments.only != "scaling":
            for count in [count for count in arguments.counts if count >= 100_000][:1]:
                in_a_process(rebuilding, folder, count)
        if arguments.plot:
            lines = (folder / "medians.jsonl").read_text().splitlines()
            plot({(count, method): ms for count, method, ms in map(json.loads, lines)}, arguments.plot)
    print(f"load of the last minute {os.getloadavg()[0]:.1f}")


def in_a_process(task: Callable[..., Any], *arguments: Any) -> Any:
    """So that memory is the task's alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def descriptors(folder: Path, count: int) -> Floats:
    """(count, DIM) mapped from a file, which is made if there is none."""
    path = folder / f"w{count}.npy"
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIM))
        done = 0
        for some in tqdm(IndexWorld(DIM).map_of(count), desc=f"{count} descriptors", leave=False, disable=None):
            rows[done : done + len(some)] = some
            done += len(some)
        rows.flush()
    return np.load(path, mmap_mode="r")


def scaling(folder: Path, count: int, queries: int) -> list[Row]:
    rows = descriptors(folder, count)
    asked, known = IndexWorld(DIM).queries(queries, int(0.7 * count / STREET), seed=2)
    similarities = np.concatenate([np.array(rows[i : i + CHUNK]) @ asked.T for i in range(0, count, CHUNK)]).T
    truth = np.argpartition(-similarities, K, axis=1)[:, :K]
    del similarities

    methods: dict[str, tuple[Row, Callable[[Floats], list[int]]]] = {}
    snapshot = folder / f"index{count}"
    built = in_a_process(build, folder, count, snapshot)
    row = Row(count, "auto", build_s=built)
    opened = in_a_process(reopened, snapshot, asked[:100])
    row.bytes_anonymous = opened["anonymous"] / count
    index = open_index(DIM, "auto", snapshot, "benchmark")
    if len(index) < count:  # a small map is exact and kept by nobody
        index.add(np.arange(len(index) + 1, count + 1), np.array(rows[len(index) :]))
        row.bytes_anonymous = 4.0 * DIM + 8
    methods["auto"] = row, asker(index)

    exact = faiss.IndexFlatIP(DIM)
    start = time.perf_counter()
    for i in range(0, count, CHUNK):
        exact.add(np.array(rows[i : i + CHUNK]))
    took = time.perf_counter() - start
    everything = faiss.rev_swig_ptr(exact.get_xb(), count * DIM).reshape(count, DIM)
    methods["exact"] = (
        Row(count, "exact", took, bytes_anonymous=4.0 * DIM),
        lambda query: (exact.search(query[None], K)[1][0] + 1).tolist(),
    )
    methods["numpy"] = Row(count, "numpy", bytes_anonymous=4.0 * DIM), lambda query: best_of(everything @ query)
    if count <= HNSW_UP_TO:
        start = time.perf_counter()
        graph = TieredIndex(DIM, Hnsw(), count)
        graph.add(np.arange(1, count + 1), np.array(rows))
        graph.wait()
        # codes and graph; the rows are in memory, too, as there is no snapshot to map them from
        methods["hnsw"] = Row(count, "hnsw", time.perf_counter() - start, bytes_anonymous=DIM + 4.0 * 66), asker(graph)
    if count <= MILVUS_UP_TO and (server := milvus(folder, rows)):
        methods["milvus"] = Row(count, "milvus", server[0]), asker(server[1])

    for number, query in enumerate(tqdm(asked, desc=f"{count} keyframes", leave=False, disable=None)):
        for row, ask in methods.values():
            if row.method == "milvus" and number >= MILVUS_QUERIES:
                continue
            wall, cpu = time.perf_counter(), time.thread_time()
            found = ask(query)
            row.cpu_ms.append(1e3 * (time.thread_time() - cpu))
            row.ms.append(1e3 * (time.perf_counter() - wall))
            row.recalls[bool(known[number])].append(len({key - 1 for key in found} & set(truth[number].tolist())) / K)
    methods["peer"] = loop_of_a_peer(everything, asked[:5]), lambda query: []
    for row, _ in methods.values():
        print(row.line(), flush=True)
    print(f"<!-- {count:,}: {opened['text']} -->", flush=True)
    if count == 1_000_000 or count == 100_000:
        for probed in (0.02, 0.05, 0.1, 0.2):
            trade_off(index, probed, asked, known, truth)
    index.close()
    return [row for row, _ in methods.values()]


def asker(index: Index) -> Callable[[Floats], list[int]]:
    return lambda query: [hit.key for hit in index.search(query, K)]


def best_of(similarities: Floats) -> list[int]:
    return (np.argpartition(-similarities, K)[:K] + 1).tolist()


def build(folder: Path, count: int, snapshot: Path) -> float:
    """Seconds from the first keyframe until all that is to be sealed is. The folder has the index then."""
    rows = descriptors(folder, count)
    index = open_index(DIM, "auto", snapshot, "benchmark")
    start = time.perf_counter()
    for i in range(len(index), count, CHUNK):
        index.add(np.arange(i + 1, min(i + CHUNK, count) + 1), np.array(rows[i : i + CHUNK]))
    index.wait()
    took = time.perf_counter() - start
    index.close()
    return took


def reopened(snapshot: Path, queries: Floats) -> dict[str, Any]:
    """Opening with nothing in the page cache and again with all of it there; memory that is the process's own, and mapped pages."""
    text, anonymous = [], 0
    for state in ("cold", "warm"):
        if state == "cold" and snapshot.exists():
            for path in snapshot.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = memory()
        start = time.perf_counter()
        index = open_index(DIM, "auto", snapshot, "benchmark")
        took = time.perf_counter() - start
        times = []
        for query in queries if len(index) else []:
            start = time.perf_counter()
            index.search(query, K)
            times.append(1e3 * (time.perf_counter() - start))
        after = memory()
        if state == "cold":  # the second time, malloc has the first one's memory at hand
            anonymous = after["RssAnon"] - before["RssAnon"]
        mapped = (after["RssFile"] - before["RssFile"]) >> 20
        asked = f", first query {times[0]:.1f} ms, median {statistics.median(times):.2f}" if times else ""
        text.append(f"{state}: {len(index)} keyframes open in {took:.2f} s{asked}, {mapped} MB mapped pages resident")
        index.close()
        del index
    return {"anonymous": anonymous, "text": "; ".join(text)}


def memory() -> dict[str, int]:
    """Bytes of this process by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}


def milvus(folder: Path, rows: Floats) -> tuple[float, Index] | None:
    """Seconds to fill milvus-lite and the index; None where it is not installed."""
    try:
        import milvus_lite  # noqa: F401
    except ImportError:
        return None
    from vpr_ros.map.index.milvus_index import MilvusIndex

    index = MilvusIndex(str(folder / f"milvus{len(rows)}.db"), "keyframes", DIM, timeout_s=60, search_timeout_s=60)
    start = time.perf_counter()
    if not len(index):
        for i in range(0, len(rows), CHUNK):
            index.add(np.arange(i + 1, min(i + CHUNK, len(rows)) + 1), np.array(rows[i : i + CHUNK]))
        index._client.flush("keyframes", timeout=600)  # or milvus-lite compares row by row, in Python
    return time.perf_counter() - start, index


def loop_of_a_peer(rows: Floats, queries: Floats) -> Row:
    """cslam's way: descriptors are float64, and a loop in Python takes the cosine of one after the other."""
    some = np.array(rows[:LOOP_ROWS], np.float64)
    factor = len(rows) / len(some)
    row = Row(len(rows), "peer", bytes_anonymous=8.0 * DIM)
    for query in queries.astype(np.float64):
        wall, cpu = time.perf_counter(), time.thread_time()
        found = np.zeros(len(some))
        for i in range(len(some)):
            found[i] = np.inner(query, some[i]) / (np.linalg.norm(query) * np.linalg.norm(some[i]))
        np.argsort(found)[::-1][:K]
        row.cpu_ms.append(1e3 * (time.thread_time() - cpu) * factor)
        row.ms.append(1e3 * (time.perf_counter() - wall) * factor)
    return row


def trade_off(index: Any, probed: float, asked: Floats, known: np.ndarray, truth: np.ndarray) -> None:
    """Recall and time for another share of the lists, on the codes that `index` has."""
    sealed = index._sealed
    before, sealed.kind = sealed.kind, IvfPq(probed=probed)
    recalls, times, cpu_times = [], [], []
    for query, expected in zip(asked, truth, strict=True):
        wall, cpu = time.perf_counter(), time.thread_time()
        found = index.search(query, K)
        cpu_times.append(1e3 * (time.thread_time() - cpu))
        times.append(1e3 * (time.perf_counter() - wall))
        recalls.append(len({hit.key - 1 for hit in found} & set(expected.tolist())) / K)
    sealed.kind = before
    recall = np.array(recalls)
    print(
        f"<!-- {len(index):,}, probed {probed}: {statistics.median(times):.2f} ms, CPU {statistics.median(cpu_times):.2f}, "
        f"recall@10 {recall[known].mean():.3f} / {recall[~known].mean():.3f} -->",
        flush=True,
    )


def rebuilding(folder: Path, count: int, rounds: int = 4, asked: int = 150) -> None:
    """The same queries while nothing is built, and while the whole index is made anew; in turns."""
    rows = descriptors(folder, count)
    queries, _ = IndexWorld(DIM).queries(asked, int(0.7 * count / STREET), seed=3)
    kind = IvfPq()
    index = TieredIndex(DIM, kind, count // 2, Snapshot(folder / "rebuilding", DIM, kind, "rebuilding"))
    index.add(np.arange(1, count + 1), np.array(rows))
    index.wait()
    next_key, times = count, {False: [], True: []}
    for _ in range(rounds):
        for is_built in (False, True):
            # A quarter has to be removed until it is made anew: nearly as much is before the queries at rest, or those would have less to exclude.
            keys = index.keys()
            share = 0.03 if is_built else 0.24
            index.remove(np.random.default_rng(next_key).choice(keys, int(share * len(keys)), replace=False))
            for query in queries:
                start = time.perf_counter()
                index.search(query, K)
                if index.is_building == is_built:
                    times[is_built].append(1e3 * (time.perf_counter() - start))
                next_key += 1
                index.add(np.array([next_key]), query[None])  # a robot that drives on meanwhile
            index.wait()
    median = {state: statistics.median(found) for state, found in times.items()}
    p95 = {state: float(np.quantile(found, 0.95)) for state, found in times.items()}
    assert times[True], "the builds were over before a query"
    print(
        f"\nA query while {count:,} keyframes are sealed anew, one added with each query: median {median[True]:.2f} ms against {median[False]:.2f} "
        f"(x {median[True] / median[False]:.2f}), p95 {p95[True]:.2f} against {p95[False]:.2f} (x {p95[True] / p95[False]:.2f}), "
        f"{len(times[True])} and {len(times[False])} queries; most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB",
        flush=True,
    )
    index.close()


def plot(medians: dict[tuple[int, str], float], path: Path) -> None:
    """CPU ms by (count, method); for milvus-lite the client's part only, so it is left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for method in [method for method in COLOURS if any(of == method for _, of in medians)]:
        points = sorted((count, ms) for (count, of), ms in medians.items() if of == method)
        axes.plot(*zip(*points, strict=True), marker="o", label=method, color=COLOURS[method])
    axes.set(xscale="log", yscale="log", xlabel="keyframes", ylabel="CPU ms a query, median")
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
