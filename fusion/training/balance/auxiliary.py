"""Every stream's own loss beside the fused one, with a fixed weight; the hooks that the other methods change."""

from torch import Tensor, nn

from fusion.heads.head import Mask
from fusion.model import FusionModel, Output
from fusion.training.loss import Counts, Losses, joint_loss
from fusion.training.ranks import Ranks


class Auxiliary(nn.Module):
    """The default. Its hooks are called in each step in this order; those of other methods take their place.

    What a method must remember from one step to the next are its buffers: they are in every checkpoint, and a step that
    is skipped leaves them as they were. All that it measures it adds up over the ranks, so that they go on alike.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        """auxiliary: the weight of the streams' own losses; epochs: of the whole run."""
        super().__init__()
        self.streams = streams
        self.auxiliary = auxiliary

    def choose(self, use: Mask) -> Mask:
        """What the fusion head may look at, of what it could: {(B,)} → {(B,)}"""
        return use

    def backward(self, losses: Losses, model: FusionModel) -> Tensor:
        """Add to the gradients of a part of the batch; returns the loss, ()."""
        loss = joint_loss(losses, auxiliary=self.auxiliary)
        loss.backward()
        return loss.detach()

    def observe(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        """See what the model made of a part of a batch that has `counts` rows in all.

        targets: (B, K), present: {(B,)}
        """

    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        """Change the gradients of the whole batch, which all ranks have alike, and so is the seed of the step.

        The encoders of streams that nobody has, by `counts`, have none.
        """

    def pace(self, stream: str) -> float | Tensor:
        """The share of the learning rate at which the stream's encoder learns from this step."""
        return 1.0

    def watch(self, output: Output, labels: Tensor, present: Mask) -> None:
        """See what the model makes of a batch of validation videos."""

    def end_epoch(self, ranks: Ranks) -> dict[str, float]:
        """After validation; returns what is logged."""
        return {}
