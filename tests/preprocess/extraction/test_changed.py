"""Folders and settings that have changed since: only what is missing is done, unless all is to be done again."""

import json
import os
import shutil
from pathlib import Path

import pytest

from preprocess import extract
from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.format import VERSION, shard_folder
from preprocess.video.limits import Limits
from preprocess.video.settings import PieceSettings
from tests.support.commands import assert_one_line_error
from tests.support.runs import (
    COMMAND,
    TEN,
    Killed,
    extract_here,
    files,
    interrupt,
    leftovers,
    run_here,
    settings_for,
    snapshot,
    streams,
    write_clips,
)


def test_where_nothing_is_to_do_nothing_is_written_but_the_report(finished, videos, engine):
    before = snapshot(finished.parent)
    extract_here(videos, finished)
    after = snapshot(finished.parent)
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {"out.report.json"}
    assert engine.decoded == []


def test_an_added_video_is_done_alone_and_the_shards_stay(finished, videos, engine):
    before = streams(finished)
    shards = snapshot(shard_folder(finished))
    write_clips(videos, 1, first=10)
    extract_here(videos, finished)
    assert engine.decoded == ["10.mp4"]
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


def test_other_patterns_of_a_split_cost_no_decoding(finished, videos, engine, out, monkeypatch, capsys):
    def split() -> dict[str, str | None]:
        return {video.path: video.split for video in Store(finished).videos}

    before, shards = streams(finished), snapshot(shard_folder(finished))
    assert set(split().values()) == {None}
    for val, test in ((("jump/0[13].mp4",), ("run/*",)), ((), ("jump/*",)), ((), ())):
        patterns = [*(["--val", *val] if val else []), *(["--test", *test] if test else [])]
        result = run_here(monkeypatch, capsys, videos, out, *COMMAND, "--workers", 1, *patterns)
        assert result.returncode == 0, result.stderr
        held = {path: "train" if val or test else None for path in before}
        held |= {path: "test" for path in before if test and path.startswith(test[0][:-1])}
        held |= {path: "val" for path in before if val and path in ("jump/01.mp4", "jump/03.mp4")}
        assert split() == held
        assert engine.decoded == []
    assert streams(finished) == before and snapshot(shard_folder(finished)) == shards
    result = run_here(monkeypatch, capsys, videos, out, *COMMAND, "--test", "walk/*")
    assert_one_line_error(result, "--test", "walk/*")
    assert set(split().values()) == {None}


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
        patch.setattr("preprocess.store.writer.write_index", lambda *_, **__: (_ for _ in ()).throw(Killed()))
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
    assert str(shard) in next(iter(check(finished)))
    extract_here(videos, finished)
    assert set(engine.decoded) == lost
    assert list(check(finished)) == []
    assert files(finished) == before


def test_a_store_that_was_removed_is_made_again_of_its_shards(finished, videos, engine):
    before = files(finished)
    in_shards = {Path(video.path).name for video in Store(finished).videos if video.shard >= 0}
    finished.unlink()
    extract_here(videos, finished)
    assert set(engine.decoded) == set(TEN) - in_shards
    assert files(finished) == before


def test_overwriting_starts_over_and_goes_on_after_an_interruption(finished, videos, engine):
    before = files(finished)
    engine.kill_before(6)
    with pytest.raises(Killed):
        extract_here(videos, finished, overwrite=True)
    assert engine.decoded == TEN[:6]
    assert len(Store(finished)) == 10  # until then the old one is there
    assert list(check(finished)) == []
    engine.before = lambda _: None
    extract_here(videos, finished, overwrite=True)
    assert engine.decoded == TEN
    assert files(finished) == before


def test_overwriting_with_other_settings_replaces_the_store_and_its_shards(finished, videos, engine):
    old = set(shard_folder(finished).iterdir())
    extract_here(videos, finished, overwrite=True, store=PieceSettings(short_side=48))
    assert engine.decoded == TEN
    assert Store(finished).parameters["short_side"] == 48
    assert not old & set(shard_folder(finished).iterdir())
    assert list(check(finished)) == []


OTHERS = [
    (PieceSettings(short_side=48), "short_side.* 38.* 48"),
    (PieceSettings(short_side=38, limits=Limits(max_seconds=5.0)), r"max_seconds 43200.* 5\.0"),
    (PieceSettings(short_side=38, flow_preset="quality"), "preset default.* quality"),
]


@pytest.mark.parametrize(("settings", "says"), OTHERS, ids=["side", "limits", "flow"])
def test_a_store_of_other_settings_is_refused_and_the_difference_is_shown(finished, videos, settings, says):
    before = snapshot(finished.parent)
    with pytest.raises(UserError, match=f"{says}.*--overwrite"):
        extract_here(videos, finished, store=settings)
    assert snapshot(finished.parent) == before


def test_an_interrupted_run_of_other_settings_is_refused_and_put_away_by_overwriting(engine, videos, out):
    interrupt(engine, 3, videos, out)
    before = snapshot(out.parent)
    other = PieceSettings(short_side=48)
    with pytest.raises(UserError, match=r"out\.h5.*short_side 38.* 48"):
        extract_here(videos, out, store=other)
    assert snapshot(out.parent) == before
    extract_here(videos, out, store=other, overwrite=True)
    assert engine.decoded == TEN[:3] + TEN
    assert Store(out).parameters["short_side"] == 48
    assert leftovers(out) == []


def test_an_interrupted_run_of_another_release_is_refused_and_put_away_by_overwriting(engine, videos, out, undisturbed):
    interrupt(engine, 3, videos, out)
    job = out.with_name("out.h5.partial") / "job.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"version": VERSION - 1}))
    before = snapshot(out.parent)
    with pytest.raises(UserError, match=r"out\.h5"):
        extract_here(videos, out)
    assert snapshot(out.parent) == before
    extract_here(videos, out, overwrite=True)
    assert files(out) == files(undisturbed)
    assert leftovers(out) == []


def test_what_is_there_and_is_no_store_is_never_gone_on_with(videos, out, engine):
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"out\.h5.*--overwrite"):
        extract_here(videos, out)
    assert out.read_bytes() == b"precious"
    assert leftovers(out) == []
    extract_here(videos, out, overwrite=True)
    assert len(Store(out)) == 10


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
    with pytest.raises(UserError, match="videos"):
        extract_here(videos, out)
    assert not out.exists()
    engine.before = lambda _: None
    if videos.exists():
        videos.rmdir()
    away.rename(videos)
    extract_here(videos, out)
    assert engine.decoded == TEN
    assert files(out) == files(undisturbed)


def test_a_file_that_changes_while_it_is_read_is_rejected_and_tried_again(engine, videos, out, monkeypatch):
    from preprocess.extraction import task

    real = task.extract_piece

    def meddled(file, *arguments, **settings):
        facts = real(file, *arguments, **settings)
        if file.endswith("00.mp4"):
            os.utime(file, (1e9, 1e9))
        return facts

    with monkeypatch.context() as patch:
        patch.setattr("preprocess.extraction.task.extract_piece", meddled)
        extract_here(videos, out)
    (reject,) = Store(out).rejected
    assert (reject.path, reject.reason.split(":")[0]) == ("run/00.mp4", "unreadable")
    extract_here(videos, out)
    assert Store(out).rejected == []
