"""One step of training: forward, backward, the gradients of all ranks, the update."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from fusion.device import mixed_precision
from fusion.model import FusionModel, drop_streams
from fusion.training.average import Average
from fusion.training.balance import Auxiliary
from fusion.training.hints import Hints
from fusion.training.loss import FUSED, answer_sums, count_rows, each_loss
from fusion.training.mixing import mix
from fusion.training.optimizers import make_optimizer
from fusion.training.pretrain import Pretext
from fusion.training.ranks import Ranks
from fusion.training.settings import Recipe
from fusion.training.teacher import Teacher
from preprocess.common.errors import UserError
from streams.batch import Batch

WARMUP = 0.05  # share of all steps in which the learning rate rises
LAST_RATE = 0.01  # share of the learning rate that is left at the end
CLIP_NORM = 5.0  # largest norm of the gradient: LSTMs' gradients now and then explode
LOOK_EVERY = 20  # steps between checks of results on a GPU: each check waits for it
BAD_IN_A_ROW = 5  # steps without a finite loss that end a run
ALL_RANKS = 1008  # in place of a rank's number, for random numbers that all ranks share


class Taken(NamedTuple):
    """What a step measured, over all ranks; zeros for a skipped one. Tensors are on the device."""

    objective: (
        Tensor  # () float64, what is minimised: with label smoothing, the streams' own losses, the balance method
    )
    clips: int
    seen: Tensor  # (3,) float64: the two sums of answer_sums, and the clips that they are over


@dataclass(frozen=True)
class Schedule:
    """The learning rates of a run over its steps."""

    lr: float  # highest learning rate
    weight_decay: float
    steps: int  # in the whole run
    tower_lr: dict[str, float] = field(default_factory=dict)  # stream → its tower's highest rate, where it is not `lr`
    optimizer: str = "adamw"


class Step:
    """Optimises a model. It never waits for a GPU, except for a check every LOOK_EVERY steps that losses are finite.

    Random numbers depend on the seed, the rank and the step's number only: a run resumed from a checkpoint draws the
    same ones.
    """

    def __init__(
        self,
        model: FusionModel,
        *,
        balance: Auxiliary,
        schedule: Schedule,
        device: torch.device,
        ranks: Ranks,
        average: float = 0.0,
        teacher: Teacher | None = None,
        hints: Hints | None = None,
        pretext: Pretext | None = None,
    ) -> None:
        """average: the decay of the weights' moving average, 0 for none; teacher: whose streams the batches then have
        too; hints: what is learned of its towers; pretext: what is learned in place of the classes."""
        self.model = model
        self.pretext = pretext.to(device) if pretext else None
        self.hints = hints.to(device) if hints else None
        self.average = Average(model, decay=average).to(device) if average else None
        self.balance = balance.to(device)
        self.device = device
        self.ranks = ranks
        self.teacher = teacher
        self.schedule = schedule
        self._aside = [part for part in (self.pretext, self.hints) if part]  # that learn beside the model
        groups, self._shares = _groups(
            model, {name: lr / schedule.lr for name, lr in schedule.tower_lr.items()}, self._aside
        )
        rates = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
        self.optimizer = make_optimizer(schedule.optimizer, groups, **rates)
        self._seen: list[tuple[int, Tensor, Tensor]] = []  # step, True if its loss was finite, rows of its videos
        self._bad = 0  # steps in a row without a finite loss
        self.stop_asked = False

    def __call__(
        self,
        batches: Sequence[Batch],
        number: int,
        *,
        recipe: Recipe,
        seed: int,
        stop: bool = False,
    ) -> Taken:
        """Learn from `batches`, one after the other, as if they were one.

        `stop` is True if this rank wants to end; after the step `stop_asked` is True if any rank does.
        """
        chance = (seed * 1_000_003 + number) * 1009
        torch.manual_seed(chance + self.ranks.rank)
        counts, clips = self._count(batches, stop)
        before = [buffer.clone() for buffer in self._buffers()]
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in (batch.to(self.device) for batch in batches):
            if self.pretext:
                found = self.pretext.learn(self.model, batch, parts=len(batches), ranks=self.ranks)
                total, sums = total + found[0], sums + found * counts[FUSED]
                continue
            inputs = batch.inputs(training=True)
            own = batch.only(self.model.encoders)
            use = self.balance.choose(drop_streams(own.present, recipe.stream_dropout))
            mixed = {"classes": self.model.classes, "mixup": recipe.mixup, "cutmix": recipe.cutmix}
            inputs, targets = mix(inputs, batch.present, batch.labels, **mixed)
            with mixed_precision(self.device):
                output = self.model(inputs, own.present, rows=own.rows, use=use)
            seen = self.teacher.look(inputs, batch) if self.teacher else None
            learned = self.teacher.soften(targets, seen, batch) if self.teacher else targets
            losses = each_loss(output, learned, own.present, counts, label_smoothing=recipe.label_smoothing)
            if self.hints:
                towers = output.streams.towers, seen.streams.towers
                losses[FUSED] = losses[FUSED] + self.hints(*towers, batch.present, counts)
            total += self.balance.backward(losses, self.model)
            self.balance.observe(output, targets, own.present, counts)  # measured by the labels, as on validation
            sums += answer_sums(output, targets, own.present)
        total, *sums = self.ranks.add_up(torch.stack([total.double(), *sums]))
        learning = [weights for part in (self.model, *self._aside) for weights in part.parameters()]
        self.ranks.add_up_gradients(learning)
        for name, encoder in self.model.encoders.items():
            if not counts[name]:  # no rank has it: no step for it, as in a single process that does not run it
                encoder.zero_grad(set_to_none=True)
        self.balance.modulate(self.model, counts, self.ranks, seed=chance + ALL_RANKS)
        norm = torch.nn.utils.clip_grad_norm_(learning, CLIP_NORM)
        finite = total.isfinite() & norm.isfinite()
        self._update(finite, before, number)
        self._seen.append((number, finite, torch.cat([batch.videos for batch in batches])))
        seen = torch.where(finite, torch.stack([*sums, torch.full_like(total, counts[FUSED])]), 0.0)
        return Taken(torch.where(finite, total, 0.0), clips, seen)

    def report_skipped(self) -> list[tuple[int, list[int]]]:
        """The steps since the last check that were skipped for lack of a finite loss, with the rows of their videos.

        Raises UserError where too many came in a row.
        """
        finite = torch.stack([finite for _, finite, _ in self._seen]).tolist() if self._seen else []
        skipped = []
        for (number, _, videos), good in zip(self._seen, finite, strict=True):
            self._bad = 0 if good else self._bad + 1
            if not good:
                skipped.append((number, videos.tolist()))
            if self._bad == BAD_IN_A_ROW:
                raise UserError(
                    f"steps {number - BAD_IN_A_ROW + 2} to {number + 1} gave no finite loss: try a smaller --lr "
                    f"(it is {self.schedule.lr}); the last checkpoint has the weights from before them"
                )
        self._seen = []
        return skipped

    @property
    def judged(self) -> FusionModel:
        """The model to validate and keep: the average, if there is one."""
        return self.average.model if self.average else self.model

    @property
    def due(self) -> bool:
        """True if it is time for a check."""
        return len(self._seen) >= (LOOK_EVERY if self.device.type == "cuda" else 1)

    def rate(self, number: int) -> float:
        """The learning rate of a step: a linear warm-up, then half a cosine."""
        warmup = max(1, round(WARMUP * self.schedule.steps))
        if number < warmup:
            return self.schedule.lr * (number + 1) / warmup
        progress = min(1.0, (number - warmup) / max(1, self.schedule.steps - warmup))
        return self.schedule.lr * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))

    def state_dict(self) -> dict[str, dict]:
        """The state to save: model, optimizer, balance method, average."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, saved: dict) -> None:
        """Restore the state; `saved` may hold more."""
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])

    def _parts(self) -> dict[str, Module | Optimizer]:
        parts = {"model": self.model, "optimizer": self.optimizer, "balance": self.balance}
        others = {"average": self.average, "pretext": self.pretext, "hints": self.hints}
        return parts | {name: part for name, part in others.items() if part}

    def _count(self, batches: Sequence[Batch], stop: bool) -> tuple[dict[str, float], int]:
        """The rows of each stream, and all clips, over all ranks; also shares `stop` between them."""
        each = [count_rows(batch.only(self.model.encoders).present) for batch in batches]
        names = list(each[0])
        sums = [sum(counts[name] for counts in each) for name in names]
        clips = sum(len(batch.labels) for batch in batches)
        *sums, clips, stops = self.ranks.add_up(torch.tensor([*sums, clips, stop], dtype=torch.float64)).tolist()
        self.stop_asked = stops > 0
        return dict(zip(names, sums, strict=True)), int(clips)

    def _buffers(self) -> list[Tensor]:
        """Buffers that a step changes: batch norm's statistics, and the balance method's."""
        return [*self.model.buffers(), *self.balance.buffers()]

    def _update(self, finite: Tensor, before: list[Tensor], number: int) -> None:
        """Change the weights; if the loss is not finite, change nothing and restore the buffers."""
        for group, share in zip(self.optimizer.param_groups, self._shares, strict=True):
            group["lr"] = self.rate(number) * share
            if group["stream"]:
                group["lr"] *= self.balance.pace(group["stream"])
        self.optimizer.found_inf = (~finite).float()  # read by the fused kernel, as with a gradient scaler
        self.optimizer.step()
        for buffer, old in zip(self._buffers(), before, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
        if self.average:
            self.average.update(self.model, finite=finite)


def _groups(model: FusionModel, shares: dict[str, float], aside: list[Module]) -> tuple[list[dict], list[float]]:
    """The learning parameters in groups for the optimizer, and each group's share of the learning rate.

    shares: of towers by stream; they get a group of their own. aside: what learns beside the model.
    """
    parts = [(name, [encoder], 1.0) for name, encoder in model.encoders.items() if name not in shares]
    for name, share in shares.items():
        encoder = model.encoders[name]
        rest = [part for part in encoder.children() if part is not encoder.tower]
        parts += [(name, [encoder.tower], share), (name, rest, 1.0)]
    others = [part for part in (*model.children(), *aside) if part is not model.encoders]
    parts.append((None, others, 1.0))
    groups = [
        {"params": [p for module in modules for p in module.parameters() if p.requires_grad], "stream": name}
        for name, modules, _ in parts
    ]
    return groups, [share for *_, share in parts]
