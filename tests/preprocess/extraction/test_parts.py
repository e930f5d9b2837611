"""Runs that share a job, and runs that only say what they would do."""

import pytest

from preprocess.merge import merge
from preprocess.store import Store
from tests.support.runs import (
    COMMAND,
    SHARD_SIZE,
    TEN,
    copy_store,
    extract_here,
    files,
    interrupt,
    leftovers,
    report,
    run_here,
    snapshot,
    start,
)


def test_parts_one_after_the_other_make_the_store_of_one_machine(engine, videos, out, undisturbed):
    assert extract_here(videos, out, part="1/3") is None
    assert extract_here(videos, out, part="3/3") is None
    assert not out.exists()
    assert len(extract_here(videos, out, part="2/3")) == 10
    assert sorted(engine.decoded) == sorted(TEN)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []
    assert [row["path"] for row in report(out)["videos"]] == [video.path for video in Store(out).videos]


def test_a_part_that_was_interrupted_goes_on_where_it_was(engine, videos, out, undisturbed):
    interrupt(engine, 2, videos, out, part="1/2")
    assert extract_here(videos, out, part="2/2") is None
    extract_here(videos, out, part="1/2")
    assert sorted(engine.decoded) == sorted(TEN)
    assert files(out) == files(undisturbed)


@pytest.mark.slow
def test_an_empty_part_harms_nobody(engine, videos, out, undisturbed):
    for number in range(1, 25):
        store = extract_here(videos, out, part=f"{number}/24")
    assert engine.decoded and len(store) == 10
    assert files(out) == files(undisturbed)


@pytest.mark.slow
def test_parts_at_the_same_time_make_the_store_of_one_machine(videos, out, undisturbed):
    parts = [start(videos, out, "--workers", 1, "--part", f"{number}/3") for number in (1, 2, 3)]
    assert [part.wait(timeout=170) for part in parts] == [0, 0, 0], (out.parent.parent / "log").read_text()
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_separate_parts_merged_are_the_store_of_one_machine(engine, videos, out, undisturbed, tmp_path):
    stores = []
    for number in (1, 2, 3):
        (tmp_path / f"machine {number}").mkdir()
        stores.append(tmp_path / f"machine {number}" / "part.h5")
        extract_here(videos, stores[-1], part=f"{number}/3", separate=True)
    assert sorted(engine.decoded) == sorted(TEN)
    merge(stores, out, shard_bytes=SHARD_SIZE * 1e9)
    assert files(out) == files(undisturbed)
    extract_here(videos, out)  # the merged store is gone on with like any other
    assert sorted(engine.decoded) == sorted(TEN)


@pytest.mark.parametrize("state", ["fresh", "interrupted", "finished"])
def test_a_dry_run_tells_the_plan_and_writes_nothing(
    engine, videos, out, undisturbed, state, tmp_path, monkeypatch, capsys
):
    if state == "finished":
        copy_store(undisturbed, out.parent)
        extract_here(videos, out)
    elif state == "interrupted":
        interrupt(engine, 4, videos, out)
    before = snapshot(tmp_path)
    said = run_here(monkeypatch, capsys, videos, out, *COMMAND, "--dry-run").stdout
    done = {"fresh": 0, "interrupted": 4, "finished": 10}[state]
    assert "10 videos" in said and f"{done} are done" in said
    if state != "finished":
        assert f"{10 - done} videos" in said
    assert snapshot(tmp_path) == before
