"""train.py: one joint run."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train as training
from fusion.settings import ModelSettings
from fusion.training.checkpoint import Checkpoints
from fusion.training.run import default_run, read_settings, read_split
from fusion.training.settings import Machine, Recipe, TrainSettings
from fusion.training.step import Step
from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from streams.registry import STREAMS, subset_name, subsets
from tasks.evaluate import evaluate
from tasks.settings import EvaluateSettings
from tests.support.commands import assert_one_line_error, run
from tests.support.runs import run_here
from tests.support.stores import CEILINGS, Spec, make_store, three_bit
from train import train

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
TINY = Recipe(epochs=4, batch=8, clip=CLIP, model=ModelSettings(width=2, feature=8))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(24) + lacking)


def settings_of(
    store,
    folder: Path,
    *,
    workers: int = 0,
    keep: int = 2,
    save_minutes: float = 5.0,
    recipe: Recipe = TINY,
    **changes,
) -> TrainSettings:
    machine = Machine(workers=workers, device="cpu", keep=keep, save_minutes=save_minutes)
    return TrainSettings(data=store.path, run=folder, recipe=recipe, machine=machine, **changes)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory) -> Path:
    return train(settings_of(store, tmp_path_factory.mktemp("runs") / "undisturbed"))


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def interrupt(settings: TrainSettings, owner: object, method: str, *, at: int) -> None:
    """Train until `owner`'s `method` is called for the `at`-th time."""
    real, calls = getattr(owner, method), []

    def interrupted(*positional, **named):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(*positional, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(settings)


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        left, right = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert left.keys() == right.keys()
        for key in left:
            assert torch.equal(left[key], right[key]), f"{name}: {key}"
    measured = ("epoch", "loss", "train_top1", "objective", "lr", "val_loss", "val_top1")
    assert [[row[key] for key in measured] for row in rows_of(one)] == [
        [row[key] for key in measured] for row in rows_of(other)
    ]


def test_a_run_holds_what_is_needed_to_know_and_to_use_it(undisturbed, store):
    names = {path.name for path in undisturbed.iterdir()}
    wanted = {"settings.json", "split.json", "metrics.jsonl", "curves.png", "best.safetensors", "last.safetensors"}
    assert wanted <= names and any("tfevents" in name for name in names)
    assert not [name for name in names if name.endswith(".part")]
    mask = os.umask(0)
    os.umask(mask)
    files = [path for path in undisturbed.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
    settings, saved = read_settings(undisturbed)
    assert settings == settings_of(store, undisturbed)
    assert saved["classes"] == store.classes and saved["parameters"] == store.parameters
    assert [row["epoch"] for row in rows_of(undisturbed)] == [1, 2, 3, 4]
    split = read_split(undisturbed)
    assert sorted(split.train + split.val) == sorted(video.path for video in store.videos)


def test_the_weighted_head_trains_as_the_mean_and_is_fitted_in_all_weights_that_are_saved(store, tmp_path):
    runs = {}
    for head in ("mean", "weighted"):
        recipe = replace(TINY, epochs=2, model=replace(TINY.model, head=head))
        runs[head] = train(settings_of(store, tmp_path / head, recipe=recipe))
    mean, weighted = (rows_of(runs[head]) for head in ("mean", "weighted"))
    assert [row["loss"] for row in weighted] == [row["loss"] for row in mean]
    assert all(one["val_loss"] != other["val_loss"] for one, other in zip(weighted, mean, strict=True))
    for name in ("best", "last"):
        saved, other = (load_file(runs[head] / f"{name}.safetensors") for head in ("weighted", "mean"))
        weights, temperatures = saved["head.weights"], saved["head.temperatures"]
        assert (weights[1:].sum(dim=1) - 1).abs().max() < 1e-5 and weights[7].std() > 1e-3
        assert (temperatures > 0).all() and (temperatures[1:] != 1).all()
        assert saved.keys() == other.keys() | {"head.weights", "head.temperatures"}
    last = load_file(runs["weighted"] / "last.safetensors")
    assert all(torch.equal(last[key], value) for key, value in load_file(runs["mean"] / "last.safetensors").items())


def test_batch_norms_statistics_are_taken_anew_for_judging_and_change_nothing_that_is_learned(store, tmp_path):
    runs = [
        train(settings_of(store, tmp_path / str(clips), recipe=replace(TINY, epochs=2, norm_clips=clips)))
        for clips in (0, 6)
    ]
    plain, anew = (load_file(run / "last.safetensors") for run in runs)
    differ = {name for name, value in anew.items() if not torch.equal(value, plain[name])}
    assert differ == {name for name in anew if "running_" in name}
    losses = [[(row["loss"], row["val_loss"]) for row in rows_of(run)] for run in runs]
    assert all(one[0] == other[0] and one[1] != other[1] for one, other in zip(*losses, strict=True))


def test_the_split_column_of_the_store_decides_who_trains(tmp_path):
    specs = [replace(spec, split=("train", "train", "val", "test")[k // 8]) for k, spec in enumerate(three_bit(32))]
    store = make_store(tmp_path / "s.h5", specs)
    folder = train(settings_of(store, tmp_path / "run", recipe=replace(TINY, epochs=1)))
    split = read_split(folder)
    of = {spec.path: spec.split for spec in specs}
    assert {of[path] for path in split.train} == {"train"} and {of[path] for path in split.val} == {"val"}


def test_the_same_settings_give_the_same_run_with_any_number_of_workers(undisturbed, store, tmp_path):
    assert_same_run(undisturbed, train(settings_of(store, tmp_path / "again", workers=2)))


def test_another_seed_gives_another_run_on_the_same_split(undisturbed, store, tmp_path):
    other = train(settings_of(store, tmp_path / "other", seed=1, recipe=replace(TINY, epochs=1)))
    assert read_split(other) == read_split(undisturbed)
    assert rows_of(other)[0]["loss"] != rows_of(undisturbed)[0]["loss"]


@pytest.mark.parametrize(
    ("moment", "workers"),
    [("step", 2), *(pytest.param(when, 0, marks=pytest.mark.slow) for when in ("validate", "save"))],
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(undisturbed, store, tmp_path, workers, moment):
    settings = settings_of(store, tmp_path / "run", workers=workers, save_minutes=0.0 if moment == "step" else 5.0)
    owner, name = {"save": (Checkpoints, "save"), "step": (Step, "_update")}.get(moment, (training, moment))
    interrupt(settings, owner, name, at=8 if moment == "step" else 3)  # three steps an epoch: within the third
    torch.rand(17)  # another process would have other random numbers
    train(TrainSettings(run=settings.run, resume=True, machine=settings.machine))
    assert_same_run(undisturbed, settings.run)


def test_resuming_a_complete_run_trains_nothing(undisturbed, store, capsys):
    before = {path.name: path.read_bytes() for path in undisturbed.iterdir() if path.suffix == ".safetensors"}
    rows = rows_of(undisturbed)
    train(TrainSettings(run=undisturbed, resume=True, machine=Machine(workers=0, device="cpu")))
    assert "complete" in capsys.readouterr().out
    assert {name: (undisturbed / name).read_bytes() for name in before} == before
    assert rows_of(undisturbed) == rows


@pytest.mark.slow
def test_the_joint_model_reaches_the_ceiling_of_every_subset_and_passes_none(tmp_path):
    """A score above the ceiling would prove a leak."""
    specs = [*three_bit(192, split="train", frames=10), *three_bit(8, prefix="val", split="val", frames=10)]
    store = make_store(tmp_path / "s.h5", specs + three_bit(160, prefix="test", split="test", frames=10))
    model = ModelSettings(width=4, feature=16, dropout=0.1)
    recipe = Recipe(epochs=8, batch=16, lr=5e-3, clip=replace(CLIP, frames=2), model=model)
    folder = train(settings_of(store, tmp_path / "run", recipe=recipe))
    report = evaluate(EvaluateSettings(folder, data=store.path, views=1, device="cpu"))
    for subset in subsets(tuple(STREAMS)):
        top1 = report["subsets"][subset_name(subset)]["top1"]
        assert top1 == pytest.approx(CEILINGS[len(subset)], abs=0.1), subset


def test_without_a_name_runs_are_numbered_and_the_newest_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    streams = ("rgb", "audio")
    for expected in ("rgb+audio", "rgb+audio-2", "rgb+audio-3"):
        folder = default_run(streams, resume=False)
        assert folder == Path("runs", expected)
        folder.mkdir(parents=True)
        assert default_run(streams, resume=True) == folder


def test_the_command_line_trains_any_streams_and_takes_out_h5_of_the_folder(tmp_path):
    make_store(tmp_path / "out.h5", three_bit(24))
    small = ["--epochs", 1, "--frames", 2, "--size", 32, "--width", 2, "--feature", 4, "--audio-seconds", 0.32]
    result = run("train", "--streams", "audio,rgb", *small, "--head", "mean", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    settings, _ = read_settings(tmp_path / "runs" / "rgb+audio")
    assert (settings.recipe.model.head, settings.recipe.epochs, settings.seed) == ("mean", 1, 0)


def test_the_command_line_answers_wrong_input_with_one_line(tmp_path, store, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for options, says in (
        (["--streams", "rgb,smell", "--data", str(store.path)], ("smell", "rgb, flow, audio")),
        ([], ("out.h5",)),
    ):
        assert_one_line_error(run_here(monkeypatch, capsys, *options, main=training.main), *says)


WRONG = {  # the option → what makes no sense of it
    "--epochs": [{"epochs": 0}],
    "--batch": [{"batch": 0}],
    "--lr": [{"lr": -1.0}, {"lr": math.nan}],
    "--weight-decay": [{"weight_decay": -1.0}],
    "--auxiliary": [{"auxiliary": -0.5}],
    "--label-smoothing": [{"label_smoothing": 1.5}],
    "--mixup": [{"mixup": -0.2}],
    "--cutmix": [{"cutmix": math.inf}],
    "--average": [{"average": 1.0}],
    "--split-seed": [{"split_seed": -1}],
    "--stream-dropout": [{"stream_dropout": 1.0}],
    "--norm-clips": [{"norm_clips": -1}],
    "--accumulate": [{"accumulate": 0}],
}
WRONG_OF_THE_MODEL = {"tail": {"head": "tail"}, "rgb=vgg": {"towers": ("rgb=vgg",)}, "--dropout": {"dropout": -0.1}}
WRONG_OF_THE_MODEL |= {"--width": {"width": 0}, "--feature": {"feature": 0}}
WRONG_OF_THE_CLIP = {
    "--size": {"size": 16},
    "--stride": {"stride": 0},
    "--segments": {"segments": 0},
    "--least-crop": {"least_crop": 0.0},
}
WRONG_OF_THE_CLIP |= {"--spec-mask": {"spec_mask": 1.0}, "--spec-tilt": {"spec_tilt": -1.0}}
WRONG_OF_THE_CLIP |= {"--spec-noise": {"spec_noise": math.inf}, "--recolour": {"recolour": 1.0}}


def test_a_setting_that_makes_no_sense_is_named(store, tmp_path):
    wrong = [(name, replace(TINY, **changes)) for name, each in WRONG.items() for changes in each]
    wrong += [(name, replace(TINY, model=replace(TINY.model, **one))) for name, one in WRONG_OF_THE_MODEL.items()]
    wrong += [(name, replace(TINY, clip=replace(CLIP, **one))) for name, one in WRONG_OF_THE_CLIP.items()]
    for name, recipe in wrong:
        with pytest.raises(UserError, match=name):
            train(settings_of(store, tmp_path / "run", recipe=recipe))
    for name, changes in (
        ("--seed", {"seed": -1}),
        ("--seed", {"seed": 2**31}),
        ("--workers", {"workers": -1}),
        ("--keep", {"keep": 0}),
        ("--save-minutes", {"save_minutes": -1.0}),
        ("--save-minutes", {"save_minutes": math.nan}),
    ):
        with pytest.raises(UserError, match=name):
            train(settings_of(store, tmp_path / "run", **changes))
    with pytest.raises(UserError, match="tpu9"):
        train(replace(settings_of(store, tmp_path / "run"), machine=Machine(device="tpu9")))
    assert not (tmp_path / "run").exists()


def test_a_store_without_a_stream_is_an_error_that_says_what_to_train_on(tmp_path):
    store = make_store(tmp_path / "s.h5", three_bit(24, streams=("rgb", "flow")))
    with pytest.raises(UserError, match=r"audio.*--streams rgb,flow"):
        train(settings_of(store, tmp_path / "run"))
    train(settings_of(store, tmp_path / "run", streams="rgb,flow", recipe=replace(TINY, epochs=1)))


def test_a_store_of_one_class_or_without_labels_cannot_be_trained_on(tmp_path):
    for label, says in (("a", r"class.* a\b"), (None, "--labels")):
        store = make_store(tmp_path / f"{label}.h5", [Spec(f"{k}.mp4", label=label) for k in range(9)])
        with pytest.raises(UserError, match=says):
            train(settings_of(store, tmp_path / "run"))


def test_a_run_that_is_there_is_not_overwritten(undisturbed, store):
    before = (undisturbed / "best.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"undisturbed.*--resume"):
        train(settings_of(store, undisturbed))
    assert (undisturbed / "best.safetensors").read_bytes() == before


def resume(folder: Path, data: Path) -> None:
    train(TrainSettings(run=folder, resume=True, data=data, machine=Machine(workers=0, device="cpu")))


def test_a_run_is_not_resumed_on_another_store(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    renamed = [replace(spec, label="c" + spec.label) for spec in three_bit(24)]
    lacking = [Spec("x/1.mp4", label="c000"), Spec("x/2.mp4", label="c001")]
    other = make_store(tmp_path / "renamed.h5", renamed + lacking)
    with pytest.raises(UserError, match="classes"):
        resume(folder, other.path)
    with pytest.raises(UserError, match=r"fewer\.h5"):
        resume(folder, make_store(tmp_path / "fewer.h5", three_bit(16)).path)


@pytest.mark.parametrize(
    ("name", "damage"), [("settings.json", "{"), ("settings.json", None), ("split.json", "[]"), ("checkpoints", None)]
)
def test_a_damaged_run_is_named_when_it_is_resumed(undisturbed, store, tmp_path, name, damage):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    for file in [folder / name] if name.endswith(".json") else [*(folder / name).iterdir()]:
        file.unlink()
        if damage:
            file.write_text(damage)
    with pytest.raises((UserError, FileNotFoundError)) as caught:  # the command line makes one line of either
        resume(folder, store.path)
    assert str(tmp_path / "run") in str(caught.value) and "\n" not in str(caught.value)


def test_validating_now_and_then_changes_nothing_but_when_weights_are_saved(store, tmp_path, undisturbed):
    rare = train(settings_of(store, tmp_path / "rare", recipe=replace(TINY, val_every=3)))
    assert [row["epoch"] for row in rows_of(rare) if "val_top1" in row] == [3, 4]
    ours, theirs = (load_file(folder / "last.safetensors") for folder in (rare, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
