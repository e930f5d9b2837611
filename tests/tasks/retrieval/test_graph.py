"""Graphs of near neighbours, held against the search that compares everything."""

import sys

import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.index import make_graphs
from tasks.retrieval.graph import Graphs, build_graphs, newest_graph
from tasks.retrieval.index import Index, open_writer, read_about
from tasks.retrieval.ranking import rank
from tests.tasks.retrieval.random_index import described, random_index

WEIGHTS = {"rgb": 1.0, "audio": 2.5}


@pytest.fixture(autouse=True)
def search_in_small_indexes_too(monkeypatch):
    monkeypatch.setattr("tasks.retrieval.ranking.FEW", 0)
    monkeypatch.setattr("tasks.retrieval.ranking.NEAREST", 40)


@pytest.fixture
def graphed(tmp_path):
    folder = random_index(tmp_path / "index").folder
    make_graphs(folder)
    return folder


def add(folder, number, windows):
    with open_writer(folder, read_about(folder)) as writer:
        facts = {"content": f"{number:032x}", "source": "s", "seconds": 9}
        writer.add(f"{number}", windows=windows, stills=[b""] * len(windows), **facts)


def test_the_first_ten_by_graphs_are_nearly_all_of_those_of_the_exact_search(graphed):
    index = Index(graphed)
    same = []
    for seed in range(20):
        query = described(np.random.default_rng(100 + seed), 1, absent=0.0)
        exact = [match.video.path for match in rank(index, query, WEIGHTS, top=10).matches]
        near = rank(index, query, WEIGHTS, top=10, graphs=Graphs(index, list(WEIGHTS)))
        assert len(near.order) < 60, "no more is compared than what the graphs propose"
        same.append(len({match.video.path for match in near.matches} & {*exact}))
    assert np.mean(same) > 9.5
    for number in (0, 33, 59):
        found = rank(
            index, index.described(index.videos[number].rows), WEIGHTS, top=1, graphs=Graphs(index, ["rgb", "audio"])
        )
        assert found.matches[0].video.path == str(number)


def test_videos_that_came_after_the_graphs_are_found_and_removed_ones_are_not(graphed):
    late = described(np.random.default_rng(7), 5, absent=0.0)
    add(graphed, 900, late)
    index = Index(graphed)
    known = newest_graph(index, "rgb")[1]
    assert known == len(index) - 5
    found = rank(index, late, WEIGHTS, top=1, graphs=Graphs(index, list(WEIGHTS)))
    assert found.matches[0].video.path == "900"
    make_graphs(graphed)
    assert newest_graph(index, "rgb")[1] == len(index)
    assert len([*graphed.glob("*.graph")]) == 2, "the former graphs are gone"
    assert rank(index, late, WEIGHTS, top=1, graphs=Graphs(index, list(WEIGHTS))).matches[0].video.path == "900"
    with open_writer(graphed, read_about(graphed)) as writer:
        writer.remove([writer.videos[-1]])
    index = Index(graphed)
    for graphs in (None, Graphs(index, list(WEIGHTS))):
        assert rank(index, late, WEIGHTS, top=1, graphs=graphs).matches[0].video.path != "900"


def test_killed_while_it_writes_the_old_graph_stays(graphed, monkeypatch):
    add(graphed, 901, described(np.random.default_rng(8), 3))
    monkeypatch.setattr("usearch.index.Index.save", lambda graph, path: path.write_bytes(b"half") and 1 / 0)
    before = {path.name for path in graphed.glob("*.graph")}
    with pytest.raises(ZeroDivisionError):
        make_graphs(graphed)
    assert {path.name for path in graphed.iterdir() if "graph" in path.name} == before
    index = Index(graphed)
    assert rank(
        index, index.described(index.videos[5].rows), WEIGHTS, top=1, graphs=Graphs(index, ["rgb", "audio"])
    ).matches


def test_without_usearch_one_line_says_what_to_install(graphed, monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(UserError, match=r"pip install 'tristream\[search\]'"):
        build_graphs(Index(graphed))


def test_a_damaged_graph_is_one_line_that_says_what_to_do(graphed):
    path, _ = newest_graph(Index(graphed), "rgb")
    for bad in (b"", b"no graph at all" * 9, path.read_bytes()[:3000]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"{path.name} is damaged: delete it.*--graph"):
            Graphs(Index(graphed), ["rgb"])


def test_a_part_has_its_own_graph_and_not_that_of_its_classes(tmp_path):
    sizes = {"rgb": 48, "rgb.class": 7}
    folder = random_index(tmp_path / "index", sizes=sizes).folder
    make_graphs(folder)
    add(folder, 900, described(np.random.default_rng(7), 5, sizes=sizes))
    make_graphs(folder)
    index = Index(folder)
    assert {path.name for path in folder.glob("*.graph")} == {f"{name}.{len(index)}.graph" for name in sizes}
    for name in sizes:
        found = rank(index, index.described(index.videos[33].rows), {name: 1.0}, top=1, graphs=Graphs(index, [name]))
        assert found.matches[0].video.path == "33"
