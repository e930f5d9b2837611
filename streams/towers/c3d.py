"""C3D (Tran et al. 2015)."""

import torch
from einops import reduce
from torch import Tensor, nn

from streams.towers.convolutional import he_normal

# figure 3: eight convolutions of 3 × 3 × 3 and five max poolings; the names are those of its PyTorch ports
CONVOLUTIONS = {
    "conv1": 64,
    "conv2": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}
POOLS = {"conv1": (1, 2, 2)} | dict.fromkeys(("conv2", "conv3b", "conv4b", "conv5b"), (2, 2, 2))  # after these


class C3d(nn.Module):
    """The convolutions of C3D, with the paper's sizes; `width` is ignored.

    Time shrinks 16 times and space 32 times: of the paper's clip, 16 × 112 × 112, 1 × 4 × 4 is left. Where the paper
    has three fully connected layers of 50 million weights, for that size alone, space is averaged here, so that clips
    of any size are taken; the model of time and the head follow. Nothing is normalised, so that it starts from weights
    by He et al. 2015 and wants a low learning rate.
    """

    shrinks = 16  # pictures a time step

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        before = channels
        for name, out in CONVOLUTIONS.items():
            self.layers.add_module(name, nn.Conv3d(before, out, 3, padding=1))
            self.layers.add_module(name.replace("conv", "relu"), nn.ReLU(inplace=True))
            if name in POOLS:  # as in Caffe, the last row of an odd size is kept
                self.layers.add_module(name.replace("conv", "pool"), nn.MaxPool3d(POOLS[name], ceil_mode=True))
            before = out
        self.features = before
        he_normal(self)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T / 16, 512)"""
        return reduce(self.layers(clip), "b d t h w -> b t d", "mean")
