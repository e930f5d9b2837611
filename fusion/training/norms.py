"""Batch norm's statistics for evaluation, estimated anew from clips that look like those to evaluate."""

from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fusion.device import mixed_precision
from fusion.model import FusionModel
from streams.batch import Batch


def estimate_norms(model: FusionModel, batches: Iterable[Batch], *, device: torch.device, seed: int) -> None:
    """Precise batch norm (Wu and Johnson 2021, section 3): means over `batches` instead of a moving average.

    Random crops show things larger than in evaluation (Touvron et al. 2019), and mixed clips vary less, so statistics
    gathered in training do not fit. The clips here are cut from the middle and not mixed; their colours and sounds are
    varied as in training, since the model knows the plain training clips by heart. The model is left in evaluation
    mode; with several ranks the statistics are the whole batch's, as in training.
    """
    model.train()
    learning = [module for module in model.encoders.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in learning if norm.training]  # not those that keep their statistics
    means = [_Mean(norm) for norm in norms]
    torch.manual_seed(seed)
    model.eval()
    model.training = True  # the model itself only: a rank without rows of a stream must join the others' sums
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for batch in (batch.to(device) for batch in batches):
            clips = batch.inputs(training=True)
            with mixed_precision(device):
                model.encode(clips, batch.present, rows=batch.rows)
            for mean in means:
                mean.add()
        for mean in means:
            mean.finish()
    model.eval()


class _Mean:
    """The mean of a layer's statistics over all batches that have the stream; without any, they stay as they were.

    With a momentum of one a layer holds the statistics of the latest batch. Sums are taken here, since PyTorch's own
    mean, a momentum of None, breaks a compiled graph and waits for the device in every layer.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm, self.momentum = norm, norm.momentum
        self.seen = norm.num_batches_tracked.clone()
        self.before = [buffer.clone() for buffer in self._buffers()]
        self.sums = [torch.zeros_like(buffer) for buffer in self._buffers()]
        self.count = torch.zeros_like(norm.num_batches_tracked)
        norm.momentum = 1.0
        norm.num_batches_tracked.zero_()

    def add(self) -> None:
        """Take the statistics of the batch that went through the layer, if one did."""
        is_new = self.norm.num_batches_tracked > self.count
        for total, buffer in zip(self.sums, self._buffers(), strict=True):
            total += buffer * is_new
        self.count.copy_(self.norm.num_batches_tracked)

    def finish(self) -> None:
        """Write the means into the layer."""
        for before, total, buffer in zip(self.before, self.sums, self._buffers(), strict=True):
            buffer.copy_(torch.where(self.count > 0, total / self.count.clamp(min=1), before))
        self.norm.momentum = self.momentum
        self.norm.num_batches_tracked.copy_(self.seen)

    def _buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.norm.running_mean, self.norm.running_var
