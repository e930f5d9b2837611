"""--pretrain: what encoders learn from videos without labels, in place of the classes."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fusion.device import mixed_precision
from fusion.model import FusionModel
from fusion.training.ranks import Ranks
from streams.batch import Batch
from streams.registry import subset_name
from streams.split import group_numbers

PROJECTED = 128  # P, numbers of a projected feature
TEMPERATURE = 0.1  # of the cosines; 0.07 to 0.5 in the papers


class Agreement(NamedTuple):
    """What two streams, or two views of one, agree on in a batch."""

    loss: Tensor  # () float32, the mean over the rows that have both
    right: Tensor  # () float32, the share of them that find their partner in the batch
    rows: Tensor  # () float32, their number


class Contrast(nn.Module):
    """The features of two streams of the same clip are alike, and those of other videos' clips are not.

    InfoNCE over the batch, in both directions, for each pair of streams (Tian et al. 2020, CMC; Korbar et al. 2018,
    AVTS). A single stream has two clips of each video in the batch instead, each at a random time and augmented by
    itself (Chen et al. 2020, SimCLR; Qian et al. 2021 for video). A projection of each stream is compared, by its
    cosine; it is in the checkpoints, but not in the weights that the run leaves. Clips of the same video, file or group
    are no negatives of each other: they may show the same thing.
    """

    def __init__(self, *, streams: tuple[str, ...], feature: int, units: Sequence[int]) -> None:
        """units: the group of each training video, as a number."""
        super().__init__()
        alone = len(streams) == 1
        self.views = 2 if alone else 1  # clips of each video in a batch: all first ones, then all second ones
        self.pairs = [streams * 2] if alone else list(combinations(streams, 2))
        self.projections = nn.ModuleDict({name: _projection(feature) for name in streams})
        self.register_buffer("units", torch.tensor(units), persistent=False)

    def forward(
        self, model: FusionModel, inputs: dict[str, Tensor], batch: Batch, units: Tensor, *, ranks: Ranks
    ) -> dict[str, Agreement]:
        """The agreement of each pair over all ranks' clips, by its streams' names; gradients are of this rank's alone.

        inputs: of a batch on the device, units: (V,) int64 of all videos, which batch.videos are rows of.
        """
        with mixed_precision(batch.videos.device):
            features = model.encode(inputs, batch.present, rows=batch.rows).features
        clips = {name: self._by_view(self.projections[name](part.float())) for name, part in features.items()}
        clips = {name: [ranks.join_rows(view) for view in views] for name, views in clips.items()}
        facts = torch.stack([units[batch.videos], *(mask.long() for mask in batch.present.values())], dim=1)
        facts = [ranks.join_rows(view) for view in self._by_view(facts)]
        present = {name: [view[:, at] > 0 for view in facts] for at, name in enumerate(batch.present, start=1)}
        found = {}
        for one, other in self.pairs:
            both = present[one][0] & present[other][-1]
            agreement = contrast(clips[one][0], clips[other][-1], both, facts[0][:, 0])
            found[subset_name(dict.fromkeys((one, other)))] = agreement
        return found

    def learn(self, model: FusionModel, batch: Batch, *, parts: int, ranks: Ranks) -> Tensor:
        """Add the gradients of one of a batch's `parts`, each of which has negatives of its own.

        → (2,) float64: its share of the loss and of the top-1, which add up over parts and ranks.
        """
        found = self(model, batch.inputs(training=True), batch, self.units, ranks=ranks).values()
        loss, right = (sum(values) / len(self.pairs) / parts for values in list(zip(*found, strict=True))[:2])
        loss.backward()
        return torch.stack([loss, right]).detach().double() / ranks.size

    @torch.no_grad()
    def judge(
        self, model: FusionModel, batches: Iterable[Batch], videos: Sequence, *, ranks: Ranks
    ) -> dict[str, float]:
        """The mean loss and top-1 over the batches' clips, and the top-1 of each pair, to log."""
        model.eval()
        device = self.units.device
        units = torch.tensor(group_numbers(videos), device=device)
        sums = torch.zeros(len(self.pairs), 3, dtype=torch.float64, device=device)
        for batch in (batch.to(device) for batch in batches):
            found = self(model, batch.inputs(training=False), batch, units, ranks=ranks).values()
            sums += torch.stack([torch.stack([one.loss * one.rows, one.right * one.rows, one.rows]) for one in found])
        loss, right = (sums[:, :2] / sums[:, 2:].clamp(min=1)).T.tolist()
        row = {"val_loss": sum(loss) / len(loss), "val_top1": sum(right) / len(right)}
        if len(self.pairs) > 1:
            row |= {f"val_top1_{subset_name(pair)}": one for pair, one in zip(self.pairs, right, strict=True)}
        return row

    def _by_view(self, rows: Tensor) -> Tensor:
        """(views · B, …) → (views, B, …)"""
        return rearrange(rows, "(view b) n -> view b n", view=self.views)


PRETEXTS: dict[str, type[Contrast]] = {"contrast": Contrast}


def contrast(one: Tensor, other: Tensor, both: Tensor, units: Tensor) -> Agreement:
    """InfoNCE (van den Oord et al. 2018) in both directions: row k of `one` belongs to row k of `other`.

    one, other: (B, P), both: (B,) bool, rows that have both; units: (B,) int64, rows with the same number are no
    negatives of each other.
    """
    if not len(one):  # an empty part of a batch, whose encoders take part all the same
        nothing = one.sum() + other.sum()
        return Agreement(nothing, nothing.detach(), nothing.detach())
    cosines = normalize(one, dim=1) @ normalize(other, dim=1).T / TEMPERATURE
    own = torch.eye(len(one), dtype=torch.bool, device=one.device)
    compared = own | (both & (units[:, None] != units))  # `both`: of the columns; those of the rows are weights below
    here, there = (one.masked_fill(~compared, -torch.inf) for one in (cosines, cosines.T))
    rows = both.float().sum()
    target = torch.arange(len(one), device=one.device)
    losses = sum(cross_entropy(logits, target, reduction="none") for logits in (here, there)) / 2
    right = sum((logits.argmax(dim=1) == target).float() for logits in (here, there)) / 2
    loss, right = (torch.where(both, values, 0.0).sum() / rows.clamp(min=1) for values in (losses, right))
    return Agreement(loss, right, rows)


def _projection(feature: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(feature, feature), nn.ReLU(inplace=True), nn.Linear(feature, PROJECTED))
