"""OGM-GE: the stream that is ahead of the others learns more slowly, and with noise."""

import torch
from torch import Tensor

from fusion.heads.head import Mask
from fusion.model import FusionModel, Output
from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.balance.confidence import ConfidenceMeter, ratios
from fusion.training.loss import Counts
from fusion.training.ranks import Ranks

ALPHA = 0.5  # strength of slowing a stream that is ahead; 0.1 to 1 in the paper, by data set


class OgmGe(Auxiliary):
    """On-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022).

    A stream's lead is the probability that its own head gives to the right class, divided by the mean of the other
    streams'. Three things differ from the paper. Its factor jumps from 1 to 1 - tanh(alpha) at a ratio of 1; ours is
    continuous. Adam undoes a factor on the gradient, so ours is on the learning rate of the stream's encoder. The
    paper's noise, Gaussian with the variance of each gradient, is added for all streams at all times; ours has the
    share 1 - factor² of that variance, which the factor removes: none where nothing is slowed.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        super().__init__(streams=streams, auxiliary=auxiliary, epochs=epochs)
        self._meter = ConfidenceMeter()
        self._factors: dict[str, Tensor] = {}  # factors of this step

    def observe(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        self._meter.add(output, targets, present, counts)

    @torch.no_grad()
    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        self._factors = {name: slowing(ratio) for name, ratio in ratios(self._meter.read(ranks)).items()}
        chance = torch.Generator(next(model.parameters()).device).manual_seed(seed)  # the same in all ranks
        for name, factor in self._factors.items():
            for parameter in model.encoders[name].parameters():
                if parameter.grad is not None:
                    noise = torch.empty_like(parameter).normal_(generator=chance)
                    spread = parameter.grad.std(correction=0) * (1 - factor**2).sqrt()
                    parameter.grad += noise * spread

    def pace(self, stream: str) -> float | Tensor:
        return self._factors.get(stream, 1.0)


def slowing(ratio: Tensor) -> Tensor:
    """The factor k of a stream with this ratio: 1 up to a ratio of 1, then falling to 0 (equation 10)."""
    return 1 - torch.tanh(ALPHA * torch.relu(ratio - 1))
