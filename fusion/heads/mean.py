"""Late fusion by averaging the streams' own logits."""

import torch
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, Parts, StreamOutputs, visible


def weighted_mean(logits: Parts, present: Mask, weights: dict[str, Tensor]) -> Tensor:
    """{(B, K)}, {(B,)}, {() or (B,)} → (B, K): the weighted mean over the present streams; zeros if there is none.

    The weights are positive; those of absent streams are shared by the others in proportion.
    """
    shown = visible(logits, present, weights)
    total = sum(weight[..., None] * part for weight, part in zip(weights.values(), shown, strict=True))
    share = sum(weight * present[name] for name, weight in weights.items())
    return total / torch.where(share > 0, share, 1.0)[:, None]


class Mean(Head):
    """The mean of the present streams' own logits; nothing to learn."""

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.classify = nn.Identity()  # the fused feature is the logits

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        one = outputs.logits[self.streams[0]].new_ones(())
        return weighted_mean(outputs.logits, present, dict.fromkeys(self.streams, one))
