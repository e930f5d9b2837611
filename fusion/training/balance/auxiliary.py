"""Every stream's own loss beside the fused one, with a fixed weight; the hooks that the other methods change."""

from torch import Tensor, nn

from fusion.heads.head import Mask
from fusion.model import FusionModel, Output
from fusion.training.loss import Counts, Losses, joint_loss
from fusion.training.ranks import Ranks


class Auxiliary(nn.Module):
    """The default. Its hooks are called in each step in this order; those of other methods take their place.

    A method's state between steps is in buffers: they are saved in every checkpoint, and a skipped step leaves them
    unchanged. All measurements are summed over the ranks, so that these stay alike.
    """

    def __init__(self, *, streams: tuple[str, ...], auxiliary: float, epochs: int) -> None:
        """auxiliary: the weight of the streams' own losses; epochs: number in the whole run."""
        super().__init__()
        self.streams = streams
        self.auxiliary = auxiliary

    def choose(self, use: Mask) -> Mask:
        """The mask of streams that the fusion head may use, from those available: {(B,)} → {(B,)}"""
        return use

    def backward(self, losses: Losses, model: FusionModel) -> Tensor:
        """Add the gradients of a part of the batch; return the loss, ()."""
        loss = joint_loss(losses, auxiliary=self.auxiliary)
        loss.backward()
        return loss.detach()

    def observe(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        """Observe the model's output for a part of a batch that has `counts` rows in all.

        targets: (B, K), present: {(B,)}
        """

    def modulate(self, model: FusionModel, counts: Counts, ranks: Ranks, *, seed: int) -> None:
        """Change the gradients of the whole batch, which all ranks share, as they share the step's seed.

        The encoders of streams in no row, by `counts`, have no gradients.
        """

    def pace(self, stream: str) -> float | Tensor:
        """The factor on the learning rate of the stream's encoder in this step."""
        return 1.0

    def watch(self, output: Output, labels: Tensor, present: Mask) -> None:
        """Observe the model's output for a batch of validation videos."""

    def end_epoch(self, ranks: Ranks) -> dict[str, float]:
        """Called after validation; returns values to log."""
        return {}
