"""OPM: the stream that is ahead of the others is often hidden from the fusion head."""

import torch
from torch import Tensor

from fusion.heads.head import Mask
from fusion.model import FusionModel, Output
from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.balance.confidence import ConfidenceMeter, ratios
from fusion.training.loss import Counts
from fusion.training.ranks import Ranks

MOST = 0.75  # largest probability of hiding a stream: the paper's q (1 + lambda), both 0.5


class Opm(Auxiliary):
    """On-the-fly prediction modulation (Wei et al., TPAMI 2024).

    Clip by clip, a stream that is ahead is hidden from the fusion head, with a probability that grows with its lead.
    The lead is that of OGM-GE, but measured in the previous step, so that all clips of all ranks are known. The
    paper's probability jumps to half at a ratio of 1; ours grows from 0 to the same limit. A clip's last stream stays.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        super().__init__(streams=streams, auxiliary=auxiliary, epochs=epochs)
        self._meter = ConfidenceMeter()
        self.register_buffer("confidence", torch.ones(len(streams)))

    def choose(self, use: Mask) -> Mask:
        shares = hiding(dict(zip(self.streams, self.confidence, strict=True)))
        if not shares:
            return use
        mask = torch.stack([use[name] for name in shares])  # (streams, B)
        chance = torch.rand(mask.shape, device=mask.device)
        kept = mask & (chance >= torch.stack(list(shares.values()))[:, None])
        return dict(zip(shares, torch.where(kept.any(dim=0), kept, mask), strict=True))

    def observe(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        self._meter.add(output, targets, present, counts)

    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        found = self._meter.read(ranks)
        known = zip(self.streams, self.confidence, strict=True)
        self.confidence.copy_(torch.stack([found.get(name, before) for name, before in known]))


def hiding(confidences: dict[str, Tensor]) -> dict[str, Tensor]:
    """The probability of hiding each stream."""
    return {name: MOST * torch.tanh(torch.relu(ratio - 1)) for name, ratio in ratios(confidences).items()}
