"""Batch norm with statistics of the whole batch, also in distributed training."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over axis 1 of inputs of any number of axes (Ioffe and Szegedy 2015).

    With several processes the sums over their rows are added up, forward and backward, so that the result is that of
    one process with all rows; a process may have no rows. PyTorch's SyncBatchNorm needs CUDA, and rows in every
    process. A single value a channel, which has no variance, is normalised by the running statistics, where PyTorch
    raises an error: a small clip may be alone in its batch.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) → (B, C, ...)"""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self._alone(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        exact = input.float()
        count = exact.new_tensor([float(exact.numel() // exact.shape[1])])
        total = _AddUp.apply(torch.cat([exact.sum(axes), (exact * exact).sum(axes), count]))
        sums, squares, rows = total.split([self.num_features, self.num_features, 1])
        count = rows.clamp(min=1)
        mean = sums / count
        variance = (squares / count - mean * mean).clamp(min=0)
        with torch.no_grad():
            self.num_batches_tracked.add_((rows > 1)[0])  # one value has no variance
            weight = self.momentum * (rows > 1)
            self.running_mean.lerp_(mean, weight.expand_as(mean))
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), weight.expand_as(mean))
        mean = torch.where(rows > 1, mean, self.running_mean)
        variance = torch.where(rows > 1, variance, self.running_var)
        shape = [1, -1, *[1] * (input.ndim - 2)]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (exact * scale.view(shape) + (self.bias - mean * scale).view(shape)).to(input.dtype)

    def _alone(self, input: Tensor) -> Tensor:
        """Batch norm in one process."""
        if not self.training or input.numel() > self.num_features:
            return super().forward(input)
        mean, variance = self.running_mean.clone(), self.running_var.clone()  # the next step changes them in place
        return functional.batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)


class _AddUp(torch.autograd.Function):
    """The sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
