"""Max pooling that keeps the last row of an odd size, for export with sizes that vary."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedPool(nn.Module):
    """The same as a max pooling with ceil_mode whose kernel is its stride.

    It fills the last window up instead: the shape of ceil_mode has cases, of which torch.export keeps one.
    """

    def __init__(self, pool: nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d, axes: int) -> None:
        super().__init__()
        self.size = pool.kernel_size if isinstance(pool.kernel_size, tuple) else (pool.kernel_size,) * axes
        assert pool.stride in (pool.kernel_size, None) and pool.padding == 0 and pool.dilation == 1
        self.pool = getattr(functional, f"max_pool{max(2, axes)}d")  # max_pool1d would fix the length

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, …) → (B, C, …)"""
        lacking = [
            (length + size - 1) // size * size - length
            for length, size in zip(values.shape[2:], self.size, strict=True)
        ]
        sides = [side for more in reversed(lacking) for side in (0, more)]
        full = functional.pad(values, sides, value=torch.finfo(values.dtype).min)
        if len(self.size) == 1:
            return self.pool(full[:, :, None], (1, *self.size))[:, :, 0]
        return self.pool(full, self.size)


def pad_pools(module: nn.Module) -> None:
    """Put a PaddedPool in the place of every max pooling with ceil_mode in a module."""
    kinds = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in kinds and child.ceil_mode:
                setattr(parent, name, PaddedPool(child, kinds[type(child)]))
