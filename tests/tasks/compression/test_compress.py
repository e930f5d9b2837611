"""Smaller models, which have to be taken as a run is, and to answer nearly as it does."""

import json
from dataclasses import replace
from shutil import copytree

import pytest
import torch

import tristream
from fusion.training.settings import Machine
from preprocess.common.errors import UserError
from streams.registry import subset_name, subsets
from tasks.compress import main
from tasks.compression.clips import training_feeds
from tasks.compression.compress import compress
from tasks.compression.quantise import quantise
from tasks.compression.settings import CompressSettings
from tasks.compression.table import log_loss
from tasks.evaluate import evaluate
from tasks.exported.write import write_parts
from tasks.run import load_run
from tasks.settings import EvaluateSettings

CPU = Machine(workers=0, device="cpu")


def settings(run_folder, out, method, **more):
    return CompressSettings(run_folder, out, method=method, turns=2, views=2, weights="last", machine=CPU, **more)


@pytest.fixture(scope="module")
def exported(run_folder, tmp_path_factory):
    pytest.importorskip("onnxscript", reason="needs the 'onnx' extra")
    folder = tmp_path_factory.mktemp("exported") / "float"
    write_parts(last(run_folder), folder)
    return folder


@pytest.mark.slow
def test_int8_files_are_smaller_and_answer_every_subset_nearly_as_the_run(
    model, run_folder, exported, videos, tmp_path, monkeypatch
):
    monkeypatch.setattr("tasks.compression.compress.write_parts", lambda _, out: copytree(exported, out))  # once
    out = tmp_path / "out"
    before, plain, small = compress(settings(run_folder, out, "quantise", clips=16, limit=10.0))
    assert [one.name for one in (before, plain, small)] == ["before", "exported", "int8"]
    assert small.megabytes < plain.megabytes and small.milliseconds.keys() == before.milliseconds.keys()
    assert small.top1.keys() == before.top1.keys() == {subset_name(one) for one in subsets(model.streams)}
    parts = json.loads((out / "compressed.json").read_text())["parts"]
    assert all(parts[name]["int8"] and parts[name]["convolutions"] for name in model.streams)
    ours, theirs = last(run_folder), tristream.load(out)
    (whole,), (found,) = (list(one.windows(videos / "mute.mkv", hop=0.2)) for one in (ours, theirs))
    assert not found.present["audio"].any() and found.present["rgb"].all()
    for subset in subsets(("rgb", "flow")):
        expected, answer = ours.fuse(whole, subset).answer, theirs.fuse(found, subset).answer
        assert torch.allclose(answer, expected, atol=0.02) and not torch.equal(answer, expected)
    assert theirs.predict(videos / "one.mkv", views=2).classes.keys() == set(model.classes)


@pytest.mark.slow
def test_a_stream_above_the_limit_stays_float(run_folder, exported, toy, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")
    feeds = training_feeds(load_run(run_folder, device="cpu"), toy, count=16, seed=0)
    found = quantise(exported, tmp_path / "out", feeds, limit=0.0)
    assert not any(one.int8 or one.convolutions for one in found.values()) and all(one.error for one in found.values())
    for name, (feed, *_) in feeds.items():
        ours, theirs = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx")).run(["tower"], feed)[0]
            for folder in (exported, tmp_path / "out")
        )
        assert abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("method", ["prune", "distil"])
def test_what_was_pruned_or_distilled_is_a_run_of_half_the_width(method, run_folder, toy, tmp_path):
    out = tmp_path / "half"
    before, after = compress(settings(run_folder, out, method, epochs=1))
    small = tristream.load(out, device="cpu")
    assert small.settings.recipe.model.width == 1 and small.classes == tristream.load(run_folder).classes
    assert after.megabytes < before.megabytes and set(after.milliseconds) == set(before.milliseconds) != set()
    report = evaluate(EvaluateSettings(out, data=toy.path, views=2, weights="last", device="cpu"))
    assert report["subsets"].keys() == after.top1.keys()
    assert report["subsets"]["rgb+flow+audio"]["top1"] == after.top1["rgb+flow+audio"]
    assert json.loads((out / "settings.json").read_text())["teacher"]["path"].startswith(str(run_folder))
    assert (out / "start.safetensors").exists() == (method == "prune")
    assert "| before |" in (out / "compressed.md").read_text()


def test_the_log_loss_is_that_of_the_answered_alone():
    answers = torch.tensor([[0.25, 0.75], [0.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    found = log_loss(answers, torch.tensor([1, 0, 0]), torch.tensor([True, False, True]))
    assert found == pytest.approx(-(torch.tensor(0.75).log() + torch.tensor(0.5).log()).item() / 2)


def test_wrong_input_is_said_before_anything_is_done_and_leaves_nothing(run_folder, tmp_path):
    with pytest.raises(UserError, match="none is no run"):
        main(settings(tmp_path / "none", tmp_path / "new", "quantise"))
    for wrong, named in (
        ({"channels": 1.5}, "--channels"),
        ({"method": "shrink"}, "shrink"),
        ({"channels": 0.9}, "--channels 0.9"),
    ):
        with pytest.raises(UserError, match=named):
            main(replace(settings(run_folder, tmp_path / "new", "prune"), **wrong))
    with pytest.raises(UserError, match="is there already"):
        main(settings(run_folder, tmp_path, "prune"))
    with pytest.raises(UserError, match="--lr"):  # from train.py, when the pruned model has been written
        main(settings(run_folder, tmp_path / "new" / "half", "prune", lr=0.0))
    assert not (tmp_path / "new").exists()


def last(run_folder):
    return tristream.load(run_folder, weights="last", device="cpu")
