"""python -m tasks.evaluate"""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from streams.registry import STREAMS, subset_name, subsets
from tasks.evaluate import FILES, evaluate, main, print_report
from tasks.run import load_run
from tasks.settings import EvaluateSettings
from tests.support.cases import case
from tests.support.commands import assert_one_line_error, run
from tests.support.runs import run_here
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY
from train import train

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = [subset_name(subset) for subset in subsets(tuple(STREAMS))]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Sixteen new videos; half have no sound, a quarter no flow."""
    specs = three_bit(16, prefix="new", frames=10)
    specs = [replace(spec, streams=spec.streams[: (3, 2, 3, 1)[k % 4]]) for k, spec in enumerate(specs)]
    return make_store(tmp_path_factory.mktemp("unseen") / "unseen.h5", specs, seed=7)


@pytest.fixture(scope="module")
def report(run_folder, unseen, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return evaluate(EvaluateSettings(run_folder, data=unseen.path, out=out, views=2, device="cpu"))


def rates(value) -> list[float]:
    keys = ("top1", "top5", "macro_f1", "top1_answered", "calibration_error")
    return [result[key] for result in value["subsets"].values() for key in keys] + [
        one["top1"] for result in value["subsets"].values() for one in result["per_class"].values()
    ]


def test_the_report_has_every_subset_and_rates_between_zero_and_one(report):
    json_file, *_, figure = report["files"]
    assert [Path(file).name for file in report["files"]] == list(FILES)
    with open(json_file) as file:
        written = json.load(file)
    assert list(written["subsets"]) == NAMES
    assert written["subsets"]["rgb+flow+audio"]["top1"] == report["subsets"]["rgb+flow+audio"]["top1"]
    assert all(0 <= rate <= 1 for rate in rates(written))
    assert written["videos"] == 16 and written["views"] == 2 and written["classes"] == sorted(written["classes"])
    with open(figure, "rb") as file:
        assert file.read(8) == PNG


def test_every_videos_probabilities_are_written_for_every_subset(report, unseen):
    with open(report["files"][1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "streams", "answer", *report["classes"]]
    assert len(rows) == 7 * 16 and [row["path"] for row in rows[:16]] == [video.path for video in unseen.videos]
    for name in NAMES:
        mine = [row for row in rows if row["streams"] == name]
        answered = [row for row in mine if row["answer"]]
        assert len(answered) == report["subsets"][name]["answered"]
        right = sum(row["answer"] == row["label"] for row in answered)
        assert right / 16 == pytest.approx(report["subsets"][name]["top1"])
        for row in mine:
            shares = {one: float(row[one]) for one in report["classes"] if row[one]}
            assert bool(shares) == bool(row["answer"])
            if shares:
                assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
                assert shares[row["answer"]] == max(shares.values())


def test_the_confusion_matrix_is_written_with_the_names_of_the_classes(report):
    with open(report["files"][2], newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["truth", *report["classes"]] and [row[0] for row in rows] == report["classes"]
    whole = report["subsets"]["rgb+flow+audio"]
    assert sum(int(count) for row in rows for count in row[1:]) == whole["answered"]
    right = sum(int(row[1 + place]) for place, row in enumerate(rows))
    assert right / whole["videos"] == pytest.approx(whole["top1"])


def test_a_subset_answers_the_videos_that_have_one_of_its_streams(report, unseen):
    for subset in subsets(tuple(STREAMS)):
        expected = sum(any(video.streams[name] for name in subset) for video in unseen.videos)
        result = report["subsets"][subset_name(subset)]
        assert result["answered"] == expected and result["videos"] == 16
        assert result["top1"] == pytest.approx(result["top1_answered"] * expected / 16)


def test_top1_is_what_the_answers_give_counted_one_by_one(report, run_folder, unseen):
    loaded = load_run(run_folder, device="cpu")
    answers = loaded.model.answers(unseen, unseen.videos, subsets(tuple(STREAMS)), views=2, batch=3)
    for name in NAMES:
        right = [
            bool(given) and loaded.model.classes[int(shares.argmax())] == video.label
            for video, shares, given in zip(
                unseen.videos, answers.probabilities(name), answers.answered(name), strict=True
            )
        ]
        assert report["subsets"][name]["top1"] == pytest.approx(sum(right) / 16)


def test_the_answers_do_not_depend_on_how_clips_are_batched_and_read(run_folder, unseen):
    loaded = load_run(run_folder, device="cpu")
    whole = loaded.model.answers(unseen, unseen.videos, [("rgb", "audio")], views=2, batch=32)
    by_workers = loaded.model.answers(unseen, unseen.videos, [("rgb", "audio")], views=2, batch=5)
    torch.testing.assert_close(
        whole.probabilities("rgb+audio"), by_workers.probabilities("rgb+audio"), atol=1e-6, rtol=1e-4
    )


def test_on_its_own_store_a_run_is_judged_on_its_validation_videos_alone(run_folder, toy, tmp_path, capsys):
    loaded = load_run(run_folder, device="cpu")
    settings = EvaluateSettings(run_folder, data=toy.path, out=tmp_path, views=1, device="cpu")
    result = evaluate(settings)
    assert result["videos"] == len(loaded.split.val)
    assert "left out" in result["which"]
    assert result["chosen_on"] == len(loaded.split.val)
    print_report(result)
    assert "warning: the best weights were chosen on these videos" in capsys.readouterr().out
    last = evaluate(replace(settings, weights="last"))
    print_report(last)
    assert last["chosen_on"] == 0 and "best weights" not in capsys.readouterr().out


def test_each_store_split_and_choice_of_weights_has_its_own_folder_in_the_runs(run_folder, toy, unseen, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    moved = shutil.copy(unseen.path, tmp_path / toy.path.name)  # another store of the same name
    asked = EvaluateSettings(folder, data=toy.path, views=1, device="cpu")
    others = [{"data": moved}, {"split": "val"}, {"weights": "last"}, {"streams": "rgb"}, {"views": 2}]
    written = [evaluate(replace(asked, **other))["files"] for other in ({}, *others)]
    assert len({file for files in written for file in files}) == 6 * len(FILES)
    assert all(Path(file).is_file() and Path(file).is_relative_to(folder) for files in written for file in files)
    assert evaluate(asked)["files"] == written[0]


def test_the_table_names_every_subset_and_the_files(report, capsys):
    print_report(report)
    shown = capsys.readouterr().out
    assert all(f"  {name}  " in shown for name in NAMES)
    assert all(file in shown for file in report["files"])
    assert "gets no answer and counts as wrong" in shown


def test_the_audit_is_in_the_report_and_on_the_screen(report, capsys):
    assert report["audit"].videos["judged"] == report["audit"].judged == 16
    print_report(report)
    shown = capsys.readouterr().out
    assert "identical files on both sides" in shown and "presence alone" in shown


def test_without_the_store_that_was_trained_on_there_is_a_note_instead_of_an_audit(toy, unseen, tmp_path, capsys):
    moved = shutil.copy(toy.path, tmp_path / "toy.h5")
    recipe = replace(TINY, epochs=1)
    folder = train(TrainSettings(streams="audio", data=moved, run=tmp_path / "run", recipe=recipe, machine=CPU))
    moved.unlink()
    report = evaluate(EvaluateSettings(folder, data=unseen.path, out=tmp_path, views=1, device="cpu"))
    print_report(report)
    shown = capsys.readouterr().out
    assert report["audit"] is None and "note: the split is not audited: there is no store" in shown


def test_only_the_streams_asked_for_are_judged(run_folder, unseen, tmp_path):
    settings = EvaluateSettings(run_folder, data=unseen.path, out=tmp_path, streams="audio,rgb", views=1, device="cpu")
    assert list(evaluate(settings)["subsets"]) == ["rgb", "audio", "rgb+audio"]


def test_a_stream_that_the_store_lacks_is_named(run_folder, tmp_path):
    store = make_store(tmp_path / "mute.h5", three_bit(8, prefix="mute", streams=("rgb", "flow")))
    with pytest.raises(UserError, match=r"no video of .*mute\.h5 to judge has audio.*--streams rgb,flow"):
        evaluate(EvaluateSettings(run_folder, data=store.path, out=tmp_path, device="cpu"))
    settings = EvaluateSettings(run_folder, data=store.path, out=tmp_path, streams="rgb,flow", views=1, device="cpu")
    assert list(evaluate(settings)["subsets"]) == ["rgb", "flow", "rgb+flow"]


def test_a_stream_that_the_run_lacks_is_named(toy, tmp_path):
    folder = train(
        TrainSettings(streams="audio", data=toy.path, run=tmp_path / "run", recipe=replace(TINY, epochs=1), machine=CPU)
    )
    with pytest.raises(UserError, match="not trained on rgb: its streams are audio"):
        evaluate(EvaluateSettings(folder, data=toy.path, streams="rgb,audio", device="cpu"))


def test_a_setting_that_makes_no_sense_is_an_error(run_folder, unseen, tmp_path):
    for wrong in ({"views": 0}, {"batch": 0}, {"split": "all"}, {"weights": "worst"}, {"streams": "x"}):
        with case(wrong):
            with pytest.raises(UserError):
                evaluate(EvaluateSettings(run_folder, data=unseen.path, out=tmp_path, device="cpu", **wrong))
            assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing_behind_and_a_place_that_cannot_be_written_is_named_first(
    run_folder, unseen, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError

    asked = EvaluateSettings(run_folder, data=unseen.path, out=tmp_path / "new" / "out", views=1, device="cpu")
    for name in ("score", "plot_confusion"):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            patch.setattr(f"tasks.evaluate.{name}", fail)
            evaluate(asked)
        assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tasks.model.Model.answers", fail)
    with pytest.raises(UserError, match=r"file is no folder.*--out"):
        evaluate(replace(asked, out=tmp_path / "file" / "out"))


@pytest.mark.slow
def test_the_command_line_prints_the_table(run_folder, unseen, tmp_path):
    result = run("tasks.evaluate", run_folder, "--data", unseen.path, "--out", tmp_path, "--views", 1)
    assert result.returncode == 0, result.stderr
    assert "rgb+flow+audio" in result.stdout and (tmp_path / "report.json").exists()


def test_the_command_line_answers_wrong_input_with_one_line(run_folder, unseen, tmp_path, monkeypatch, capsys):
    other = make_store(tmp_path / "other.h5", [replace(spec, label="dance") for spec in three_bit(4)])
    for folder, store, says in (
        (run_folder, other, ("dance", "other.h5")),
        (tmp_path, unseen, ("is no run of train.py",)),
    ):
        assert_one_line_error(run_here(monkeypatch, capsys, folder, "--data", store.path, main=main), *says)
