"""Detached: encoders learn from their own losses alone, and the fusion head from their outputs."""

from torch import Tensor

from fusion.model import FusionModel
from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.loss import FUSED, Losses


class Detached(Auxiliary):
    """Disentangled gradient learning (Wei et al., ICCV 2025): no gradient of the fused loss reaches an encoder.

    Every encoder learns as if it were trained alone: its own loss has weight one. The fusion head, if it has weights,
    learns from the fused loss.
    """

    def backward(self, losses: Losses, model: FusionModel) -> Tensor:
        own = sum(losses[name] for name in self.streams)
        head = [parameter for parameter in model.head.parameters() if parameter.requires_grad]
        if head:  # autograd goes back no further than these: the encoders' graph is kept for their own losses
            losses[FUSED].backward(inputs=head)
        own.backward()
        return (losses[FUSED] + own).detach()
