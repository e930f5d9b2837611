"""Graphs of near neighbours for very large indexes: they propose windows, and what was proposed is compared exactly.

One a part, since weights are chosen when asking. HNSW (Malkov and Yashunin 2020) by usearch, kept as PART.ROWS.graph:
the name says how many rows it knows. Rows that were added later are compared one by one.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from tasks.retrieval.index import Index

BLOCK = 1 << 16  # rows that are added at a time
WIDTH = 512  # nodes that a search keeps: more find more, and take longer
SHAPE = {"metric": "ip", "dtype": "f16", "connectivity": 16, "expansion_add": 128, "expansion_search": WIDTH}


def build_graphs(index: Index) -> None:
    """Make each part's graph, or add to it what the index has got since. Killed, the old graph stays.

    Raises UserError if usearch is not installed, or a graph is damaged.
    """
    usearch = _usearch()
    with tqdm(total=len(index.names) * len(index), unit="window", desc="graphs", leave=False, disable=None) as bar:
        for name in index.names:
            path, done = newest_graph(index, name)
            graph = _read(path, view=False) if path else usearch.Index(ndim=index.about.parts[name], **SHAPE)
            bar.update(done)
            for begin in range(done, len(index), BLOCK):
                rows = np.arange(begin, min(begin + BLOCK, len(index)))
                there = index.there(name)[rows]
                graph.add(rows[there], np.asarray(index.vectors(name)[rows][there], np.float16))
                bar.update(len(rows))
            if path is None or done < len(index):
                former = graph_files(index, name)
                new = index.folder / f"{name}.{len(index)}.graph"
                write_aside(new, lambda part, graph=graph: graph.save(part))
                for old in former.values():
                    old.unlink()


def newest_graph(index: Index, name: str) -> tuple[Path | None, int]:
    """The graph of a part that knows most rows, and how many; none: 0."""
    files = graph_files(index, name)
    rows = max((rows for rows in files if rows <= len(index)), default=0)
    return files.get(rows), rows


def graph_files(index: Index, name: str) -> dict[int, Path]:
    """rows → the graph of a part that knows so many; those of rgb.class are none of rgb."""
    found = {
        path.name.removeprefix(f"{name}.").removesuffix(".graph"): path for path in index.folder.glob(f"{name}.*.graph")
    }
    return {int(rows): path for rows, path in found.items() if rows.isdecimal()}


class Graphs:
    """The graphs of an index, mapped into memory when a part is first asked for."""

    def __init__(self, index: Index, parts: list[str]) -> None:
        """Raises UserError if usearch is not installed, or a graph is damaged."""
        self._found = {name: newest_graph(index, name) for name in parts}
        self._graphs = {name: _read(path, view=True) for name, (path, _) in self._found.items() if path}

    @property
    def rows(self) -> int:
        """How many of the first rows all parts' graphs know."""
        return min((rows for _, rows in self._found.values()), default=0)

    def near(self, name: str, vectors: np.ndarray, count: int) -> np.ndarray:
        """Rows of a part that are near to any of (Q, D) vectors, about `count` for each: (n,) int64"""
        graph = self._graphs[name]
        if not len(graph):
            return np.empty(0, np.int64)
        found = graph.search(vectors.astype(np.float16), min(count, len(graph)))
        return np.unique(np.asarray(found.keys).ravel().astype(np.int64))


def _read(path: Path, *, view: bool):
    try:
        graph = _usearch().Index.restore(path, view=view)
    except (RuntimeError, ValueError, OSError):
        graph = None
    if graph is None:
        raise UserError(f"{path} is damaged: delete it, and make it again with tristream index {path.parent} --graph")
    graph.expansion_add, graph.expansion_search = SHAPE["expansion_add"], WIDTH  # the file does not keep them
    return graph


def _usearch():
    try:
        from usearch import index
    except ImportError as error:
        raise UserError("graphs need usearch: pip install 'tristream[search]'") from error
    return index
