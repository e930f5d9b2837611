"""train.py --pretrain: a run that reads no label."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import train as training
from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import TrainSettings
from fusion.training.step import Step
from preprocess.common.errors import UserError
from tasks.ablate import ablate
from tasks.evaluate import evaluate
from tasks.model import load
from tasks.settings import AblateSettings, EvaluateSettings
from tests.support.cases import case
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import make_store, three_bit
from tests.test_train import TINY, assert_same_run, interrupt, rows_of, settings_of
from train import train

PRETRAIN = replace(TINY, epochs=2, pretrain="contrast")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(24))


@pytest.fixture(scope="module")
def pretrained(store, tmp_path_factory):
    return train(settings_of(store, tmp_path_factory.mktemp("runs") / "pre", recipe=PRETRAIN, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["rgb,flow,audio", "rgb"])
def test_the_weights_are_the_same_bit_for_bit_whatever_the_labels(tmp_path, streams):
    """Names of files and groups are no labels."""
    given = three_bit(24)
    labels = [spec.label for spec in given]

    def run(name: str, these: list):
        specs = [replace(spec, label=label) for spec, label in zip(given, these, strict=True)]
        store = make_store(tmp_path / f"{name}.h5", specs)
        return train(settings_of(store, tmp_path / name, recipe=replace(PRETRAIN, epochs=1), streams=streams))

    expected = run("given", labels)
    for how, others in {
        "shuffled": labels[7:] + labels[:7],
        "missing": [None] * 24,
        "some missing": [label if k % 3 else None for k, label in enumerate(labels)],
        "one": ["all"] * 24,
    }.items():
        with case(how):
            assert_same_run(expected, run(how, others))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "streams"), [("contrast", "rgb,flow,audio"), ("contrast", "flow"), ("order", "audio")]
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(store, tmp_path, kind, streams):
    """The projections are in the checkpoints."""
    recipe = replace(PRETRAIN, pretrain=kind)
    settings = settings_of(store, tmp_path / "whole", save_minutes=0.0, recipe=recipe, streams=streams)
    whole = train(settings)
    for owner, method, at in ((Step, "__call__", 4), (Checkpoints, "save", 2)):
        with case(method):
            cut = replace(settings, run=tmp_path / method)
            interrupt(cut, owner, method, at=at)
            train(replace(cut, resume=True))
            assert_same_run(cut.run, whole)


def test_a_run_tells_how_often_streams_find_each_other_and_keeps_no_projection(pretrained):
    pairs = {f"val_top1_{pair}" for pair in ("rgb+flow", "rgb+audio", "flow+audio")}
    assert all(0 <= row[name] <= 1 for row in rows_of(pretrained) for name in pairs | {"val_top1", "train_top1"})
    names = {name.partition(".")[0] for name in load_file(pretrained / "last.safetensors")}
    assert names == {"encoders", "auxiliary", "head"}


def test_another_run_starts_from_its_encoders_of_any_stream(pretrained, store, tmp_path, capsys):
    start = settings_of(store, tmp_path / "on", recipe=replace(TINY, epochs=1), streams="flow", init=(str(pretrained),))
    taken = []

    def keep(step: Step, *_: object, **__: object) -> None:
        taken.append({name: value.clone() for name, value in step.model.state_dict().items()})
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Step, "__call__", keep)
        train(start)
    for name, value in load_file(pretrained / "best.safetensors").items():
        if name.startswith("encoders.flow.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(taken[0][name], value), name
    assert "left out" not in capsys.readouterr().out
    assert rows_of(train(start))[-1]["val_top1"] >= 0


@pytest.mark.parametrize("kind", ["contrast", "order"])
def test_a_stream_may_have_clips_of_its_own_in_it(store, tmp_path, kind):
    clip = replace(PRETRAIN.clip, clip_of=("rgb=7x1x40",))
    run = train(settings_of(store, tmp_path / "run", recipe=replace(PRETRAIN, pretrain=kind, clip=clip, epochs=1)))
    windows = next(iter(load(run, device="cpu").windows(store, gradients=True)))
    assert windows.inputs["rgb"].shape[2:] == (7, 40, 40) and windows.inputs["flow"].shape[2] == clip.frames


def test_it_has_features_and_no_classifier_and_says_so_in_one_line(pretrained, store, tmp_path):
    windows = next(iter(load(pretrained, device="cpu").windows(store)))
    assert windows.features["audio"].any() and windows.answer.shape[1] == 0
    for use in (
        lambda: evaluate(EvaluateSettings(run=pretrained, data=store.path, device="cpu")),
        lambda: load(pretrained, device="cpu").predict(store.path, video=store.videos[0].path),
        lambda: ablate(AblateSettings(data=store.path, out=tmp_path / "a", recipe=PRETRAIN)),
    ):
        with pytest.raises(UserError, match="no classifier") as error:
            use()
        assert "\n" not in str(error.value)


def test_what_has_no_part_in_it_is_one_line(store, tmp_path, monkeypatch, capsys):
    for given, says in (
        (("--pretrain", "jigsaw"), "contrast"),
        (("--pretrain", "contrast", "--mixup", 0.2), "--mixup"),
        (("--pretrain", "order", "--frames", 2), "--frames"),
        (("--pretrain", "order", "--clip-of", "rgb=2x1x32"), "--clip-of rgb=2x1x32"),
        (("--pretrain", "contrast", "--balance", "opm"), "--balance"),
        (("--pretrain", "contrast", "--batch", 1), "--batch"),
    ):
        with case((given, says)):
            command = ("--data", store.path, "--run", tmp_path / "run", *given)
            assert_one_line_error(run_here(monkeypatch, capsys, *command, main=training.main), says)
            assert not (tmp_path / "run").exists()


def test_streams_that_never_meet_cannot_be_compared(tmp_path):
    specs = [replace(spec, streams=(("rgb",), ("audio",))[k % 2]) for k, spec in enumerate(three_bit(16))]
    store = make_store(tmp_path / "s.h5", specs)
    with pytest.raises(UserError, match="two of rgb, audio"):
        train(TrainSettings(data=store.path, run=tmp_path / "run", streams="rgb,audio", recipe=PRETRAIN))
