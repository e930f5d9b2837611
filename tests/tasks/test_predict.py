"""python -m tasks.predict, on real small videos."""

import io
import json
from dataclasses import replace

import pytest
import torch

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.extract import extract
from preprocess.extraction.settings import ExtractSettings
from preprocess.video.settings import PieceSettings
from streams.registry import subset_name
from tasks.model import load
from tasks.predict import main, print_prediction
from tasks.settings import PredictSettings
from tests.support.commands import assert_one_line_error, run
from tests.support.runs import run_here
from tests.support.stores import BANDS, HEIGHT
from tests.support.videos import drift, sound, tone, write_video
from tests.tasks.conftest import CPU, TINY
from train import train

SUMS = 1e-6


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A video with sound, one without, one of a single frame, half of the file of one, and a file that is none."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "whole.mp4", drift(12), track=sound(tone(0.48), codec="aac"))
    write_video(folder / "mute.mp4", drift(8, step=-1))
    write_video(folder / "still.mp4", drift(1))
    whole = write_video(folder / "cut.mp4", drift(50, size=(72, 96)), muxing={"movflags": "faststart"}).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("dear diary\n" * 50)
    return folder


@pytest.fixture(scope="module")
def model(run_folder):
    return load(run_folder, device="cpu")


def assert_ranked(shares: dict, classes) -> None:
    values = list(shares.values())
    assert sorted(shares) == sorted(classes)
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1.0, abs=SUMS)


def test_a_whole_video_is_answered_by_every_stream(model, clips):
    answer = model.predict(clips / "whole.mp4", views=2)
    assert answer.seconds == pytest.approx(0.48, abs=0.05) and answer.missing == {}
    assert list(answer.streams) == ["rgb", "flow", "audio"]
    for shares in (answer.classes, *answer.streams.values()):
        assert_ranked(shares, model.classes)


def test_without_sound_the_others_answer_and_it_says_why(model, clips, capsys):
    answer = model.predict(clips / "mute.mp4", views=2)
    assert list(answer.streams) == ["rgb", "flow"] and answer.missing == {"audio": "no audio track"}
    assert_ranked(answer.classes, model.classes)
    print_prediction(answer, top=3)
    shown = capsys.readouterr().out
    assert "audio is missing: no audio track; answered without it" in shown
    assert "rgb alone says" in shown and "audio alone says" not in shown
    assert [line.split()[0] for line in shown.splitlines()[3:6]] == list(answer.classes)[:3]


def test_a_single_picture_has_neither_motion_nor_sound(model, clips):
    answer = model.predict(clips / "still.mp4")
    assert list(answer.streams) == ["rgb"] and set(answer.missing) == {"flow", "audio"}
    assert answer.classes == answer.streams["rgb"]


@pytest.mark.slow
def test_of_a_file_that_ends_too_soon_or_is_damaged_it_is_said(run_folder, model, clips, capsys):
    answer = model.predict(clips / "cut.mp4")
    assert answer.expected == pytest.approx(2.0, abs=0.05) and 0 < answer.seconds < 1.5
    assert answer.damaged > 0
    print_prediction(answer, top=1)
    shown = capsys.readouterr().out
    assert f"truncated: {answer.seconds:.2f} s of {answer.expected:.2f} s" in shown
    assert f"passed over: {answer.damaged} damaged part" in shown
    done = run("tasks.predict", run_folder, clips / "cut.mp4", clips / "whole.mp4", "--json", "--device", "cpu")
    cut, whole = json.loads(done.stdout)
    assert (cut["expected"], cut["damaged"]) == (answer.expected, answer.damaged)
    assert (whole["expected"], whole["damaged"]) == (None, 0)
    print_prediction(model.predict(clips / "whole.mp4"), top=1)
    shown = capsys.readouterr().out
    assert "truncated" not in shown and "passed over" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_the_seconds_that_are_done_are_shown_on_a_terminal_alone(model, clips, monkeypatch, terminal):
    errors = io.StringIO()
    monkeypatch.setattr(errors, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr", errors)
    model.predict(clips / "cut.mp4", bar="cut.mp4")
    assert ("cut.mp4: " in errors.getvalue()) == ("s of video" in errors.getvalue()) == terminal
    assert terminal or not errors.getvalue()


def test_it_answers_as_the_extracted_store_would(model, clips, tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("whole.mp4", "mute.mp4"):
        (tmp_path / "videos" / name).write_bytes((clips / name).read_bytes())
    piece = PieceSettings(short_side=HEIGHT, mel_bands=BANDS)
    store = extract(ExtractSettings(tmp_path / "videos", tmp_path / "s.h5", workers=1, store=piece))
    for row, video in enumerate(store.videos):
        there = tuple(name for name in model.streams if video.streams[name])
        expected = model.answers(store, store.videos, [there], views=2).probabilities(subset_name(there))[row]
        shares = model.predict(clips / video.path, views=2).classes
        found = torch.tensor([shares[name] for name in model.classes], dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_video_with_none_of_the_runs_streams_is_an_error(toy, clips, tmp_path):
    recipe = replace(TINY, epochs=1)
    folder = train(TrainSettings(streams="audio", data=toy.path, run=tmp_path / "ears", recipe=recipe, machine=CPU))
    with pytest.raises(UserError, match=r"mute\.mp4.*no audio track"):
        load(folder, device="cpu").predict(clips / "mute.mp4")


def test_a_file_that_is_no_video_or_is_not_there_is_named(model, clips):
    with pytest.raises(UserError, match=r"text\.mp4 cannot be used: "):
        model.predict(clips / "text.mp4")
    with pytest.raises(UserError, match=r"there is no file .*gone\.mp4"):
        model.predict(clips / "gone.mp4")


def test_views_that_make_no_sense_are_an_error(model, clips):
    with pytest.raises(UserError, match="--views"):
        model.predict(clips / "mute.mp4", views=0)


def test_the_command_line_gives_json_and_goes_on_after_a_file_that_is_no_video(run_folder, clips):
    files = [clips / name for name in ("text.mp4", "mute.mp4", "whole.mp4")]
    result = run("tasks.predict", run_folder, *files, "--json", "--top", 2, "--views", 1, "--device", "cpu")
    assert result.returncode == 1  # one of the files was no video
    *answers, failed = json.loads(result.stdout)
    assert failed["video"] == str(files[0]) and "cannot be used" in failed["error"]
    assert [answer["video"] for answer in answers] == [str(file) for file in files[1:]]
    assert answers[0]["missing"] == {"audio": "no audio track"} and answers[1]["missing"] == {}
    for answer in answers:
        assert len(answer["classes"]) == 2 and 0 <= min(answer["classes"].values()) <= 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error:") and "text.mp4" in line


def test_the_command_line_answers_wrong_input_with_one_line(run_folder, clips, tmp_path, monkeypatch, capsys):
    for folder, video, says, status in (
        (tmp_path, "whole.mp4", "is no run of train.py", 2),
        (run_folder, "gone.mp4", "gone.mp4", 1),
    ):
        result = run_here(monkeypatch, capsys, folder, clips / video, main=main)
        assert_one_line_error(result, says, status=status)


def test_a_page_shows_a_video_over_time_and_several_videos_need_a_folder(run_folder, videos, tmp_path):
    given = PredictSettings(run_folder, (videos / "one.mkv",), hop=0.16, page=tmp_path / "one.html", device="cpu")
    assert main(given) == 0
    assert '"name":"' in (tmp_path / "one.html").read_text()
    assert main(replace(given, videos=(videos,), page=tmp_path / "pages")) == 0
    assert {path.stem for path in (tmp_path / "pages").iterdir()} == {path.name for path in videos.iterdir()}
    with pytest.raises(UserError, match=r"one\.html"):
        main(replace(given, videos=(videos,)))
