"""Runs that were interrupted, and folders that have changed since: only what is missing is done, and the store is the
same as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocess import extract, plan
from preprocess.check import check
from preprocess.errors import UserError
from preprocess.limits import Limits
from preprocess.merge import merge
from preprocess.piece import PieceSettings
from preprocess.report import report_path
from preprocess.store import Store, shard_folder
from tests.preprocess.commands import assert_one_line_error, command, environment
from tests.preprocess.runs import (
    COMMAND,
    SHARD_SIZE,
    Killed,
    copy_store,
    extract_here,
    files,
    leftovers,
    run_here,
    settings_for,
    streams,
    write_clips,
)

ALL = [f"{number:02d}.mp4" for number in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)]  # jump/ comes before run/


@pytest.fixture
def out(tmp_path) -> Path:
    """Where a store is to be, alone in its folder."""
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores" / "out.h5"


@pytest.fixture
def finished(undisturbed, videos, out, engine) -> Path:
    """A store that is as its videos are."""
    copy_store(undisturbed, out.parent)
    extract_here(videos, out)
    assert engine.decoded == []
    return out


def report(out: Path) -> dict:
    return json.loads(report_path(out).read_text())


def snapshot(folder: Path) -> dict[Path, tuple]:
    """Every file below a folder, and whether it was touched."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


# Interruptions


@pytest.mark.parametrize("number", [0, 1, 4, 5, 9])
def test_a_run_that_ends_before_any_video_goes_on_there_and_makes_the_same_store(
    engine, videos, out, undisturbed, number
):
    engine.kill_before(number)
    with pytest.raises(Killed):
        extract_here(videos, out)
    assert not out.exists()
    assert engine.decoded == ALL[:number]
    assert leftovers(out) == (["out.h5.partial"] if number else [])
    engine.before = lambda _: None
    extract_here(videos, out)
    assert engine.decoded == ALL
    assert report(out)["videos_done"] == 10 - number
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_a_run_that_is_interrupted_again_and_again_ends_all_the_same(engine, videos, out, undisturbed):
    engine.kill_before(1)
    for _ in range(9):
        with pytest.raises(Killed):
            extract_here(videos, out)
    engine.before = lambda _: None
    extract_here(videos, out)
    assert engine.decoded == ALL
    assert files(out) == files(undisturbed)


@pytest.mark.parametrize("what", ["journal", "scratch", "piece", "all journals", "report of nothing"])
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
        again = [name for name in ALL[4:7] if name not in ALL[:4]]
    elif what == "all journals":
        shutil.rmtree(partial / "journal")
    else:
        report_path(out).write_text("{")
    engine.before, done = (lambda _: None), list(engine.decoded)
    extract_here(videos, out)
    more = engine.decoded[len(done) :]
    assert len(more) == 4 if again else more == ALL[7:]
    assert set(ALL[7:]) <= set(more)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_a_damaged_piece_stops_the_run_with_its_name_and_is_mended_by_removing_it(engine, videos, out, undisturbed):
    engine.kill_before(6)
    with pytest.raises(Killed):
        extract_here(videos, out)
    engine.before = lambda _: None
    piece = sorted(out.parent.glob("out.h5.partial/pieces/*/*.h5"))[0]
    data = bytearray(piece.read_bytes())
    at = data.index(b"\xff\xd8") + 900  # in the first picture
    data[at] ^= 4
    piece.write_bytes(data)
    with pytest.raises(UserError, match=f"{piece.name} is damaged.*remove it and run the extraction again"):
        extract_here(videos, out)
    piece.unlink()
    extract_here(videos, out)
    assert files(out) == files(undisturbed)


def start(videos: Path, out: Path, *more: object) -> subprocess.Popen:
    """The real command, in its own process group. What it says goes to the file log."""
    with open(out.parent.parent / "log", "a") as log:
        arguments = command("preprocess.extract", videos, out, *COMMAND, *more)
        return subprocess.Popen(arguments, env=environment(), stdout=log, stderr=log, start_new_session=True)


def journal_lines(out: Path) -> int:
    """How many videos a run has noted down."""
    return sum(path.read_bytes().count(b"\n") for path in out.parent.glob("out.h5.partial/journal/*.jsonl"))


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
    engine, videos, out, undisturbed, capsys
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
    assert f"{10 - report(out)['videos_done']} kept from before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_video_that_kills_its_worker_costs_itself_alone(videos, out, tmp_path):
    """Through the whole command; what the supervisor does then is tested with preprocess.supervise."""
    code = f"""
import os, sys
from preprocess import extract, unit
from preprocess.command import run_command

real = unit.extract_piece

def deadly(file, *arguments, **settings):
    if file.endswith("05.mp4"):
        os.kill(os.getpid(), 9)
    if file.endswith("04.mp4"):
        raise ZeroDivisionError("a bug in a decoder")
    return real(file, *arguments, **settings)

unit.extract_piece = deadly  # also in the workers, which load this file
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
    assert "SIGKILL" in store.rejected[0].reason
    assert "ZeroDivisionError: a bug in a decoder" in store.rejected[1].reason
    assert len(store) == 8
    assert list(check(out)) == []


# What has changed since


def test_nothing_to_do_is_said_and_nothing_is_written_but_the_report(finished, videos, engine, capsys):
    before = snapshot(finished.parent)
    extract_here(videos, finished)
    assert "nothing to do: 10 files as before" in capsys.readouterr().out
    after = snapshot(finished.parent)
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {"out.report.json"}
    assert engine.decoded == []


def test_an_added_video_is_done_alone_and_the_shards_stay(finished, videos, engine, capsys):
    before = streams(finished)
    shards = snapshot(shard_folder(finished))
    write_clips(videos, 1, first=10)
    extract_here(videos, finished)
    assert engine.decoded == ["10.mp4"]
    assert "10 kept from before" in capsys.readouterr().out
    after = streams(finished)
    assert after.pop("run/10.mp4")
    assert after == before
    assert snapshot(shard_folder(finished)) == shards
    assert list(check(finished)) == []


def test_a_video_whose_content_has_changed_is_done_again_and_the_old_one_is_gone(finished, videos, engine):
    before, old = streams(finished), {video.path: video.content for video in Store(finished).videos}
    shutil.copy(write_clips(videos.parent / "other", 1, first=30) / "run/30.mp4", videos / "jump/03.mp4")
    extract_here(videos, finished)
    assert engine.decoded == ["03.mp4"]
    after = streams(finished)
    assert after.pop("jump/03.mp4") != before.pop("jump/03.mp4")
    assert after == before
    held = [Path(path).read_bytes() for path in [finished, *shard_folder(finished).iterdir()]]
    assert not any(old["jump/03.mp4"].encode() in data for data in held)
    assert all(any(old["jump/05.mp4"].encode() in data for data in held) for _ in "x")
    assert list(check(finished)) == []


def test_a_touched_file_is_looked_at_and_not_done_again(finished, videos, engine):
    before = files(finished)
    for path in videos.rglob("*.mp4"):
        os.utime(path, (1e9, 1e9))
    extract_here(videos, finished)
    assert engine.decoded == []
    assert files(finished) == before


def test_moved_and_relabelled_files_cost_no_decoding(finished, videos, engine):
    before = streams(finished)
    shards = snapshot(shard_folder(finished))
    (videos / "climb").mkdir()
    (videos / "jump/07.mp4").rename(videos / "climb/seven.mp4")
    extract_here(videos, finished)
    assert engine.decoded == []
    assert Store(finished).classes == ["climb", "jump", "run"]
    after = streams(finished)
    assert after["climb/seven.mp4"] == before["jump/07.mp4"]
    assert "jump/07.mp4" not in after
    assert snapshot(shard_folder(finished)) == shards
    table = videos.parent / "labels.csv"
    table.write_text("path,label,split,group\nclimb/seven.mp4,up,val,g7\nrun/00.mp4,along,train,\n")
    extract_here(videos, finished, labels=table)
    assert engine.decoded == []
    rows = [(video.path, video.label, video.split, video.group) for video in Store(finished).videos]
    assert rows == [("climb/seven.mp4", "up", "val", "g7"), ("run/00.mp4", "along", "train", None)]
    assert list(check(finished)) == []


def test_a_removed_video_leaves_the_store_and_its_shard_is_packed_again(finished, videos, engine):
    before, shards = streams(finished), set(shard_folder(finished).iterdir())
    gone = Store(finished).videos[1]
    (videos / gone.path).unlink()
    extract_here(videos, finished)
    assert engine.decoded == []
    after = streams(finished)
    del before[gone.path]
    assert after == before
    now = set(shard_folder(finished).iterdir())
    assert len(shards - now) == 1 and len(shards & now) == 1
    assert set(Store(finished).shards) == now
    assert not any(gone.content.encode() in path.read_bytes() for path in [finished, *now])
    assert list(check(finished)) == []
    assert leftovers(finished) == []


def test_an_interruption_while_shards_are_packed_again_loses_nothing(finished, videos, engine, monkeypatch):
    before = streams(finished)
    (videos / "jump/03.mp4").unlink()
    write_clips(videos, 2, first=20)
    with monkeypatch.context() as patch:
        patch.setattr("preprocess.writer.write_index", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            extract_here(videos, finished)
    assert streams(finished) == before  # a reader has the old store until the new one is whole
    extract_here(videos, finished)
    assert sorted(engine.decoded) == ["20.mp4", "21.mp4"]
    del before["jump/03.mp4"]
    after = streams(finished)
    assert {path: after[path] for path in before} == before
    assert len(after) == 11
    assert list(check(finished)) == []


def test_a_damaged_shard_that_was_removed_is_made_again_and_nothing_else(finished, videos, engine):
    before = files(finished)
    shard = Store(finished).shards[0]
    lost = {Path(video.path).name for video in Store(finished).videos if video.shard == 0}
    shard.unlink()
    assert next(iter(check(finished))) == f"{shard}: is missing"
    extract_here(videos, finished)
    assert set(engine.decoded) == lost
    assert list(check(finished)) == []
    assert files(finished) == before


def test_a_store_that_was_removed_is_made_again_of_its_shards(finished, videos, engine):
    before = files(finished)
    in_shards = {Path(video.path).name for video in Store(finished).videos if video.shard >= 0}
    finished.unlink()
    extract_here(videos, finished)
    assert set(engine.decoded) == set(ALL) - in_shards
    assert files(finished) == before


# Starting over, and other settings


def test_overwriting_starts_over_and_goes_on_after_an_interruption(finished, videos, engine):
    before = files(finished)
    engine.kill_before(6)
    with pytest.raises(Killed):
        extract_here(videos, finished, overwrite=True)
    assert engine.decoded == ALL[:6]
    assert len(Store(finished)) == 10  # until then the old one is there
    assert list(check(finished)) == []
    engine.before = lambda _: None
    extract_here(videos, finished, overwrite=True)
    assert engine.decoded == ALL
    assert files(finished) == before


def test_overwriting_with_other_settings_replaces_the_store_and_its_shards(finished, videos, engine):
    old = set(shard_folder(finished).iterdir())
    extract_here(videos, finished, overwrite=True, store=PieceSettings(short_side=48))
    assert engine.decoded == ALL
    assert Store(finished).parameters["short_side"] == 48
    assert not old & set(shard_folder(finished).iterdir())
    assert list(check(finished)) == []


OTHERS = [
    (PieceSettings(short_side=48), "short_side 32, now 48"),
    (PieceSettings(short_side=32, fps=10), "fps 25.0, now 10"),
    (PieceSettings(short_side=32, limits=Limits(max_seconds=5.0)), "limits max_seconds 43200.0, now 5.0"),
    (PieceSettings(short_side=32, flow_preset="quality"), "flow preset default, now quality"),
]


@pytest.mark.parametrize(("settings", "says"), OTHERS, ids=["side", "fps", "limits", "flow"])
def test_a_store_of_other_settings_is_refused_and_the_difference_is_shown(finished, videos, settings, says):
    before = snapshot(finished.parent)
    with pytest.raises(UserError, match="was extracted with other settings") as caught:
        extract_here(videos, finished, store=settings)
    assert says in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert snapshot(finished.parent) == before


def test_an_interrupted_run_of_other_settings_is_refused_and_put_away_by_overwriting(engine, videos, out):
    engine.kill_before(3)
    with pytest.raises(Killed):
        extract_here(videos, out)
    engine.before = lambda _: None
    before = snapshot(out.parent)
    other = PieceSettings(short_side=48)
    with pytest.raises(UserError, match=r"an interrupted extraction .* has other settings .*short_side 32, now 48"):
        extract_here(videos, out, store=other)
    assert snapshot(out.parent) == before
    extract_here(videos, out, store=other, overwrite=True)
    assert engine.decoded == ALL[:3] + ALL
    assert Store(out).parameters["short_side"] == 48
    assert leftovers(out) == []


def test_what_is_there_and_is_no_store_is_never_gone_on_with(videos, out, engine):
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"out\.h5 is no HDF5 file.*give another name, or --overwrite"):
        extract_here(videos, out)
    assert out.read_bytes() == b"precious"
    assert leftovers(out) == []
    extract_here(videos, out, overwrite=True)
    assert len(Store(out)) == 10


# Videos that could not be used


def test_a_rejected_video_is_tried_again_on_demand_alone(finished, videos, engine, monkeypatch):
    (videos / "run/bad.mp4").write_text("not a video")
    extract_here(videos, finished)
    assert engine.decoded == ["bad.mp4"]
    extract_here(videos, finished)
    assert engine.decoded == ["bad.mp4"]
    extract_here(videos, finished, retry_rejected=True)
    assert engine.decoded == ["bad.mp4"] * 2
    assert [reject.path for reject in Store(finished).rejected] == ["run/bad.mp4"]


def test_a_rejected_video_that_was_mended_is_taken_without_being_told(finished, videos, engine):
    (videos / "run/bad.mp4").write_text("not a video")
    extract_here(videos, finished)
    shutil.copy(write_clips(videos.parent / "other", 1, first=30) / "run/30.mp4", videos / "run/bad.mp4")
    extract_here(videos, finished)
    assert Store(finished).rejected == []
    assert len(Store(finished)) == 11


def test_a_file_that_could_not_be_read_is_always_tried_again(finished, videos, engine, monkeypatch):
    """It was there when the folder was searched."""
    found = extract.find(settings_for(videos, finished))
    away = videos.parent / "away.mp4"
    (videos / "run/00.mp4").rename(away)
    monkeypatch.setattr("preprocess.extract.find", lambda _: found)
    extract_here(videos, finished)
    assert [(reject.path, reject.reason.split(":")[0]) for reject in Store(finished).rejected] == [
        ("run/00.mp4", "unreadable")
    ]
    away.rename(videos / "run/00.mp4")
    extract_here(videos, finished)
    assert engine.decoded == ["00.mp4"]
    assert Store(finished).rejected == []
    assert len(Store(finished)) == 10


@pytest.mark.parametrize("way", ["moved away", "an empty folder, as where a disk was mounted"])
def test_a_folder_of_videos_that_vanishes_stops_the_run_instead_of_rejecting_all(engine, videos, out, undisturbed, way):
    away = videos.parent / "away"

    def vanish(number: int) -> None:
        if number == 5:
            videos.rename(away)
            if way != "moved away":
                videos.mkdir()

    engine.before = vanish
    with pytest.raises(UserError, match="videos is gone: bring it back and run the same command again"):
        extract_here(videos, out)
    assert not out.exists()
    engine.before = lambda _: None
    if videos.exists():
        videos.rmdir()
    away.rename(videos)
    extract_here(videos, out)
    assert engine.decoded == ALL
    assert files(out) == files(undisturbed)


def test_a_file_that_changes_while_it_is_read_is_rejected_and_tried_again(engine, videos, out, monkeypatch):
    from preprocess import unit

    real = unit.extract_piece

    def meddled(file, *arguments, **settings):
        facts = real(file, *arguments, **settings)
        if file.endswith("00.mp4"):
            os.utime(file, (1e9, 1e9))
        return facts

    with monkeypatch.context() as patch:
        patch.setattr("preprocess.unit.extract_piece", meddled)
        extract_here(videos, out)
    (reject,) = Store(out).rejected
    assert (reject.path, reject.reason) == ("run/00.mp4", "unreadable: it changed while it was read")
    extract_here(videos, out)
    assert Store(out).rejected == []


# Many machines


def test_parts_one_after_the_other_make_the_store_of_one_machine(engine, videos, out, undisturbed, capsys):
    assert extract_here(videos, out, part="1/3") is None
    assert extract_here(videos, out, part="3/3") is None
    assert not out.exists()
    said = capsys.readouterr().out
    assert "part 1/3 is done" in said and "videos are left to others" in said
    assert len(extract_here(videos, out, part="2/3")) == 10
    assert sorted(engine.decoded) == sorted(ALL)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []
    assert [row["path"] for row in report(out)["videos"]] == [video.path for video in Store(out).videos]


def test_a_part_that_was_interrupted_goes_on_where_it_was(engine, videos, out, undisturbed):
    engine.kill_before(2)
    with pytest.raises(Killed):
        extract_here(videos, out, part="1/2")
    engine.before = lambda _: None
    assert extract_here(videos, out, part="2/2") is None
    extract_here(videos, out, part="1/2")
    assert sorted(engine.decoded) == sorted(ALL)
    assert files(out) == files(undisturbed)


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
    assert sorted(engine.decoded) == sorted(ALL)
    merge(stores, out, shard_bytes=SHARD_SIZE * 1e9)
    assert files(out) == files(undisturbed)
    extract_here(videos, out)  # the merged store is gone on with like any other
    assert sorted(engine.decoded) == sorted(ALL)


# What a run would do


@pytest.mark.parametrize("state", ["fresh", "interrupted", "finished"])
def test_a_dry_run_tells_the_plan_and_writes_nothing(engine, videos, out, undisturbed, state, tmp_path, capsys):
    if state == "finished":
        copy_store(undisturbed, out.parent)
        extract_here(videos, out)
    elif state == "interrupted":
        engine.kill_before(4)
        with pytest.raises(Killed):
            extract_here(videos, out)
        engine.before = lambda _: None
    before = snapshot(tmp_path)
    extraction = extract.plan(settings_for(videos, out, dry_run=True))
    extraction.look()
    plan.print_plan(extraction)
    said = capsys.readouterr().out
    done = {"fresh": 0, "interrupted": 4, "finished": 10}[state]
    assert f"10 videos; {done} are done" in said
    assert ("nothing to do" in said) == (state == "finished")
    if state != "finished":
        assert f"to do: {10 - done} videos" in said
        assert "in the store" in said
    assert snapshot(tmp_path) == before


# The disk


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


@pytest.mark.parametrize("kilobytes", [4, 40, 90, 150, 260, 330, 420])
def test_a_full_disk_is_one_line_and_costs_nothing(engine, videos, undisturbed, disk, kilobytes, monkeypatch, capsys):
    """Full at a video, at a shard, at the store's own file: whatever is being written."""
    out = disk(kilobytes << 10) / "out.h5"
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND)
    assert_one_line_error(result, "No space left on device", "make room", "out.h5", "the same command")
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
    assert_one_line_error(result, "No space left on device")
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
    assert_one_line_error(result, "Read-only file system", "out.h5")
    assert engine.decoded == []


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_one_line_of_the_real_command(engine, videos, out, undisturbed):
    """As a quota, and for those who may mount nothing: through the workers, too."""
    arguments = command("preprocess.extract", videos, out, *COMMAND, "--workers", 2)
    shell = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *arguments]  # KB
    result = subprocess.run(shell, env=environment(), capture_output=True, text=True, timeout=170)
    result.stderr = "\n".join(line for line in result.stderr.splitlines() if "%|" not in line)
    assert_one_line_error(result, "File too large", "the same command")
    assert not out.exists()
    extract_here(videos, out)
    assert files(out) == files(undisturbed)
