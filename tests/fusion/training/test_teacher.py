"""Targets from a teacher."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.model import FusionModel, build_model
from fusion.training import step as stepping
from fusion.training.step import Step
from fusion.training.teacher import Teacher
from preprocess.common.errors import UserError
from streams.batch import ClipDataset
from streams.spec import FEATURES
from tests.fusion.training.test_step import (
    MODEL,
    PLAIN,
    assert_equal,
    batches_of,
    everything,
    make,
    without_augmentation,
)
from tests.support.stores import Spec, make_store, three_bit

OWN, THEIRS, READ = ("rgb", "audio"), ("flow", "audio"), ("rgb", "flow", "audio")
SHARE, TEMPERATURE, SMOOTHING = 0.7, 3.0, 0.1
RECIPE = replace(PLAIN, mixup=0.4, label_smoothing=SMOOTHING)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """One video has nothing that the teacher sees, and one nothing but that."""
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("flow",))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(14) + lacking)


def network(toy, streams: tuple[str, ...]) -> FusionModel:
    torch.manual_seed(1)
    model = build_model(MODEL, streams=streams, classes=8, parameters=toy.parameters)
    for layer in model.auxiliary.values():  # a fresh one would answer nearly the same for every clip
        torch.nn.init.normal_(layer.weight, std=3.0)
    torch.nn.init.normal_(next(p for p in model.head.parameters() if p.ndim == 2), std=3.0)
    return model.eval().requires_grad_(False)


def taught(toy, streams: tuple[str, ...] = THEIRS) -> Step:
    step = make(toy, streams=OWN)
    step.teacher = Teacher(network(toy, streams), Path("t"), "", PLAIN.clip, share=SHARE, temperature=TEMPERATURE)
    return step


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_loss_is_by_labels_mixed_with_softened_answers_to_the_same_mixed_clips(toy, monkeypatch):
    """The oracle is NumPy's, from the model's outputs and the labels as they were mixed."""
    step, (batch,) = taught(toy), batches_of(toy, batch=16, streams=READ)
    given, answered, mixed = [], [], []
    for model in (step.model, step.teacher.model):
        model.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        model.register_forward_hook(lambda _, inputs, output: answered.append(output))
    real = stepping.mix
    monkeypatch.setattr(stepping, "mix", lambda *a, **k: mixed.append(real(*a, **k)) or mixed[-1])
    taken = step([batch], 0, recipe=RECIPE, seed=0)
    student, teacher = answered
    assert torch.equal(given[0]["audio"], given[1]["audio"]) and not torch.equal(mixed[0][1], mixed[0][1].round())
    assert not teacher.logits.requires_grad

    labels = mixed[0][1].double().numpy()
    answers = softmax(teacher.logits.double().numpy() / TEMPERATURE)
    targets = (1 - SHARE) * labels + SHARE * answers
    names = [toy.videos[row].path for row in batch.videos.tolist()]
    unseen = names.index("x/1.mp4")
    targets[unseen] = labels[unseen]
    targets = (1 - SMOOTHING) * targets + SMOOTHING / 8

    def loss(logits: torch.Tensor, rows: np.ndarray) -> float:
        return -(targets * np.log(softmax(logits.detach().double().numpy()))).sum(axis=1)[rows].mean()

    there = {name: batch.present[name].numpy() for name in OWN}
    own = [loss(student.streams.logits[name], there[name]) for name in OWN]
    anything = there["rgb"] | there["audio"]
    assert anything.sum() == 15  # the video with flow alone is the teacher's only
    expected = loss(student.logits, anything) + 0.5 * sum(own) / 2
    assert float(taken.objective) == pytest.approx(expected, rel=1e-5)
    likelihood = (labels * np.log(softmax(student.logits.detach().double().numpy()))).sum(axis=1)[anything].sum()
    assert taken.seen.tolist()[::2] == pytest.approx([-likelihood, 15], rel=1e-5)  # what is shown is by the labels


def test_a_teacher_learns_nothing_is_saved_nowhere_and_draws_no_random_number(toy):
    """With the share 0 the student is, bit for bit, the one without a teacher."""
    alone, step = make(toy, streams=OWN), taught(toy, ("audio",))
    step.teacher = replace(step.teacher, share=0.0)
    before = {name: value.clone() for name, value in step.teacher.model.state_dict().items()}
    for number, batch in enumerate(batches_of(toy, streams=OWN)):
        for one in (alone, step):
            one([batch], number, recipe=replace(RECIPE, stream_dropout=0.25), seed=0)
    assert_equal(everything(step), everything(alone))
    torch.testing.assert_close(dict(step.teacher.model.state_dict()), before, rtol=0, atol=0)


def test_parts_of_a_step_are_taught_as_the_whole(toy):
    whole, divided = taught(toy), taught(toy)
    for step in (whole, divided):
        for module in step.model.modules():
            if "Norm" in type(module).__name__:
                module.train(False)
    recipe = replace(PLAIN, label_smoothing=SMOOTHING)
    with without_augmentation():
        (one,), parts = batches_of(toy, batch=16, streams=READ), batches_of(toy, batch=16, parts=3, streams=READ)
        results = [step(batches, 0, recipe=recipe, seed=0) for step, batches in ((whole, [one]), (divided, parts))]
    torch.testing.assert_close(results[0].objective, results[1].objective, rtol=1e-5, atol=1e-6)


def test_kept_features_serve_a_teacher_with_the_same_tower_and_no_other(toy):
    class Kept:
        def shapes(self, parameters, clip):
            return {FEATURES: ((clip.frames, 8), np.float16)}

    dataset = ClipDataset(toy, toy.videos, streams=OWN, classes=toy.classes, clip=PLAIN.clip, seed=0)
    dataset.streams["rgb"] = Kept()
    teacher = Teacher(network(toy, THEIRS), Path("runs/three"), "", PLAIN.clip, share=0.5, temperature=1.0)
    student, same, other = (network(toy, ("rgb",)) for _ in range(3))
    same.load_state_dict(student.state_dict())
    with torch.no_grad():
        next(other.encoders["rgb"].tower.parameters()).add_(1)
    teacher.join(dataset, student)
    assert list(dataset.streams) == list(READ) and isinstance(dataset.streams["rgb"], Kept)
    replace(teacher, model=same).join(dataset, student)
    with pytest.raises(UserError, match=r"runs/three.*rgb.*--no-keep-features"):
        replace(teacher, model=other).join(dataset, student)


def test_a_teacher_that_no_training_video_has_a_stream_of_is_refused(tmp_path):
    store = make_store(tmp_path / "s.h5", [replace(spec, streams=("rgb",)) for spec in three_bit(8)])
    dataset = ClipDataset(store, store.videos, streams=("rgb",), classes=store.classes, clip=PLAIN.clip, seed=0)
    teacher = Teacher(network(store, ("flow",)), Path("runs/flow"), "", PLAIN.clip, share=0.5, temperature=1.0)
    with pytest.raises(UserError, match=r"runs/flow.*flow"):
        teacher.join(dataset, network(store, ("rgb",)))
