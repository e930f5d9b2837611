"""--pretrain: what encoders learn from videos without labels, in place of the classes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fusion.device import mixed_precision
from fusion.model import FusionModel
from fusion.training.ranks import Ranks
from preprocess.store.index import Video
from streams.batch import Batch
from streams.registry import subset_name
from streams.split import group_numbers

PROJECTED = 128  # P, numbers of a projected feature
TEMPERATURE = 0.1  # of the cosines; 0.07 to 0.5 in the papers
PIECES = 3  # of a clip whose order is asked for, as in the paper


class Found(NamedTuple):
    """What was measured of a batch over all ranks, for two streams or for one."""

    loss: Tensor  # () float32, the mean over the rows that it is about
    right: Tensor  # () float32, the share of them that is right
    rows: Tensor  # () float32, their number


class Pretext(nn.Module, ABC):
    """A task that makes its own answers. Its layers are in the checkpoints, but not in a run's weights files."""

    needed = 1  # streams that a video must have, of several
    views = 1  # clips of each video in a batch: all first ones, then all second ones
    layers: nn.ModuleDict  # stream → what its feature goes through

    def __init__(self, *, streams: tuple[str, ...], feature: int, units: Sequence[int]) -> None:
        """feature: D; units: the group of each training video, as a number."""
        super().__init__()
        self.register_buffer("units", torch.tensor(units), persistent=False)

    @abstractmethod
    def forward(
        self, model: FusionModel, inputs: dict[str, Tensor], batch: Batch, units: Tensor, *, ranks: Ranks
    ) -> dict[str, Found]:
        """Of all ranks' clips, by the names of streams; gradients are of this rank's alone.

        inputs: of a batch on the device, units: (V,) int64 of all videos, which batch.videos are rows of.
        """

    def answers(self, model: FusionModel, inputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """stream → what its layers give, (B, …) float32"""
        with mixed_precision(batch.videos.device):
            features = model.encode(inputs, batch.present, rows=batch.rows).features
        return {name: self.layers[name](part.float()) for name, part in features.items()}

    def learn(self, model: FusionModel, batch: Batch, *, parts: int, ranks: Ranks) -> Tensor:
        """Add the gradients of one of the `parts` of a step's clips; each counts as much, and is judged by itself.

        → (2,) float64: its share of the loss and of the top-1, which add up over parts and ranks.
        """
        found = list(self(model, batch.inputs(training=True), batch, self.units, ranks=ranks).values())
        loss, right, _ = (sum(values) / len(found) / parts for values in zip(*found, strict=True))
        loss.backward()
        return torch.stack([loss, right]).detach().double() / ranks.size

    @torch.no_grad()
    def judge(
        self, model: FusionModel, batches: Iterable[Batch], videos: Sequence[Video], *, ranks: Ranks
    ) -> dict[str, float]:
        """The mean loss and top-1 over the clips, and the top-1 by the names of streams, to log."""
        model.eval()
        units = torch.tensor(group_numbers(videos), device=self.units.device)
        sums: dict[str, Tensor] = {}
        for batch in (batch.to(units.device) for batch in batches):
            for name, found in self(model, batch.inputs(training=False), batch, units, ranks=ranks).items():
                part = torch.stack([found.loss * found.rows, found.right * found.rows, found.rows]).double()
                sums[name] = part + sums.get(name, 0.0)
        means = {name: (one[:2] / one[2].clamp(min=1)).tolist() for name, one in sums.items()}
        row = {f"val_top1_{name}": right for name, (_, right) in means.items()} if len(means) > 1 else {}
        loss, right = (sum(values) / len(means) for values in zip(*means.values(), strict=True))
        return row | {"val_loss": loss, "val_top1": right}


class Contrast(Pretext):
    """The features of two streams of the same clip are alike, and those of other videos' clips are not.

    InfoNCE over the batch, in both directions, for each pair of streams (Tian et al. 2020, CMC; Korbar et al. 2018,
    AVTS). A single stream has two clips of each video in the batch instead, each at a random time and augmented by
    itself (Chen et al. 2020, SimCLR; Qian et al. 2021 for video). A projection of each stream is compared, by its
    cosine. Clips of the same video, file or group are no negatives of each other: they may show the same thing.
    """

    needed = 2

    def __init__(self, *, streams: tuple[str, ...], feature: int, units: Sequence[int]) -> None:
        super().__init__(streams=streams, feature=feature, units=units)
        alone = len(streams) == 1
        self.views = 2 if alone else 1
        self.pairs = [streams * 2] if alone else list(combinations(streams, 2))
        self.layers = nn.ModuleDict({name: _projection(feature) for name in streams})

    def forward(
        self, model: FusionModel, inputs: dict[str, Tensor], batch: Batch, units: Tensor, *, ranks: Ranks
    ) -> dict[str, Found]:
        clips = {name: self._join(part, ranks) for name, part in self.answers(model, inputs, batch).items()}
        facts = torch.stack([units[batch.videos], *(mask.long() for mask in batch.present.values())], dim=1)
        facts = self._join(facts, ranks)
        present = {name: [view[:, at] > 0 for view in facts] for at, name in enumerate(batch.present, start=1)}
        found = {}
        for one, other in self.pairs:
            both = present[one][0] & present[other][-1]
            name = subset_name(dict.fromkeys((one, other)))
            found[name] = contrast(clips[one][0], clips[other][-1], both, facts[0][:, 0])
        return found

    def _join(self, rows: Tensor, ranks: Ranks) -> list[Tensor]:
        """(views · B, …) → for each view (B, …), of all ranks"""
        return [ranks.join_rows(view) for view in rearrange(rows, "(view b) n -> view b n", view=self.views)]


class Order(Pretext):
    """Which piece of a clip came first: each stream's clip is cut into three, which change places.

    A classifier of each stream tells the order from the feature (Misra et al. 2016, shuffle and learn; Xu et al. 2019,
    clip order, with an encoding of each piece, where here one encoder reads all).
    """

    def __init__(self, *, streams: tuple[str, ...], feature: int, units: Sequence[int]) -> None:
        super().__init__(streams=streams, feature=feature, units=units)
        orders = torch.tensor(list(permutations(range(PIECES))))
        self.register_buffer("orders", orders, persistent=False)
        self.layers = nn.ModuleDict({name: nn.Linear(feature, len(orders)) for name in streams})

    def forward(
        self, model: FusionModel, inputs: dict[str, Tensor], batch: Batch, units: Tensor, *, ranks: Ranks
    ) -> dict[str, Found]:
        chosen = torch.randint_like(batch.videos, len(self.orders)) if model.training else batch.videos
        chosen = chosen % len(self.orders)
        inputs = {name: in_order(clip, self.orders[chosen]) for name, clip in inputs.items()}
        target, found = ranks.join_rows(chosen), {}
        for name, logits in self.answers(model, inputs, batch).items():
            logits, there = ranks.join_rows(logits), ranks.join_rows(batch.present[name].long()) > 0
            losses = cross_entropy(logits, target, reduction="none")
            found[name] = _mean(losses, logits.argmax(dim=1) == target, there)
        return found


PRETEXTS: dict[str, type[Pretext]] = {"contrast": Contrast, "order": Order}


def contrast(one: Tensor, other: Tensor, both: Tensor, units: Tensor) -> Found:
    """InfoNCE (van den Oord et al. 2018) in both directions: row k of `one` belongs to row k of `other`.

    one, other: (B, P), both: (B,) bool, rows that have both; units: (B,) int64, rows with the same number are no
    negatives of each other.
    """
    if not len(one):  # an empty part of a batch, whose encoders take part all the same
        nothing = one.sum() + other.sum()
        return Found(nothing, nothing.detach(), nothing.detach())
    cosines = normalize(one, dim=1) @ normalize(other, dim=1).T / TEMPERATURE
    own = torch.eye(len(one), dtype=torch.bool, device=one.device)
    compared = own | (both & (units[:, None] != units))  # `both` of the columns; _mean leaves the other rows out
    ways = [cosine.masked_fill(~compared, -torch.inf) for cosine in (cosines, cosines.T)]
    target = torch.arange(len(one), device=one.device)
    losses = sum(cross_entropy(logits, target, reduction="none") for logits in ways) / 2
    return _mean(losses, sum((logits.argmax(dim=1) == target).float() for logits in ways) / 2, both)


def in_order(clip: Tensor, orders: Tensor) -> Tensor:
    """The pieces of each row in the row's order: (B, C, T, …), (B, PIECES) → (B, C, T, …)

    The last steps are left out if time cannot be cut evenly.
    """
    size = clip.shape[2] // PIECES
    steps = orders[:, :, None] * size + torch.arange(size, device=clip.device)
    shape = [len(clip), *(PIECES * size if axis == 2 else 1 for axis in range(1, clip.ndim))]
    return torch.take_along_dim(clip, steps.reshape(shape), dim=2)


def _mean(losses: Tensor, right: Tensor, there: Tensor) -> Found:
    """(B,) each, over the rows that are there, (B,) bool"""
    rows = there.float().sum()
    loss, share = (torch.where(there, values, 0.0).sum() / rows.clamp(min=1) for values in (losses, right))
    return Found(loss, share, rows)


def _projection(feature: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(feature, feature), nn.ReLU(inplace=True), nn.Linear(feature, PROJECTED))
