"""Gradient-Blending: losses are weighted by how well they generalise to other videos."""

import torch
from torch import Tensor

from fusion.heads.head import Mask
from fusion.model import FusionModel, Output
from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.loss import FUSED, Counts, Losses, each_loss
from fusion.training.ranks import Ranks

SUPER_EPOCH = 10 / 45  # share of all epochs after which the weights are measured again, as in the paper
LEAST_GAIN = 1e-3  # nats: a loss that does not fall on validation keeps a little weight, so that its head learns on
LEAST_GAP = 1e-2  # nats: precision at which overfitting in a super-epoch is measured


class Blending(Auxiliary):
    """Gradient-Blending (Wang, Tran and Feiszli, CVPR 2020), in its online form.

    The weights of the fused loss and the streams' own sum to one, and are equal at first. From the end of the first
    epoch on they are measured anew after every super-epoch, on the joint model itself (the paper trains copies of each
    stream alone). Training losses are those of the epoch's steps, validation losses those of the middle clips.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        super().__init__(streams=streams, auxiliary=auxiliary, epochs=epochs)
        self.every = max(1, round(SUPER_EPOCH * epochs))
        self.names = (FUSED, *streams)
        size = len(self.names)
        self.register_buffer("weights", torch.full((size,), 1 / size))
        self.register_buffer("trained", torch.zeros(2, size, dtype=torch.float64))  # sum and rows, of this epoch
        self.register_buffer("validated", torch.zeros(2, size, dtype=torch.float64))
        self.register_buffer("start", torch.zeros(2, size, dtype=torch.float64))  # losses when the super-epoch began
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self._parts: list[Tensor] = []

    def backward(self, losses: Losses, model: FusionModel) -> Tensor:
        found = torch.stack([losses[name] for name in self.names])
        loss = self.weights @ found
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def observe(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        losses = each_loss(output, targets, present, counts)  # without label smoothing, as on validation
        self._parts.append(torch.stack([losses[name] for name in self.names]))

    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        found = ranks.add_up(sum(self._parts))
        self._parts = []
        for place, name in enumerate(self.names):
            self.trained[0, place] += found[place] * counts[name]
            self.trained[1, place] += counts[name]

    def watch(self, output: Output, labels: Tensor, present: Mask) -> None:
        one = dict.fromkeys(self.names, 1.0)  # so that the losses are sums
        losses = each_loss(output, labels, present, one)
        rows = {FUSED: torch.stack([*present.values()]).any(dim=0), **present}
        self.validated[0] += torch.stack([losses[name] for name in self.names])
        self.validated[1] += torch.stack([rows[name].sum() for name in self.names])

    def end_epoch(self, ranks: Ranks) -> dict[str, float]:
        ranks.add_up(self.validated)
        now = torch.stack([sums[0] / sums[1] for sums in (self.trained, self.validated)])
        self.trained.zero_()
        self.validated.zero_()
        if self.epoch % self.every == 0:
            if self.epoch:
                self.weights.copy_(blend(self.start, now))
            self.start.copy_(now)
        self.epoch += 1
        return {f"weight_{name or 'fused'}": float(self.weights[place]) for place, name in enumerate(self.names)}


def blend(start: Tensor, end: Tensor) -> Tensor:
    """Weights from losses on training and validation, (2, N), before and after: (N,), with the sum one.

    A weight is in proportion to G / O² (proposition 1): the gain on validation, divided by the square of the growth of
    the gap between the two. A loss without validation has the mean weight.
    """
    gain = (start[1] - end[1]).clamp(min=LEAST_GAIN)
    gap = (end[1] - end[0]) - (start[1] - start[0])
    weights = gain / gap.abs().clamp(min=LEAST_GAP).square()
    weights = torch.where(weights.isfinite(), weights, weights.nanmean())
    return weights / weights.sum()
