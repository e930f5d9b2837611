"""Search in an index of random unit vectors: seconds against brute force, and to open a large one.

python -m benchmarks.search                    # a million windows, ten million to open: 5 GB in a temporary folder
python -m benchmarks.search --windows 100000 --large 1000000
python -m benchmarks.search --graph            # also by a graph of near neighbours, and what share it finds
"""

import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from preprocess.common.command import parse_command, run_command
from tasks.retrieval.describe import Described
from tasks.retrieval.graph import Graphs, build_graphs
from tasks.retrieval.index import MANIFEST, TABLE, About, Entry, Index
from tasks.retrieval.ranking import NEAREST, nearest, rank, similarities
from tasks.retrieval.scan import encode
from tasks.retrieval.whitening import Whitened

SIZE = 128  # numbers of a vector
BLOCK = 100_000  # windows that are made at a time
PER_VIDEO = 500  # windows


@dataclass(frozen=True)
class SearchBenchmark:
    windows: int = 1_000_000
    """windows to search"""
    large: int = 10_000_000
    """windows of an index that is opened"""
    rounds: int = 9
    """queries; medians are reported"""
    count: int = 10
    """windows to find"""
    graph: bool = False
    """also make a graph, and search by it"""


def make_index(folder: Path, count: int, *, empty: bool = False) -> None:
    """An index of random vectors; `empty` ones are files without data blocks."""
    folder.mkdir()
    about = About("model", "digest", "release", 2.0, 1.0, SIZE, {"rgb": SIZE})
    (folder / MANIFEST).write_text(json.dumps(asdict(about)))
    with open(folder / TABLE, "w") as table:
        for begin in range(0, count, PER_VIDEO):
            here = min(PER_VIDEO, count - begin)
            entry = Entry(f"videos/{begin}.mp4", f"{begin:032x}", "videos", float(here), here, begin)
            table.write(json.dumps(asdict(entry)) + "\n")
    widths = {"windows.f4": 8, "rgb.there.u8": 1, "rgb.f2": 2 * SIZE, "rgb.i1": SIZE, "rgb.kept.f4": 8}
    rng = np.random.default_rng(0)
    files = {name: open(folder / name, "wb") for name in widths}
    for begin in range(0, 0 if empty else count, BLOCK):
        vectors = unit(rng, min(BLOCK, count - begin))
        codes, kept = encode(vectors.astype(np.float16).astype(np.float32))
        here = len(vectors)
        for name, values in (
            ("windows.f4", np.zeros((here, 2), np.float32)),
            ("rgb.there.u8", np.ones(here, np.uint8)),
            ("rgb.f2", vectors.astype(np.float16)),
            ("rgb.i1", codes),
            ("rgb.kept.f4", kept),
        ):
            files[name].write(values.tobytes())
    for name, file in files.items():
        file.truncate(count * widths[name])
        file.close()


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, SIZE) float32, correlated as features are."""
    values = rng.standard_normal((count, SIZE), np.float32) * np.linspace(2, 0.2, SIZE, dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def measure_graph(index: Index, settings: SearchBenchmark) -> dict[str, float]:
    """Time to make a graph, time of a query, and the share of the nearest windows that is found."""
    begun = time.perf_counter()
    build_graphs(index)
    built = time.perf_counter() - begun
    graphs, rng, weights = Graphs(index, ["rgb"]), np.random.default_rng(2), {"rgb": 1.0}
    took, shares = [], []
    for _ in range(10 * settings.rounds):
        query = Described(np.zeros((1, 2), np.float32), {"rgb": unit(rng, 1)}, {"rgb": np.ones(1, bool)})
        begun = time.perf_counter()
        rows = graphs.near("rgb", query.vectors["rgb"], NEAREST)
        found = rows[np.argsort(-similarities(index, query, weights, rows)[0])[: settings.count]]
        took.append(time.perf_counter() - begun)
        exact, _ = nearest(index, query, weights, count=settings.count)
        shares.append(len({*found.tolist()} & {*exact[0].tolist()}) / settings.count)
    found = {"graph_ms": round(1e3 * statistics.median(took), 2), "graph_recall": round(statistics.mean(shares), 4)}
    return found | {"graph_build_s": round(built, 1)}


def measure_videos(index: Index, settings: SearchBenchmark) -> dict[str, float]:
    """Time to learn the whitening, and to put videos in order with it and without, of a query of one window."""
    begun = time.perf_counter()
    whitened = {"rgb": Whitened(index, "rgb")}
    figures = {"whitening_s": round(time.perf_counter() - begun, 2)}
    for name, way in (("videos_ms", None), ("videos_whitened_ms", whitened)):
        rng, took = np.random.default_rng(3), []
        for _ in range(settings.rounds):
            query = Described(np.zeros((1, 2), np.float32), {"rgb": unit(rng, 1)}, {"rgb": np.ones(1, bool)})
            begun = time.perf_counter()
            rank(index, query, {"rgb": 1.0}, top=settings.count, whitened=way)
            took.append(time.perf_counter() - begun)
        figures[name] = round(1e3 * statistics.median(took), 1)
    return figures


def main() -> None:
    settings = parse_command(SearchBenchmark, prog="python -m benchmarks.search", doc=__doc__)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as place:
        make_index(Path(place) / "index", settings.windows)
        index = Index(Path(place) / "index")
        whole = index.vectors("rgb").astype(np.float32)  # brute force has everything in memory
        ours, brute, same = [], [], []
        for number in range(settings.rounds + 1):
            vector = unit(rng, 1)
            query = Described(np.zeros((1, 2), np.float32), {"rgb": vector}, {"rgb": np.ones(1, bool)})
            begun = time.perf_counter()
            rows, _ = nearest(index, query, {"rgb": 1.0}, count=settings.count)
            middle = time.perf_counter()
            every = whole @ vector[0]
            best = np.argpartition(-every, settings.count)[: settings.count]
            end = time.perf_counter()
            if number:  # the first compiles, and reads from the disk
                ours.append(middle - begun)
                brute.append(end - middle)
            same.append({*rows[0].tolist()} == {*best.tolist()})
        of_videos = measure_videos(index, settings)
        by_graph = measure_graph(index, settings) if settings.graph else {}
        make_index(Path(place) / "large", settings.large, empty=True)
        begun = time.perf_counter()
        large = Index(Path(place) / "large")
        shapes = large.vectors("rgb").shape, large.times.shape
        opened = time.perf_counter() - begun
    ours_ms, brute_ms = 1e3 * statistics.median(ours), 1e3 * statistics.median(brute)
    print(f"{settings.windows} windows: {ours_ms:.0f} ms a query, brute force in float32 {brute_ms:.0f} ms")
    print(f"{shapes[0][0]} windows opened in {opened:.2f} s")
    figures = {"windows": settings.windows, "ms": round(ours_ms, 1), "brute_ms": round(brute_ms, 1)}
    figures |= {"ratio": round(brute_ms / ours_ms, 2), "exact": all(same), "large": settings.large}
    print(
        f"videos in order: {of_videos['videos_ms']} ms, whitened {of_videos['videos_whitened_ms']} ms; "
        f"whitening learned in {of_videos['whitening_s']} s"
    )
    if by_graph:
        share, built = by_graph["graph_recall"], by_graph["graph_build_s"]
        print(f"by a graph: {by_graph['graph_ms']} ms, {share:.1%} of the nearest {settings.count}; made in {built} s")
    print(json.dumps(figures | {"open_s": round(opened, 2)} | of_videos | by_graph))


if __name__ == "__main__":
    run_command(main)
