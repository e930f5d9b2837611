"""An average of a model's weights over the last steps."""

import copy

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """Exponential moving average of weights and buffers (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    The share of the old average is `decay` after many steps and (1 + n) / (10 + n) after the first n, so that the
    initial weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: nn.Module, *, finite: Tensor) -> None:
        """Update after a step of `model`; no update if the step was skipped, that is if `finite`, () bool, is false."""
        self.steps += finite
        share = ((1 + self.steps) / (10 + self.steps)).clamp(max=self.decay)
        for old, new in zip(_tensors(self.model), _tensors(model), strict=True):
            if old.is_floating_point():
                old.copy_(torch.where(finite, new.lerp(old, share.to(old.dtype)), old))
            else:
                old.copy_(new)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
