"""The house: which room may import which, how long a file may be, and what fusion knows of the streams."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from streams.registry import STREAMS
from tests.support.commands import ROOT

ROOMS = ["preprocess", "streams", "fusion", "train", "tasks", "tristream"]  # each may import those before it
LONGEST = 350  # lines of a file
PREPROCESS = 13  # seven commands, six rooms


@cache
def files(room: str) -> tuple[Path, ...]:
    """The sources of a room: a folder, or a single file at the top."""
    single = ROOT / f"{room}.py"
    return (single,) if single.exists() else tuple(sorted((ROOT / room).rglob("*.py")))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """The names of all modules that a file imports, also within a function or for types alone."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                inner = ROOT.joinpath(*base.split("."), name.name)
                yield f"{base}.{name.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else base


def imports(room: str) -> list[tuple[str, str]]:
    """Which file of a room imports which module."""
    return [(str(path.relative_to(ROOT)), name) for path in files(room) for name in imported(path)]


def test_no_file_imports_itself_by_way_of_others():
    sources = {module_of(path): path for room in ROOMS for path in files(room)}
    graph = {module: {name for name in imported(path) if name in sources} for module, path in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' ← '.join(error.args[1])}")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_none_that_comes_after_it(room):
    later = {*ROOMS[ROOMS.index(room) + 1 :], "tests", "benchmarks"}
    assert [found for found in imports(room) if found[1].split(".")[0] in later] == []


def test_tests_and_benchmarks_meet_in_the_support_of_tests_alone():
    measures = {found for found in imports("tests") if found[1].split(".")[0] == "benchmarks"}
    assert {file for file, _ in measures} <= {"tests/test_benchmarks.py"}
    assert [
        found
        for found in imports("benchmarks")
        if found[1].split(".")[0] == "tests" and not found[1].startswith("tests.support.")
    ] == []


def test_no_file_is_too_long_to_be_read_at_once():
    found = {
        str(path.relative_to(ROOT)): lines
        for room in [*ROOMS, "benchmarks", "tests"]
        for path in files(room)
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert found == {}


def test_preprocess_has_few_rooms():
    rooms = [path.name for path in (ROOT / "preprocess").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))]
    assert len(set(rooms) - {"__init__.py"}) <= PREPROCESS, sorted(rooms)


def test_fusion_knows_no_stream_by_its_name():
    found = []
    for path in files("fusion"):
        texts = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)]
        named = [node for node in texts if node.value in STREAMS]
        found += [f"{path.relative_to(ROOT)} line {node.lineno}: {node.value!r}" for node in named]
    assert found == []
