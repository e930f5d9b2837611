"""Disks that are full or read-only: one line, and nothing is lost."""

import subprocess
from pathlib import Path

import pytest

from preprocess.check import check
from preprocess.store import Store
from tests.support.commands import assert_one_line_error, command, environment
from tests.support.runs import COMMAND, copy_store, extract_here, files, journal_lines, leftovers, run_here, write_clips


@pytest.fixture
def disk(tmp_path):
    """A function that makes a small disk, or gives the one that is there another size; None is read-only."""
    place = tmp_path / "disk"

    def resize(size: int | None) -> Path:
        options = "remount,ro" if size is None else f"{'remount,' if place.exists() else ''}rw,size={size}"
        place.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        result = subprocess.run(mount, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"no small disk can be made here: {result.stderr.strip()}")
        return place

    yield resize
    subprocess.run(["umount", str(place)], capture_output=True)


@pytest.mark.parametrize("kilobytes", [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (90, 260)), 420])
def test_a_full_disk_is_one_line_and_costs_nothing(engine, videos, undisturbed, disk, kilobytes, monkeypatch, capsys):
    """Full at a video, at a shard, at the store's own file: whatever is being written."""
    out = disk(kilobytes << 10) / "out.h5"
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND)
    assert_one_line_error(result, "out.h5")
    assert not out.exists()
    done, noted = len(engine.decoded), journal_lines(out)
    assert noted >= done - 1  # what was being written is done again
    disk(10 << 20)
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(engine.decoded) - done == 10 - noted
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []
    assert Store(out).rejected == []


def test_a_full_disk_leaves_the_old_store_as_it_was(finished, videos, engine, disk, monkeypatch, capsys):
    out = copy_store(finished, disk(450 << 10))
    before = files(out)
    (videos / "jump/03.mp4").unlink()
    write_clips(videos, 6, first=20)
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND)
    assert_one_line_error(result, "out.h5")
    assert {name: data for name, data in files(out).items() if name in before} == before
    assert list(check(out)) == []
    disk(10 << 20)
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(Store(out)) == 15
    assert sorted(set(engine.decoded)) == [f"{number}.mp4" for number in range(20, 26)]


def test_a_read_only_disk_is_one_line(engine, videos, disk, monkeypatch, capsys):
    disk(1 << 20)
    result = run_here(monkeypatch, capsys, videos, disk(None) / "out.h5", *COMMAND)
    assert_one_line_error(result, "out.h5")
    assert engine.decoded == []


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_one_line_of_the_real_command(engine, videos, out, undisturbed):
    """As a quota, and for those who may mount nothing: through the workers, too."""
    arguments = command("preprocess.extract", videos, out, *COMMAND, "--workers", 2)
    shell = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *arguments]  # KB
    result = subprocess.run(shell, env=environment(), capture_output=True, text=True, timeout=170)
    result.stderr = "\n".join(line for line in result.stderr.splitlines() if "%|" not in line)
    assert_one_line_error(result, "out.h5")
    assert not out.exists()
    extract_here(videos, out)
    assert files(out) == files(undisturbed)
