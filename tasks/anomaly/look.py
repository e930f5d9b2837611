"""What parts of a picture look like, to an image network that was trained on ImageNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from streams.towers.image import imagenet_weights, lite_tower

NETWORK = "efficientnet_lite0"
BLOCKS = 5  # of its seven: what they give is a 16th as large as the picture, and not yet a matter of ImageNet's classes
STRIDE = 16  # pixels of the network's picture in a cell


class Look(nn.Module):
    """Pictures → features of their cells: (N, 3, H, W) from -1 to 1 → (N, h, w, D) for a grid of (h, w) cells.

    Each is a mean over its neighbourhood of 3 × 3 (PatchCore; Roth et al., CVPR 2022). Beyond the border are zeros, so
    that things which are cut by it, and look like nothing else, count less.
    """

    def __init__(self) -> None:
        """Raises UserError if the extra `pretrained` is not installed."""
        super().__init__()
        tower = lite_tower(NETWORK, channels=3)
        path, weights = imagenet_weights(tower)
        tower.layers.load_state_dict({name: weights[name] for name in tower.layers.state_dict()})
        self.weights = path.name
        layers = tower.layers
        self.layers = nn.Sequential(layers.conv_stem, layers.bn1, *layers.blocks[:BLOCKS])
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        size = [STRIDE * cells for cells in grid]
        pictures = functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
        found = self.layers(pictures.contiguous(memory_format=torch.channels_last))
        return functional.avg_pool2d(found, 3, stride=1, padding=1).permute(0, 2, 3, 1)
