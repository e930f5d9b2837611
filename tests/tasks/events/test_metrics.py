"""Figures of found events, against the published ones and the scorer of others."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.events.event import Event, read_events, write_events
from tasks.events.lead import judged, lead, resampled
from tasks.events.metrics import average_precision, score_events
from tests.support.data import SHARED

EVENTS = SHARED / "tasks" / "events"
DEV = EVENTS / "dev" / "events.csv"


@pytest.mark.slow
@pytest.mark.skipif(not EVENTS.is_dir(), reason="needs the shared data")
def test_average_precision_gives_the_published_figures_of_qvhighlights():
    """The mean over queries, each a class of its own (Lei et al. 2021)."""

    def rows(name: str) -> dict[int, dict]:
        lines = (EVENTS / "qvhighlights" / name).read_text().splitlines()
        return {row["qid"]: row for row in map(json.loads, lines)}

    truth, found = rows("val.jsonl"), rows("sample_predictions.jsonl")
    values = [
        average_precision(
            [Event("", *span, "moment") for span in truth[query]["relevant_windows"]],
            [Event("", *span, "moment", score) for *span, score in found[query]["pred_relevant_windows"]],
            np.linspace(0.5, 0.95, 10),
        )
        for query in truth
    ]
    means = 100 * np.mean(values, axis=0)
    assert (round(means[0], 2), round(means[5], 2), round(means.mean(), 2)) == (54.96, 31.01, 32.20)


@pytest.mark.skipif(not EVENTS.is_dir(), reason="needs the shared data")
def test_all_figures_agree_with_the_scorer(tmp_path):
    truth, rng = read_events(DEV), np.random.default_rng(0)
    found = []
    for event in truth:
        for _ in range(4):
            start, end = max(0, event.start + rng.normal(0, 2)), event.end + 1 + rng.normal(0, 2)
            label = event.label if rng.random() < 0.6 else truth[rng.integers(len(truth))].label
            if round(end, 3) > round(start, 3):
                score = round(rng.random(), 4)
                found.append(Event(event.video, round(start, 3), round(end, 3), label, score))
    write_events(tmp_path / "found.csv", found)
    command = [sys.executable, EVENTS / "score_events.py", tmp_path / "found.csv", "--gt", DEV]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    ours = score_events(truth, found)
    assert ours["mean_map"] == pytest.approx(theirs["mAP_0.3_0.7"], abs=1e-4)
    for threshold, value in theirs["mAP"].items():
        assert ours["map"][threshold] == pytest.approx(value, abs=1e-4)
    assert ours["class_agnostic_ap"] == pytest.approx(np.mean(list(theirs["class_agnostic_AP"].values())), abs=1e-4)
    for name in ("f1", "segment_f1"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-4)
    assert ours["boundary_error"] == pytest.approx(theirs["boundary_error_s"], abs=1e-3)


def test_a_second_event_on_the_same_true_one_is_wrong():
    truth = [Event("a", 0, 10, "x"), Event("a", 20, 30, "x")]
    found = [Event("a", 0, 10, "x", 0.9), Event("a", 0, 9, "x", 0.8), Event("a", 21, 30, "x", 0.7)]
    assert average_precision(truth, found, [0.5])[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_events_survive_csv_and_subtitles_are_escaped(tmp_path):
    events = [Event("a b,c", 3725.25, 3726.5, '<b>"kiss" & tell\nnow</b>', 0.25), Event("a", 0.0, 1.0, "x")]
    for name in ("e.csv", "e.json", "e.vtt"):
        write_events(tmp_path / name, events)
    assert read_events(tmp_path / "e.csv") == events
    assert [Event(**one) for one in json.loads((tmp_path / "e.json").read_text())] == events
    assert Path(tmp_path / "e.vtt").read_text().split("\n\n")[2] == (
        '01:02:05.250 --> 01:02:06.500\n&lt;b&gt;"kiss" &amp; tell now&lt;/b&gt; 25%\n'
    )


def test_the_lead_over_another_detector_has_an_interval_over_videos():
    truth = [Event(video, start, start + 5, "x") for video in "abcd" for start in (0, 20)]
    half = [replace(event, score=0.9) for event in truth if event.video in "ab"]
    ours, theirs, none = (resampled([judged(truth, found)] * 2) for found in (truth, half, []))
    assert ours[0] == 1 and none.max() == 0
    assert theirs[0] == pytest.approx(average_precision(truth, half, [0.5])[0])
    ahead = lead(ours, theirs, videos=4)
    assert ahead.mean == pytest.approx(0.5) and 0 <= ahead.low < 0.5 < ahead.high <= 1
    assert lead(ours, ours, videos=4).high == 0 and lead(ours, theirs, videos=1).low is None
