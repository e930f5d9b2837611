"""Distillation: a trained model, the teacher, answers the clips that a run learns from, for it to learn the answers."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion.device import mixed_precision
from fusion.model import FusionModel, Output
from fusion.training.hints import Hints
from fusion.training.mixing import Clips
from fusion.training.run import check_parameters, load_model, read_settings
from fusion.training.settings import Recipe
from fusion.training.transfer import sha256_of
from fusion.training.weights import weights_file
from preprocess.common.errors import UserError
from preprocess.store import Store
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.registry import streams_of, subset_name
from streams.spec import FEATURES

SHAPE = ("frames", "stride", "size", "audio_seconds", "segments")  # of a clip: teacher and student see the same


@dataclass(frozen=True)
class Teacher:
    """Knowledge distillation (Hinton, Vinyals and Dean 2015) from a model of any streams.

    Cross-entropy is linear in its target, so that the paper's weighted mean of two losses, by the labels and by the
    teacher's answers, is the loss by the weighted mean of the two. The temperature softens the teacher's answers alone:
    the student's stay probabilities, and no factor of T² is needed. The teacher sees what the student sees: the same
    crop of the same moment, mixed with the same other clip (consistent teaching and function matching; Beyer et al.
    2022).
    """

    model: FusionModel
    path: Path
    sha256: str  # digest of its weights file
    clip: ClipSettings  # the shape of its training clips
    share: float  # weight of its answers in the targets
    temperature: float

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.model.encoders)

    def line(self) -> str:
        """What the teacher is, as text."""
        return f"teacher: {subset_name(self.streams)} from {self.path}\n  sha256 {self.sha256}"

    def facts(self) -> dict[str, object]:
        """What settings.json says of it."""
        return {"path": str(self.path), "sha256": self.sha256, "streams": self.streams}

    def to(self, device: torch.device) -> "Teacher":
        self.model.to(device)
        return self

    def join(self, dataset: ClipDataset, student: FusionModel) -> None:
        """Let a dataset's clips have the teacher's streams too, those of it alone in the shape that it learned from.

        Where the student reads kept features of a frozen tower, the teacher can if it has the same tower.

        Raises UserError if there is nothing for the teacher to see.
        """
        if not any(video.streams[name] for video in dataset.videos for name in self.streams):
            raise UserError(f"--teacher {self.path} sees {subset_name(self.streams)}, which no training video has")
        for name in self.streams:
            shape = dataset.store.parameters, dataset.clip.of(name)
            kept = name in dataset.streams and FEATURES in dataset.streams[name].shapes(*shape)
            if kept and not _same(self.model.encoders[name].tower, student.encoders[name].tower):
                raise UserError(
                    f"--teacher {self.path} needs what {name} shows, of which this run reads kept features of another "
                    f"tower: add --no-keep-features, or take a teacher without {name}"
                )
        alone = (text for text in self.clip.clip_of if text.partition("=")[0] not in dataset.streams)
        dataset.clip = replace(dataset.clip, clip_of=(*dataset.clip.clip_of, *alone))
        dataset.streams = {
            name: dataset.streams.get(name, stream)
            for name, stream in streams_of(dataset.store.parameters).items()
            if name in dataset.streams or name in self.streams
        }

    @torch.no_grad()
    def look(self, inputs: Clips, batch: Batch) -> Output:
        """What it makes of the mixed clips of a batch."""
        seen = batch.only(self.streams)
        with mixed_precision(batch.labels.device):
            return self.model(inputs, seen.present, rows=seen.rows)

    @torch.no_grad()
    def soften(self, targets: Tensor, seen: Output, batch: Batch) -> Tensor:
        """Targets, (B, K), of clips that it has seen → (B, K): targets mixed with the teacher's answers.

        A clip without any of the teacher's streams keeps its target.
        """
        answers = (seen.logits.float() / self.temperature).softmax(dim=1)
        there = torch.stack([batch.present[name] for name in self.streams]).any(dim=0)
        return torch.where(there[:, None], targets.lerp(answers, self.share), targets)


def _same(one: nn.Module, other: nn.Module) -> bool:
    """True if two towers are of one kind, with the same weights."""
    ours, theirs = one.state_dict(), other.state_dict()
    return type(one) is type(other) and all(
        name in theirs and value.shape == theirs[name].shape and torch.equal(value.cpu(), theirs[name].cpu())
        for name, value in ours.items()
    )


def load_teacher(recipe: Recipe, store: Store, streams: Collection[str]) -> Teacher | None:
    """The teacher that a recipe names, if any, on the CPU, for a student of these streams.

    Raises UserError if there is none at its path, or if it knows other classes, stores or clips.
    """
    if recipe.teacher is None:
        return None
    path = weights_file("--teacher", recipe.teacher)
    model, about = load_model(path)
    if about.classes != store.classes:
        other = next(iter({*about.classes} ^ {*store.classes}), "their order")
        raise UserError(f"--teacher {path} knows other classes than {store.path} has ({other}): take one of the same")
    check_parameters(store, about.parameters)
    ours, theirs = recipe.clip, about.settings.recipe.clip
    for name in SHAPE:
        if getattr(ours, name) != (there := getattr(theirs, name)):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"--teacher {path} sees clips of {option} {there}: train with the same, or another teacher")
    for name in (name for name in streams if name in model.encoders):
        there = theirs.of(name).shape
        if ours.of(name).shape != there:
            raise UserError(
                f"--teacher {path} sees clips of --clip-of {name}={there}: train with the same, or another teacher"
            )
    model.eval().requires_grad_(False)
    return Teacher(model, path, sha256_of(path), theirs, recipe.distil, recipe.temperature)


def make_hints(recipe: Recipe, student: FusionModel, teacher: Teacher) -> Hints | None:
    """What a student's towers learn of the teacher's, where it has streams that the student lacks."""
    if not recipe.hint:
        return None
    hints = Hints(student, teacher.model, weight=recipe.hint)
    return hints if any(len(layers) for layers in hints.layers.values()) else None


def check_same_teacher(run: Path, teacher: Teacher | None) -> None:
    """Raises UserError if a run that goes on had another teacher, or none."""
    before = read_settings(run)[1].get("teacher")
    if teacher and (before is None or before["sha256"] != teacher.sha256):
        had = f"a teacher with the sha256 {before['sha256']}" if before else "no teacher"
        raise UserError(f"--resume: {run} was started with {had}, and {teacher.path} has {teacher.sha256}")
