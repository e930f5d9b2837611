"""python -m tasks.summarise: what it prints and writes, and what it says to wrong input."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from tasks.events.detector import Detector, save_detector
from tasks.events.event import read_events
from tasks.events.heads import HEADS
from tasks.events.settings import HeadRecipe
from tasks.summarise import main
from tasks.summary.evidence import Evidence
from tasks.summary.learn import main as learn
from tasks.summary.settings import LearnSettings, SummariseSettings
from tasks.summary.summary import budget_of, summarise
from tests.support.videos import drift, grey, sound, tone, write_video
from tests.tasks.conftest import CPU, TINY
from train import train


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Twelve seconds of four scenes, one of them loud."""
    scenes = [drift(75, seed=1), [grey(40)] * 75, drift(75, seed=2, step=-2), [grey(200)] * 75]
    voice = np.concatenate([0.1 * tone(6.0), 2 * tone(3.0), 0.1 * tone(3.0)])
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_video(path, [picture for scene in scenes for picture in scene], track=sound(voice, codec="aac"))


def asked(run_folder, *videos, **changes) -> SummariseSettings:
    return replace(SummariseSettings(run_folder, videos, device="cpu", share="25%", piece=1.0), **changes)


def test_a_video_becomes_a_film_pictures_a_page_and_a_table_with_reasons(run_folder, long, tmp_path, capsys):
    places = {"out": tmp_path / "short.mp4", "frames": tmp_path / "pictures", "csv": tmp_path / "pieces.csv"}
    assert main(asked(run_folder, long, page=tmp_path / "short.html", json=True, **places)) == 0
    (told,) = json.loads(capsys.readouterr().out)
    pieces, kept = told["pieces"], sum(one["end"] - one["start"] for one in told["pieces"])
    assert len(pieces) >= 2 and kept <= 3 + 1e-6 and len(told["scores"]) == 12
    assert all(one["start"] <= one["moment"] < one["end"] and "louder" in one["reason"] for one in pieces)
    with av.open(str(tmp_path / "short.mp4")) as film:
        assert abs(film.duration / av.time_base - kept) < 0.1 and film.streams.audio
    table = read_events(tmp_path / "pieces.csv")
    assert [event.label for event in table] == [one["reason"] for one in pieces]
    assert len(list((tmp_path / "pictures").iterdir())) == len(pieces)
    assert pieces[0]["reason"][:20] in (tmp_path / "short.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"short.mp4", "pictures", "pieces.csv", "short.html"}


def test_a_store_and_a_folder_give_a_summary_of_each_video(run_folder, store, videos, tmp_path, capsys):
    assert main(asked(run_folder, store.path, share="50%", piece=0.3)) == 0
    assert main(asked(run_folder, videos, share="50%", piece=0.3, out=tmp_path / "films")) == 0
    said = capsys.readouterr().out
    assert all(said.count(f"{name}.mkv:") == 2 for name in ("one", "two", "both", "mute"))
    assert {path.name for path in (tmp_path / "films").iterdir()} == {
        f"{name}.mkv.mp4" for name in ("one", "two", "both", "mute")
    }


def test_a_query_shortens_to_a_stream_or_a_class():
    happens = np.zeros((60, 3))
    happens[20:26, 0], happens[40:46, 1] = 0.8, 0.9
    happens[:, 2] = 1 - happens.sum(axis=1)
    begin = np.arange(60) * 0.5
    one = Evidence(
        seconds=30.5,
        times=np.stack([begin, begin + 1], axis=1),
        features=np.random.default_rng(0).normal(size=(60, 8)),
        classes=["jump", "fall", "background"],
        answer=happens,
        loudness=None,
        shots=np.array([0.0, 10.25, 13.25, 20.25, 23.25, 30.5]),
        events=None,
    )
    for label, begin, end in (("jump", 10.25, 13.25), ("fall", 20.25, 23.25)):
        found = summarise(one, video="v", budget=4.0, piece=1.0, label=label)
        assert found.pieces and all(begin <= piece.start and piece.end <= end for piece in found.pieces)
        assert all(piece.reason.startswith(label) for piece in found.pieces)
    both = summarise(one, video="v", budget=4.0, piece=1.0)
    assert {piece.reason.split()[0] for piece in both.pieces} >= {"jump", "fall"}
    with pytest.raises(UserError, match="v is surely jump"):
        summarise(replace(one, answer=happens * [0.1, 1, 1]), video="v", budget=4.0, piece=1.0, label="jump")


def test_a_query_by_sound_looks_at_the_sound_alone(run_folder, long, capsys):
    main(asked(run_folder, long, query="audio", json=True))
    (told,) = json.loads(capsys.readouterr().out)
    scores = np.array(told["scores"])
    assert scores[6:9].min() > np.delete(scores, [5, 6, 7, 8, 9]).max()


def test_with_a_detector_its_events_matter_and_are_the_reason(model, long, tmp_path, capsys):
    recipe = HeadRecipe(hop=0.16, channels=8)
    sizes = {name: model.settings.recipe.model.feature + len(model.classes) for name in model.streams}
    head = HEADS[recipe.head](sizes, classes=1, width=8, dropout=0.0)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)  # a jump everywhere, by 50 %
    save_detector(tmp_path / "detector", Detector(model, head.eval(), ["jump"], recipe))
    assert main(asked(tmp_path / "detector", long, query="jump", json=True)) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["pieces"] and all(piece["reason"].startswith("jump 50%, an event") for piece in told["pieces"])


def test_a_run_without_classes_summarises_too(toy, long, tmp_path, capsys):
    recipe = replace(TINY, epochs=1, pretrain="contrast", clip=replace(TINY.clip, frames=4))
    run = train(TrainSettings(data=toy.path, run=tmp_path / "contrast", recipe=recipe, machine=CPU))
    capsys.readouterr()
    assert main(asked(run, long, json=True)) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["pieces"] and all(piece["reason"].startswith("more unusual") for piece in told["pieces"])


def test_importance_is_learned_from_scores_and_used(run_folder, store, tmp_path, capsys):
    rows = [
        f"{name},{k / 10},{k % 3 + (name == 'two')},{who}" for name in ("one", "two") for k in range(9) for who in "ab"
    ]
    (tmp_path / "scores.csv").write_text("video,time,score,person\n" + "\n".join(rows) + "\n")
    given = LearnSettings(run_folder, tmp_path / "scores.csv", (store.path,), tmp_path / "i.npz", folds=2, hop=0.1)
    learn(replace(given, device="cpu"))
    said = capsys.readouterr().out
    assert "the middle matters" in said and "people with each other" in said
    assert main(asked(run_folder, store.path, share="50%", piece=0.3, importance=tmp_path / "i.npz")) == 0
    with pytest.raises(UserError, match="folds"):
        learn(replace(given, folds=3, device="cpu"))


def test_shares_are_parts_or_seconds():
    assert budget_of("15%", 40) == pytest.approx(6) == budget_of("0.15", 40) == budget_of("6s", 40)
    assert budget_of("90s", 40) == 40
    for wrong in ("0", "150%", "some", "-3s", "nan", "5"):
        with pytest.raises(UserError, match="--share"):
            budget_of(wrong, 40)


def test_wrong_input_is_one_line_that_names_it(run_folder, long, store, tmp_path):
    for given, named in (
        (asked(run_folder), "no video"),
        (asked(tmp_path, long), str(tmp_path)),
        (asked(run_folder, long, query="smell"), "smell"),
        (asked(run_folder, long, share="some"), "--share"),
        (asked(run_folder, long, piece=0.0), "--piece"),
        (asked(run_folder, long, out=tmp_path / "short.avi"), r"short\.avi"),
        (asked(run_folder, long, out=long), r"long\.mp4"),
        (asked(run_folder, store.path, out=tmp_path / "short.mp4"), "--out"),
        (asked(run_folder, long.parent, long, out=tmp_path / "short.mp4"), r"long\.mp4"),
        (asked(run_folder, long, importance=long), r"long\.mp4"),
    ):
        with pytest.raises(UserError, match=named) as caught:
            main(given)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_used_does_not_stop_the_others(run_folder, long, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("no video")
    assert main(asked(run_folder, tmp_path / "bad.mp4", long)) == 1
    said = capsys.readouterr()
    assert "bad.mp4" in said.err and "long.mp4" in said.out
