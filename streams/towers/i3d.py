"""I3D: Inception v1 with its filters inflated to 3D (Carreira and Zisserman 2017)."""

import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional

from streams.towers.norm import BatchNorm

# Szegedy et al. 2015, table 1: 1×1; 3×3 after its reduction; 5×5, here 3×3×3, after its; 1×1 after pooling
MIXED = {
    "3b": (64, (96, 128), (16, 32), 32),
    "3c": (128, (128, 192), (32, 96), 64),
    "4b": (192, (96, 208), (16, 48), 64),
    "4c": (160, (112, 224), (24, 64), 64),
    "4d": (128, (128, 256), (24, 64), 64),
    "4e": (112, (144, 288), (32, 64), 64),
    "4f": (256, (160, 320), (32, 128), 128),
    "5b": (256, (160, 320), (32, 128), 128),
    "5c": (384, (192, 384), (48, 128), 128),
}
POOLS = {"4b": ("4a_3x3", 3), "5b": ("5a_2x2", 2)}  # before these: the name, and the size; the stride is 2
EPSILON = 1e-3  # of batch norm, as in the release


class I3d(nn.Module):
    """One stream of I3D up to its average pool, 12.3 million weights; `width` is ignored.

    Time shrinks eight times, space 32 times. The names are those of the public release for PyTorch (pytorch-i3d), so
    that its weights load, rgb_imagenet.pt or flow_imagenet.pt; its classifier is left out. It expects values from -1
    to 1, as RGB has them; its flow is pixels a frame over 20, where ours is on a logarithmic scale. The statistics of
    batch norm move as fast as in the other towers, and not a tenth as fast.
    """

    shrinks = 8  # pictures a time step

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        add = self.layers.add_module
        add("Conv3d_1a_7x7", _Unit(channels, 64, kernel=7, stride=2))
        add("MaxPool3d_2a_3x3", _Pool((1, 3, 3), (1, 2, 2)))
        add("Conv3d_2b_1x1", _Unit(64, 64))
        add("Conv3d_2c_3x3", _Unit(64, 192, kernel=3))
        add("MaxPool3d_3a_3x3", _Pool((1, 3, 3), (1, 2, 2)))
        before = 192
        for name, sizes in MIXED.items():
            if name in POOLS:
                pool, size = POOLS[name]
                add(f"MaxPool3d_{pool}", _Pool((size,) * 3, (2, 2, 2)))
            mixed = _Mixed(before, sizes)
            add(f"Mixed_{name}", mixed)
            before = mixed.out
        self.features = before
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T / 8, 1024)"""
        return reduce(self.layers(clip), "b d t h w -> b t d", "mean")


class _Unit(nn.Module):
    """A convolution with batch norm and ReLU."""

    def __init__(self, channels: int, out: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = BatchNorm(out, eps=EPSILON)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, D, T', H', W')"""
        return functional.relu(self.bn(self.conv3d(_padded(values, self.kernel, self.stride))), inplace=True)


class _Pool(nn.Module):
    """Max pooling of values that are not negative, so that zeros around them change nothing."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, C, T', H', W')"""
        return functional.max_pool3d(_padded(values, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """An Inception module: four branches side by side."""

    def __init__(self, channels: int, sizes: tuple) -> None:
        super().__init__()
        one, (before_three, three), (before_five, five), after_pool = sizes
        self.out = one + three + five + after_pool
        self.b0 = _Unit(channels, one)
        self.b1a, self.b1b = _Unit(channels, before_three), _Unit(before_three, three, kernel=3)
        self.b2a, self.b2b = _Unit(channels, before_five), _Unit(before_five, five, kernel=3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(channels, after_pool)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, out, T, H, W)"""
        branches = self.b0(values), self.b1b(self.b1a(values)), self.b2b(self.b2a(values)), self.b3b(self.b3a(values))
        return torch.cat(branches, dim=1)


def _padded(values: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around, as TensorFlow's SAME has them: ⌈size / stride⌉ outputs, and the odd zero at the end."""
    sides: list[int] = []
    for length, size, step in zip(reversed(values.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        lacking = ((length + step - 1) // step - 1) * step + size - length  # never negative, for step <= size
        sides += [lacking // 2, lacking - lacking // 2]
    return functional.pad(values, sides)
