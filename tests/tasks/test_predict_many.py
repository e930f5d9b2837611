"""python -m tasks.predict of folders, stores, and over time."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from tasks import predict
from tasks.events.event import read_events
from tasks.model import load
from tasks.prediction import seconds_in
from tasks.spans import spans_of
from tasks.timeline import Timeline, timelines
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import Spec, make_store
from tests.tasks.conftest import CPU, TINY
from train import train

NAMES = ["both.mkv", "mute.mkv", "one.mkv", "two.mkv"]


@pytest.fixture
def ask(run_folder, monkeypatch, capsys):
    """The command line within this process."""
    return lambda *arguments, run=run_folder: run_here(
        monkeypatch, capsys, run, *arguments, "--device", "cpu", main=predict.main
    )


def test_the_seconds_of_intervals_count_once_where_they_overlap():
    assert seconds_in(np.array([[0.0, 2.0], [1.0, 3.0], [5.0, 6.0], [5.2, 5.4]])) == pytest.approx(4.0)
    times = np.random.default_rng(0).integers(0, 100, (30, 2))
    times.sort(axis=1)
    ticks = {tick for begin, end in times for tick in range(begin, end)}
    assert seconds_in(times.astype(float)) == len(ticks)


def test_spans_are_the_windows_of_one_likeliest_class():
    """Five windows of 2 s, one a second: a, a, b, b without sound, and one without any stream."""
    answer = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.0, 0.0]])
    sound = np.array([True, True, True, False, False])
    timeline = Timeline(
        video="v",
        classes=["a", "b"],
        times=np.array([(k, k + 2.0) for k in range(5)]),
        answer=answer,
        streams={"rgb": answer, "audio": np.where(sound[:, None], [[0.4, 0.6]], 0)},
        present={"rgb": answer.any(axis=1), "audio": sound},
        shares={"rgb": np.array([0.2, 0.2, 0.3, 0.2, 0.0]), "audio": np.array([0.1, -0.1, 0.1, 0.0, 0.0])},
    )
    first, second, nothing = spans_of(timeline)
    assert (first.start, first.end, first.label) == (0.0, 2.5, "a")
    assert (first.score, first.alone["audio"], first.shares["rgb"]) == pytest.approx((0.7, 0.4, 0.2))
    assert (second.start, second.end, second.label) == (2.5, 4.5, "b")
    assert (second.score, second.alone["audio"], second.shares["audio"]) == pytest.approx((0.8, 0.6, 0.05))
    assert (nothing.start, nothing.end, nothing.label, nothing.alone) == (4.5, 6.0, None, {})


def test_long_videos_of_a_folder_get_a_timeline_and_short_ones_an_answer(ask, model, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "LONG", 1.5)
    result = ask(videos, "--csv", tmp_path / "out.csv", "--json", "--views", 2)
    assert result.returncode == 0 and not result.stderr
    both, *short = found = json.loads(result.stdout)
    assert [one["video"] for one in found] == [str(videos / name) for name in NAMES]
    (timeline,) = timelines(model, videos / "both.mkv")
    assert both["windows"] == len(timeline) == 12 and both["seen"] == pytest.approx(both["seconds"]) == 1.92
    assert both["timeline"][0]["label"] == model.classes[timeline.answer[0].argmax()]
    assert (both["timeline"][0]["start"], both["timeline"][-1]["end"]) == (0.0, 1.92)
    assert all("classes" in one and one["seen"] == pytest.approx(0.32) for one in short)
    events = read_events(tmp_path / "out.csv")
    spans = [(span["start"], span["end"], span["label"]) for span in both["timeline"]]
    of_both = [event for event in events if event.video == str(videos / "both.mkv")]
    assert [(event.start, event.end, event.label) for event in of_both] == [
        (pytest.approx(start, abs=1e-3), pytest.approx(end, abs=1e-3), label) for start, end, label in spans
    ]
    assert [event.video for event in events[len(spans) :]] == [str(videos / name) for name in NAMES[1:]]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    mute = rows[len(spans)]
    assert mute["audio_alone"] == mute["audio_share"] == "" and mute["rgb_alone"]
    shares = [float(mute[f"{name}_share"]) for name in ("rgb", "flow")]
    assert sum(shares) == pytest.approx(float(mute["score"]) - 1 / len(model.classes), abs=2e-4)


def test_it_says_how_much_of_the_video_was_seen(ask, model, videos):
    shown = ask(videos / "both.mkv", "--views", 2).stdout
    assert f"2 windows of {model.seconds:.2f} s" in shown and "16.7%" in shown  # 0.32 s of 1.92 s
    shown = ask(videos / "both.mkv", "--hop", 0.32).stdout
    assert "show 1.1 s of it" in shown  # 6 windows of 0.16 s, and the last, which ends with the video
    shown = ask(videos / "mute.mkv", "--timeline").stdout
    assert "100.0%" in shown and "audio is missing: no audio track" in shown and "audio's share" not in shown


def test_a_store_is_asked_about_all_its_videos_or_one(ask, store, videos):
    found = json.loads(ask(store.path, "--json").stdout)
    assert [one["video"] for one in found] == NAMES
    (one,) = json.loads(ask(store.path, "--video", "two", "--json", "--views", 2).stdout)
    (file,) = json.loads(ask(videos / "two.mkv", "--json", "--views", 2).stdout)
    assert one["video"] == "two.mkv" and one["classes"] == pytest.approx(file["classes"], abs=1e-6)


def test_only_the_named_streams_answer_with_the_weights_that_were_chosen(ask, model, run_folder, videos):
    (one,) = json.loads(ask(videos / "one.mkv", "--streams", "audio", "--json", "--top", 99).stdout)
    assert list(one["streams"]) == ["audio"] and one["missing"] == {}
    heard = model.predict(videos / "one.mkv", streams="audio")
    assert one["classes"] == pytest.approx(heard.classes) and heard.classes == heard.streams["audio"]
    last = load(run_folder, weights="last", device="cpu").predict(videos / "one.mkv")
    (one,) = json.loads(ask(videos / "one.mkv", "--weights", "last", "--json", "--top", 99).stdout)
    assert one["classes"] == pytest.approx(last.classes)
    with pytest.raises(UserError, match="no audio track"):
        model.predict(videos / "mute.mkv", streams=["audio"])


def test_wrong_input_is_one_line_before_the_work(ask, store, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "predict", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "empty").mkdir()
    other = make_store(tmp_path / "other.h5", [Spec("a.mp4")], fps=30)
    for arguments, says in [
        ((), "no video"),
        ((tmp_path / "empty",), "empty"),
        ((videos, "--streams", "smell"), "smell"),
        ((videos, "--hop", 0), "hop"),
        ((videos, "--length", "nan"), "length"),
        ((videos, "--timeline", "--no-timeline"), "--timeline"),
        ((videos, "--no-timeline", "--hop", 1), "--hop"),
        ((videos, "--csv", tmp_path / "none" / "a.csv"), "none"),
        ((videos, "--csv", tmp_path), "--csv"),
        ((videos, "--video", "one"), "--video"),
        ((store.path, "--video", "three"), "three"),
        ((tmp_path / "none.h5",), "none.h5"),
        ((videos, "--weights", "worst"), "worst"),
        ((videos, other.path), "fps 30"),
    ]:
        assert_one_line_error(ask(*arguments), says)


def test_a_stream_or_a_store_that_the_run_does_not_know_is_refused(ask, toy, videos, tmp_path):
    recipe = replace(TINY, epochs=1)
    ears = train(TrainSettings(streams="audio", data=toy.path, run=tmp_path / "ears", recipe=recipe, machine=CPU))
    assert_one_line_error(ask(videos, "--streams", "rgb", run=ears), "rgb")
    pretext = replace(recipe, pretrain="contrast", clip=replace(recipe.clip, frames=4))
    blank = train(TrainSettings(streams="rgb,audio", data=toy.path, run=tmp_path / "b", recipe=pretext, machine=CPU))
    assert_one_line_error(ask(videos, run=blank), "classifier")
