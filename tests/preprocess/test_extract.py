"""The command line of extraction, as a user runs it. What it does when it is run again is in test_resume."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from preprocess import extract
from preprocess.common.command import run_command
from preprocess.store import Store
from tests.preprocess.conftest import REJECTED, USED
from tests.support.cases import case
from tests.support.commands import assert_one_line_error, command, environment, run
from tests.support.runs import copy_store, files, leftovers, run_here, write_clips
from tests.support.videos import drift, sound, tone, write_video


@pytest.fixture
def small(tmp_path):
    """A folder of two videos that can be used and one that cannot."""
    root = tmp_path / "videos"
    for name in ("run/a.mp4", "jump/b.mp4"):
        (root / name).parent.mkdir(parents=True)
        write_video(root / name, drift(4), track=sound(tone(0.2), codec="aac"))
    (root / "run/bad.mp4").write_text("not a video")
    return root


def test_a_run_over_good_and_bad_files_ends_well_and_leaves_the_store_and_its_report(extracted):
    assert extracted.result.returncode == 0, extracted.result.stderr
    assert sorted(os.listdir(extracted.store.parent)) == ["out.h5", "out.report.json"]


def test_every_file_ends_in_the_store_or_on_the_list_with_its_reason(extracted, store):
    assert {video.path: video.why for video in store.videos} == USED
    assert [reject.path for reject in store.rejected] == sorted(REJECTED)
    for reject in store.rejected:
        assert REJECTED[reject.path] in reject.reason
        assert f"not used: {reject.path}: {reject.reason}" in extracted.result.stdout


def test_the_run_ends_with_a_table_of_what_there_is_and_what_is_missing(extracted):
    out = extracted.result.stdout
    assert "8 videos" in out and "2 classes" in out and "5 files" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows["flow"].split()[1:3] == ["7", "1"] and "one frame ×1" in rows["flow"]
    assert rows["audio"].split()[1:3] == ["3", "5"]
    assert "no audio track ×4" in rows["audio"] and "silent ×1" in rows["audio"]


def test_what_is_no_video_by_its_name_is_noted(extracted, store):
    assert any(".txt" in note for note in store.notes)
    assert "passed over" in extracted.result.stdout


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(extracted, tmp_path):
    alone = tmp_path / "out.h5"
    result = run("preprocess.extract", extracted.videos, alone, "--workers", 1, "--short-side", 32)
    assert result.returncode == 0, result.stderr
    assert files(alone) == files(extracted.store)


@pytest.mark.slow
def test_a_second_run_of_the_command_tries_only_what_could_not_be_read(extracted, tmp_path):
    out = copy_store(extracted.store, tmp_path)
    result = run("preprocess.extract", extracted.videos, out, "--short-side", 32, "--strict")
    assert result.returncode == 1, result.stderr  # --strict: some could not be used
    assert "12 kept" in result.stdout and "jump/gone.mp4: unreadable: " in result.stdout
    assert files(out) == files(extracted.store)


@pytest.mark.slow
def test_a_store_of_other_settings_is_refused_in_one_line(extracted, tmp_path):
    out = copy_store(extracted.store, tmp_path)
    refused = run("preprocess.extract", extracted.videos, out, "--short-side", 48)
    assert_one_line_error(refused, "out.h5", "short_side", "--overwrite")
    assert files(out) == files(extracted.store)


def test_labels_splits_and_groups_come_from_a_label_file(small, tmp_path, engine, monkeypatch, capsys):
    table, out = tmp_path / "labels.csv", tmp_path / "out.h5"
    table.write_text("path,label,split,group\nrun/a.mp4,Ärger,train,g1\njump/b.mp4,joy,val,\n")
    result = run_here(monkeypatch, capsys, small, out, "--labels", table, "--short-side", 32)
    assert result.returncode == 0, result.stderr
    rows = [(video.path, video.label, video.split, video.group) for video in Store(out).videos]
    assert rows == [("jump/b.mp4", "joy", "val", None), ("run/a.mp4", "Ärger", "train", "g1")]
    assert Store(out).classes == ["joy", "Ärger"]


def test_where_nothing_can_be_used_the_status_is_1_and_an_old_store_stays(small, tmp_path, engine, monkeypatch, capsys):
    out = tmp_path / "out.h5"
    out.write_bytes(b"precious")
    for name in ("run/a.mp4", "jump/b.mp4"):
        (small / name).write_text("no longer a video")
    result = run_here(monkeypatch, capsys, small, out, "--overwrite")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert all(name in result.stdout for name in ("run/a.mp4", "jump/b.mp4"))
    assert out.read_bytes() == b"precious"
    assert leftovers(out) == ["videos"]


def test_a_class_may_be_called_anything(tmp_path, engine, monkeypatch, capsys):
    folder = os.fsdecode(b"caf\xe9")
    (tmp_path / "videos" / folder).mkdir(parents=True)
    write_video(tmp_path / "a.mp4", drift(3)).rename(tmp_path / "videos" / folder / "a.mp4")
    (tmp_path / "videos" / folder / os.fsdecode(b"notes.t\xff")).touch()
    result = run_here(monkeypatch, capsys, tmp_path / "videos", tmp_path / "out.h5", "--short-side", 32)
    assert result.returncode == 0, result.stderr
    store = Store(tmp_path / "out.h5")
    assert store.classes == [folder]
    assert store.videos[0].label == folder


def test_wrong_input_is_one_line_and_leaves_nothing(small, tmp_path, monkeypatch, capsys):
    """In this process: `run_command` is what ends a run of python -m preprocess.extract."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "lost.csv").write_text("path,label\nnowhere.mp4,run\n")
    monkeypatch.chdir(tmp_path)
    for arguments, says in (
        (["nowhere", "out.h5"], ["nowhere"]),
        (["empty", "out.h5"], ["empty"]),
        (["videos", "missing/out.h5"], ["missing/out.h5"]),
        (["videos", "empty"], ["empty"]),
        (["videos", "out.h5", "--workers", "0"], ["--workers"]),
        (["videos", "out.h5", "--short-side", "0"], ["--short-side"]),
        (["videos", "out.h5", "--fps", "nan"], ["--fps"]),
        (["videos", "out.h5", "--mel-bands", "0"], ["--mel-bands"]),
        (["videos", "out.h5", "--shard-size", "nan"], ["--shard-size"]),
        (["videos", "out.h5", "--flow-preset", "best"], ["best"]),
        *((["videos", "out.h5", "--part", part], ["--part", part]) for part in ("0/3", "4/3", "a/b")),
        (["videos", "out.h5", "--dry-run", "--workers", "0"], ["--workers"]),
        (["videos", "out.h5", "--labels", "gone.csv"], ["gone.csv"]),
        (["videos", "out.h5", "--labels", "empty"], ["empty"]),
        (["videos", "out.h5", "--labels", "lost.csv"], ["lost.csv", "nowhere.mp4"]),
    ):
        with case((arguments, says)):
            monkeypatch.setattr("sys.argv", ["extract", *arguments])
            before = sorted(tmp_path.rglob("*"))
            with pytest.raises(SystemExit) as ended:
                run_command(extract.main)
            error = capsys.readouterr().err.strip()
            assert ended.value.code == 2
            assert error.startswith("error:") and "\n" not in error
            for text in says:
                assert text in error
            assert sorted(tmp_path.rglob("*")) == before


def start(videos, out) -> subprocess.Popen:
    """Extraction in its own process group, as a terminal starts it. What it says goes to the file log."""
    with open(out.parent.parent / "log", "w") as log:
        return subprocess.Popen(
            command("preprocess.extract", videos, out, "--workers", 2, "--short-side", 32),
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def workers(process: subprocess.Popen) -> list[dict[str, int]]:
    """What each worker that runs by now does with signals, as the kernel tells it: set of signals → bits."""
    found = []
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{child}/status").read_text()
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                found.append({name: int(bits, 16) for name, bits in re.findall(r"Sig(\w+):\s*(\w+)\n", status)})
    return found


def wait_for(process: subprocess.Popen, happened) -> None:
    while not happened():
        assert process.poll() is None
        time.sleep(0.002)


def group_is_gone(group: int) -> bool:
    """Whether no process of the group is left; waits a while for the last ones to end."""
    for _ in range(1500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return False


def some_are_done(out: Path) -> bool:
    """Whether a run has noted down a video, and most are still to be done."""
    return any(path.stat().st_size for path in out.parent.glob("out.h5.partial/journal/*.jsonl"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough videos to be still at work when a signal comes."""
    return write_clips(tmp_path_factory.mktemp("many") / "videos", 24)


@pytest.mark.slow
def test_ctrl_c_before_anything_is_done_stops_with_one_word_and_leaves_nothing(many, out, tmp_path):
    process = start(many, out)
    seen = []
    wait_for(process, lambda: seen.extend(workers(process)) or len(seen) > 1)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    said = (tmp_path / "log").read_text()
    assert process.returncode == 130, said
    assert "stopped" in said
    assert "Traceback" not in said
    assert os.listdir(out.parent) == []
    assert group_is_gone(process.pid)
    # a terminal sends it to all, and each worker would print a traceback of its own
    assert all((one["Blk"] | one["Ign"]) >> (signal.SIGINT - 1) & 1 for one in seen)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_what_is_done_and_the_same_command_goes_on(many, out, tmp_path, number):
    """As by Ctrl-C, or by a cluster whose time is up."""
    process = start(many, out)
    wait_for(process, lambda: some_are_done(out))
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    process.wait(timeout=60)
    said = (tmp_path / "log").read_text()
    assert process.returncode == 130, said
    assert "stopped" in said and "24 videos" in said
    assert "Traceback" not in said
    assert os.listdir(out.parent) == ["out.h5.partial"]
    assert group_is_gone(process.pid)
    again = start(many, out)
    assert again.wait(timeout=170) == 0
    assert len(Store(out)) == 24
    assert leftovers(out) == []


@pytest.mark.slow
def test_two_runs_do_not_write_one_store(many, small, out):
    process = start(many, out)
    wait_for(process, lambda: some_are_done(out))
    os.kill(process.pid, signal.SIGSTOP)  # it stays at work however long the other takes to start
    second = run("preprocess.extract", small, out, "--short-side", 32)
    os.kill(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    assert_one_line_error(second, "out.h5")
