"""MMPareto: each encoder takes a step that is good for the fused loss and for the stream's own."""

import torch
from torch import Tensor, nn

from fusion.model import FusionModel
from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.loss import FUSED, Counts, Losses
from fusion.training.ranks import Ranks, flat_gradients, set_gradients

OPPOSITE = 1e-3  # relative to the longer gradient: a shorter combination has no usable direction


class MMPareto(Auxiliary):
    """Pareto integration of the gradients of the fused and each stream's own loss (Wei and Hu, ICML 2024).

    An encoder's two gradients, each taken as one vector, are added up where they agree; where they conflict, their
    combination of least norm takes the place of the sum, in the sum's length. Both losses have weight one. The paper's
    further factor of 1.5 on the encoders' gradients is left out: Adam would undo it. It costs a second backward pass.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        super().__init__(streams=streams, auxiliary=auxiliary, epochs=epochs)
        self._aside: dict[nn.Parameter, Tensor | None] = {}  # encoder parameters → the other of their two gradients
        from torch._functorch import config

        config.donated_buffer = False  # else compiled code does not allow the second backward pass

    def backward(self, losses: Losses, model: FusionModel) -> Tensor:
        own = sum(losses[name] for name in self.streams)
        own.backward(retain_graph=True)
        self._swap(model.encoders)
        losses[FUSED].backward()
        self._swap(model.encoders)
        return (losses[FUSED] + own).detach()

    @torch.no_grad()
    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        for name in (name for name in model.encoders if counts[name]):
            encoder = model.encoders[name]
            own = flat_gradients(encoder.parameters())
            self._swap(encoder)
            fused = ranks.add_up(flat_gradients(encoder.parameters()))
            set_gradients(encoder.parameters(), combine(fused, own))
        self._aside = {}

    def _swap(self, module: nn.Module) -> None:
        for parameter in module.parameters():
            self._aside[parameter], parameter.grad = parameter.grad, self._aside.get(parameter)


def combine(fused: Tensor, own: Tensor) -> Tensor:
    """One vector from two, as long as their sum, with a non-negative product with both: (P,), (P,) → (P,)

    In conflict it has the direction of the shortest vector between the two. Opposite vectors have no such direction,
    and the remainder from rounding is not scaled up.
    """
    total, apart = fused + own, fused - own
    share = (-(apart @ own) / (apart @ apart)).clamp(0, 1)  # share of the fused gradient; the two are not equal
    between = share * fused + (1 - share) * own
    longest = torch.maximum(fused.norm(), own.norm())
    length = torch.maximum(between.norm(), OPPOSITE * longest)
    return torch.where(fused @ own < 0, between * (total.norm() / length), total)
