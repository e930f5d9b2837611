"""train.py --teacher: a run that learns from another's answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train as training
from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from fusion.training.step import Step
from fusion.training.teacher import load_teacher
from fusion.training.transfer import sha256_of
from preprocess.common.errors import UserError
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.registry import STREAMS
from tasks.run import load_run
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import Spec, make_store, three_bit
from tests.test_train import assert_same_run, interrupt, rows_of
from train import train

CLIP = ClipSettings(frames=2, stride=2, size=32, audio_seconds=0.32)
TINY = Recipe(epochs=1, batch=8, clip=CLIP, model=ModelSettings(width=2, feature=8))
CPU = Machine(workers=0, device="cpu")


def two_classes(folder: Path, *, wrong: bool) -> Path:
    """Videos whose class all streams show; if `wrong`, those to train on have the other class's name."""
    specs = []
    for number in range(60):
        shown, held = number % 2, number >= 40
        label = "ab"[shown ^ (wrong and not held)]
        specs.append(Spec(f"{number}.mp4", label=label, bits=(shown,) * 3, split="val" if held else "train"))
    return make_store(folder / f"{wrong}.h5", specs).path


def last_of(data: Path, run: Path, streams: str, **recipe) -> dict:
    learning = replace(TINY, epochs=12, lr=1e-2, **recipe)
    return rows_of(train(TrainSettings(streams=streams, data=data, run=run, recipe=learning, machine=CPU)))[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_what_the_labels_do_not_say_is_learned_from_a_teacher_of_another_stream(tmp_path):
    """Every training label is wrong, and the teacher, which was told the right ones, sees flow alone."""
    right, wrong = (two_classes(tmp_path, wrong=wrong) for wrong in (False, True))
    assert last_of(right, tmp_path / "teacher", "flow")["val_top1"] == 1
    assert last_of(wrong, tmp_path / "alone", "rgb,audio")["val_top1"] == 0
    student = last_of(wrong, tmp_path / "student", "rgb,audio", teacher=tmp_path / "teacher", distil=0.9)
    assert student["val_top1"] == student["val_top1_rgb"] == student["val_top1_audio"] == 1
    assert student["train_top1"] < 0.5  # by the labels
    assert set(load_run(tmp_path / "student", device="cpu").model.streams) == {"rgb", "audio"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("flow", "audio"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(24) + lacking)


@pytest.fixture(scope="module")
def teacher(store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    return train(TrainSettings(streams="flow,audio", data=store.path, run=folder, recipe=TINY, machine=CPU))


def settings_of(store, folder: Path, teacher: Path | None, **recipe) -> TrainSettings:
    given = replace(TINY, teacher=teacher, **{"epochs": 2} | recipe)
    return TrainSettings(streams="rgb,audio", data=store.path, run=folder, recipe=given, machine=CPU)


@pytest.mark.usefixtures("one_thread")
def test_a_stream_of_the_teacher_alone_is_read_in_the_shape_that_the_teacher_learned_from(store, tmp_path):
    own = replace(CLIP, clip_of=("flow=3x1x40", "rgb=2x1x32"))
    run = tmp_path / "teacher"
    train(TrainSettings(data=store.path, run=run, recipe=replace(TINY, clip=own), machine=CPU))
    clip = replace(CLIP, clip_of=("rgb=2x1x32",))
    teacher = load_teacher(replace(TINY, clip=clip, teacher=run), store, ("rgb", "audio"))
    both, theirs = (
        ClipDataset(store, store.videos, streams=streams, classes=store.classes, clip=shape, seed=1)
        for streams, shape in ((("rgb", "audio"), clip), (tuple(STREAMS), own))
    )
    teacher.join(both, teacher.model)
    given, expected = (dataset.__getitems__([(0, 0), (3, 1)]).inputs(training=False) for dataset in (both, theirs))
    assert given["flow"].shape[2:] == (3, 40, 40) and given["rgb"].shape[2:] == (2, 32, 32)
    torch.testing.assert_close(given, expected, atol=0, rtol=0)
    student = train(settings_of(store, tmp_path / "student", run, clip=clip, epochs=1))
    assert set(load_run(student, device="cpu").model.streams) == {"rgb", "audio"}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_has_the_same_teacher_wherever_it_lies_and_ends_as_undisturbed(store, teacher, tmp_path):
    one = train(settings_of(store, tmp_path / "one", teacher, mixup=0.2))
    said = json.loads((one / "settings.json").read_text())["teacher"]
    file = teacher / "best.safetensors"
    assert said == {"path": str(file), "sha256": sha256_of(file), "streams": ["flow", "audio"]}
    settings = settings_of(store, tmp_path / "other", teacher, mixup=0.2)
    interrupt(settings, Step, "__call__", at=6)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    again = replace(TrainSettings(run=settings.run, resume=True, machine=CPU), recipe=replace(Recipe(), teacher=moved))
    train(again)
    assert_same_run(one, settings.run)


@pytest.mark.slow
def test_another_teacher_or_none_before_is_refused_when_a_run_goes_on(store, teacher, tmp_path):
    changed = train(replace(settings_of(store, tmp_path / "changed", None), seed=5))
    plain = train(settings_of(store, tmp_path / "plain", None))
    taught = train(settings_of(store, tmp_path / "taught", teacher))
    for run, given in ((taught, changed), (plain, teacher)):
        with pytest.raises(UserError, match=r"resume.*" + run.name):
            train(replace(TrainSettings(run=run, resume=True, machine=CPU), recipe=replace(Recipe(), teacher=given)))


def test_the_command_line_answers_a_wrong_teacher_with_one_line_and_leaves_no_folder(
    store, teacher, tmp_path, monkeypatch, capsys
):
    clip = ["--frames", 2, "--stride", 2, "--size", 32, "--audio-seconds", 0.32]
    small = ["--data", store.path, "--run", tmp_path / "run", "--width", 2, "--feature", 8, "--streams", "rgb", *clip]
    others = make_store(tmp_path / "others.h5", [replace(spec, label=f"z{spec.label}") for spec in three_bit(16)])
    slower = make_store(tmp_path / "slower.h5", three_bit(16), fps=12.5)
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.safetensors").write_bytes(b"rubbish " * 9)
    for options, says in (
        (["--teacher", tmp_path / "none"], "none"),
        (["--teacher", tmp_path / "empty"], "best.safetensors"),
        (["--teacher", tmp_path / "w.safetensors"], "w.safetensors"),
        (["--teacher", teacher, "--stride", 4], "--stride 2"),
        (["--teacher", teacher, "--streams", "rgb,flow", "--clip-of", "flow=2x1x32"], "--clip-of flow=2x2x32"),
        (["--teacher", teacher, "--data", others.path], "classes"),
        (["--teacher", teacher, "--data", slower.path], "fps"),
        (["--teacher", teacher, "--distil", 1.5], "--distil"),
        (["--teacher", teacher, "--temperature", 0], "--temperature"),
        (["--teacher", teacher, "--hint", -1], "--hint"),
    ):
        assert_one_line_error(run_here(monkeypatch, capsys, *small, *options, main=training.main), says)
        assert not (tmp_path / "run").exists()
