"""Runs that were interrupted: the same command goes on, and the store is as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.extraction.report import report_path
from preprocess.store import Store
from tests.support.commands import environment
from tests.support.runs import (
    COMMAND,
    TEN,
    Killed,
    extract_here,
    files,
    interrupt,
    journal_lines,
    leftovers,
    report,
    start,
)


@pytest.mark.parametrize("number", [0, 1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_that_ends_before_any_video_goes_on_there_and_makes_the_same_store(
    engine, videos, out, undisturbed, number
):
    engine.kill_before(number)
    with pytest.raises(Killed):
        extract_here(videos, out)
    assert not out.exists()
    assert engine.decoded == TEN[:number]
    assert leftovers(out) == (["out.h5.partial"] if number else [])
    engine.before = lambda _: None
    extract_here(videos, out)
    assert engine.decoded == TEN
    assert report(out)["videos_done"] == 10 - number
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_files_of_an_extraction_that_has_not_ended_have_the_usual_mode(engine, videos, out):
    """Another user may do the next part of the job."""
    mask = os.umask(0)
    os.umask(mask)
    interrupt(engine, 3, videos, out)
    files = [path for path in (out.parent / "out.h5.partial").rglob("*") if path.is_file()]
    assert sum(path.suffix == ".h5" for path in files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


@pytest.mark.slow
def test_a_run_that_is_interrupted_again_and_again_ends_all_the_same(engine, videos, out, undisturbed):
    engine.kill_before(1)
    for _ in range(9):
        with pytest.raises(Killed):
            extract_here(videos, out)
    engine.before = lambda _: None
    extract_here(videos, out)
    assert engine.decoded == TEN
    assert files(out) == files(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["journal", "scratch", "piece", "all journals"])
def test_what_a_power_failure_leaves_half_written_is_done_again_and_nothing_else(
    engine, videos, out, undisturbed, what
):
    engine.kill_before(7)
    with pytest.raises(Killed):
        extract_here(videos, out)
    partial = out.with_name("out.h5.partial")
    pieces = sorted(partial.glob("pieces/*/*.h5"))
    assert len(pieces) == 3  # of seven videos four are in a shard
    again = []
    if what == "journal":
        with open(partial / "journal/1-of-1.jsonl", "ab") as journal:
            journal.write(b'{"path": "run/04.mp4", "signa')
    elif what == "scratch":
        (partial / "scratch/1-of-1/store.h5").write_bytes(b"half a file")
        (partial / "scratch/elsewhere").mkdir()
    elif what == "piece":
        os.truncate(pieces[0], 5000)
        again = [name for name in TEN[4:7] if name not in TEN[:4]]
        report_path(out).write_text("{")
    else:
        shutil.rmtree(partial / "journal")
    engine.before, done = (lambda _: None), list(engine.decoded)
    extract_here(videos, out)
    more = engine.decoded[len(done) :]
    assert len(more) == 4 if again else more == TEN[7:]
    assert set(TEN[7:]) <= set(more)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_a_damaged_piece_stops_the_run_with_its_name_and_is_mended_by_removing_it(engine, videos, out, undisturbed):
    interrupt(engine, 6, videos, out)
    piece = sorted(out.parent.glob("out.h5.partial/pieces/*/*.h5"))[0]
    data = bytearray(piece.read_bytes())
    at = data.index(b"\xff\xd8") + 900  # in the first picture
    data[at] ^= 4
    piece.write_bytes(data)
    with pytest.raises(UserError, match=piece.name):
        extract_here(videos, out)
    piece.unlink()
    extract_here(videos, out)
    assert files(out) == files(undisturbed)


def wait_for(process: subprocess.Popen, happened) -> None:
    while not happened():
        assert process.poll() is None
        time.sleep(0.002)


def worker_of(process: subprocess.Popen) -> int | None:
    """The process of a worker, if there is one by now."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


@pytest.mark.slow
def test_a_killed_worker_costs_no_video_and_a_killed_command_goes_on_to_the_same_store(
    engine, videos, out, undisturbed
):
    process = start(videos, out, "--workers", 2)
    wait_for(process, lambda: journal_lines(out) >= 1)
    os.kill(worker_of(process), signal.SIGKILL)
    wait_for(process, lambda: journal_lines(out) >= 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert not out.exists()
    extract_here(videos, out)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []
    assert report(out)["videos_done"] <= 7


@pytest.mark.slow
def test_a_video_that_kills_its_worker_costs_itself_alone(videos, out, tmp_path):
    """Through the whole command; what the supervisor does then is tested with preprocess.workers.pool."""
    code = f"""
import os, sys
from preprocess import extract
from preprocess.extraction import task
from preprocess.common.command import run_command

real = task.extract_piece

def deadly(file, *arguments, **settings):
    if file.endswith("05.mp4"):
        os.kill(os.getpid(), 9)
    if file.endswith("04.mp4"):
        raise ZeroDivisionError("a bug in a decoder")
    return real(file, *arguments, **settings)

task.extract_piece = deadly  # also in the workers, which load this file
if __name__ == "__main__":
    sys.argv = ["extract", {str(videos)!r}, {str(out)!r}, *{list(map(str, COMMAND))!r}, "--workers", "2"]
    run_command(extract.main)
"""
    (tmp_path / "deadly.py").write_text(code)
    command = [sys.executable, str(tmp_path / "deadly.py")]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stderr
    store = Store(out)
    assert {reject.path: reject.reason.split(":")[0] for reject in store.rejected} == {
        "jump/05.mp4": "crashed",
        "run/04.mp4": "corrupt",
    }
    assert "SIGKILL" in store.rejected[0].reason and "ZeroDivisionError" in store.rejected[1].reason
    assert len(store) == 8
    assert list(check(out)) == []
