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
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    torch.manual_seed(seed)
    model.eval()
    model.training = True  # the model itself only: a rank without rows of a stream must join the others' sums
    for norm in norms:
        norm.train()
        norm.momentum = None  # the mean of all batches that have the stream; without any, nothing changes
        norm.num_batches_tracked.zero_()
    with torch.no_grad():
        for batch in (batch.to(device) for batch in batches):
            clips = batch.inputs(training=True)
            with mixed_precision(device):
                model.encode(clips, batch.present, rows=batch.rows)
    model.eval()
    for norm, (momentum, count) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.copy_(count)
