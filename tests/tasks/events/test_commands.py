"""python -m tasks.events: what each of its commands writes, and what it says to wrong input."""

import json
from dataclasses import replace

import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.events.__main__ import main
from tasks.events.event import read_events
from tasks.events.settings import (
    AblateEvents,
    CutEvents,
    EvaluateEvents,
    EventsSettings,
    HeadRecipe,
    PredictEvents,
    TrainEvents,
)
from tests.support.stores import FPS, Spec, make_store
from tests.tasks.conftest import CPU, TINY

QUICK = HeadRecipe(hop=0.16, passes=2, channels=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stores of long videos, learned from and judged, and the tables of their events."""
    folder = tmp_path_factory.mktemp("events")
    rng = np.random.default_rng(0)
    for name, count in (("train", 4), ("test", 2)):
        specs, rows = [], ["video,start,end,label,kind"]
        for number in range(count):
            rgb = rng.integers(0, 40, (150, 36, 48, 3)).astype(np.uint8)
            for label, first in (("day", 30), ("night", 90)):
                rgb[first : first + 30] += np.uint8(200 if label == "day" else 90)
                rows.append(f"{name}{number},{first / FPS},{(first + 30) / FPS},{label},v")
            specs.append(Spec(f"{name}{number}.mp4", frames=150, rgb=rgb))
        make_store(folder / f"{name}.h5", specs, seed=count)
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def detector(folder, run_folder):
    main(EventsSettings(training(folder, run_folder)))
    return folder / "detector"


def training(folder, run_folder, **changes) -> TrainEvents:
    given = TrainEvents(data=folder / "train.h5", labels=folder / "train.csv", init=run_folder, out=folder / "detector")
    return replace(given, head=QUICK, machine=CPU, **changes)


def test_predict_writes_tables_subtitles_and_pictures_of_files_and_stores(detector, folder, videos, tmp_path, capsys):
    given = PredictEvents(detector, (videos / "one.mkv", folder / "test.h5"), out=tmp_path / "found", least=0.0)
    assert main(EventsSettings(replace(given, device="cpu", page=tmp_path / "pages"))) == 0
    names = {path.name for path in (tmp_path / "pages").iterdir()}
    assert names == {"one.mkv.html", "test0.mp4.html", "test1.mp4.html"}
    names = {path.name for path in (tmp_path / "found").iterdir()}
    expected = {f"{name}.{kind}" for name in ("one.mkv", "test0.mp4", "test1.mp4") for kind in ("vtt", "png")}
    assert names == {"events.csv", "events.json"} | expected
    events = read_events(tmp_path / "found" / "events.csv")
    assert {event.label for event in events} == {"day", "night"}
    assert all(0 <= event.start < event.end <= 6 and 0 <= event.score <= 1 for event in events)
    assert len(json.loads((tmp_path / "found" / "events.json").read_text())) == len(events)
    assert (tmp_path / "found" / "one.mkv.vtt").read_text().startswith("WEBVTT\n")
    assert "test0.mp4" in capsys.readouterr().out


def test_a_file_that_is_no_video_does_not_stop_the_others(detector, videos, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("no video")
    given = PredictEvents(detector, (tmp_path / "bad.mp4", videos / "one.mkv"), out=tmp_path / "found", device="cpu")
    assert main(EventsSettings(given)) == 1
    assert "bad.mp4" in capsys.readouterr().err and (tmp_path / "found" / "one.mkv.vtt").is_file()


def test_evaluate_judges_every_subset_and_tells_kinds_apart(detector, folder, tmp_path):
    given = EvaluateEvents(detector, data=folder / "test.h5", labels=folder / "test.csv", out=tmp_path, device="cpu")
    main(EventsSettings(given))
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["subsets"]) == 7
    assert all(set(one["recall"]) == {"all", "v"} and one["events"] == 4 for one in report["subsets"].values())
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "events.csv", "test0.png", "test1.png"}


@pytest.mark.slow
def test_ablate_compares_subsets_with_the_controls(folder, run_folder, tmp_path):
    tables = {"labels": folder / "train.csv", "test_data": folder / "test.h5", "test_labels": folder / "test.csv"}
    given = AblateEvents(data=folder / "train.h5", init=run_folder, out=tmp_path, head=QUICK, seeds=2, **tables)
    main(EventsSettings(replace(given, device="cpu")))
    rows = json.loads((tmp_path / "ablation.json").read_text())["scores"]
    ways = {(row["streams"], row["method"]) for row in rows}
    assert len(ways) == 7 + 6 + 4 and all(len(row["seeds"]) == 2 for row in rows)
    assert "| rgb+flow+audio | trained on these |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_without_towers_they_are_learned_from_the_parts(folder, run_folder, tmp_path):
    main(EventsSettings(training(folder, run_folder, init=None, out=tmp_path / "d", towers=TINY, streams="rgb")))
    assert {"parts.h5", "towers", "towers.safetensors", "head.safetensors"} <= {
        p.name for p in (tmp_path / "d").iterdir()
    }


def test_wrong_input_is_one_line_that_names_it(detector, folder, run_folder, tmp_path):
    table = tmp_path / "wrong.csv"
    table.write_text("video,start,end,label\ntrain0,1,3,day\ntrain0,2,4,night\n")
    new = {"out": tmp_path / "new"}
    judged = EvaluateEvents(detector, data=folder / "train.h5", device="cpu")
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("video,start,end,label\ntrain0,1,3,dawn\n")
    for given, named in (
        (training(folder, run_folder), "detector"),
        (training(folder, run_folder, labels=table, **new), "overlap"),
        (training(folder, run_folder, init=tmp_path / "none", **new), "none"),
        (training(folder, run_folder, streams="depth", **new), "depth"),
        (replace(judged, labels=unknown), "dawn"),
        (replace(judged, detector=tmp_path), str(tmp_path)),
        (PredictEvents(detector, (), out=tmp_path / "found"), "no video"),
        (PredictEvents(detector, (tmp_path / "gone.mp4",), streams="smell", device="cpu"), "smell"),
        (PredictEvents(detector, (folder / "test.h5", folder / "test.h5"), device="cpu"), "test0"),
        (PredictEvents(detector, (folder / "test.h5", folder / "train.h5"), page=tmp_path / "one.html"), "one.html"),
        (CutEvents(folder / "train.h5", folder / "train.csv", folder / "test.h5"), "test.h5"),
    ):
        if named == "overlap":
            given = replace(given, head=replace(QUICK, head="tcn"))
        with pytest.raises(UserError, match=named) as caught:
            main(EventsSettings(given))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists() and not (tmp_path / "found").exists()
