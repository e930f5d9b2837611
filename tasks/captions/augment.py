"""Other voices: sound whose bands and time are stretched."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def stretch_sound(mel: Tensor, share: float) -> Tensor:
    """Stretch the bands and the time of each row by up to `share`, and move both: (B, M, T), the same shape.

    A longer vocal tract moves the formants of a voice down (Jaitly and Hinton 2013, vocal tract length perturbation);
    a slower speaker takes more time. What comes from beyond the border is the border's.
    """
    bands, time = (1 + share * (2 * torch.rand(2, len(mel), device=mel.device) - 1)).unbind()
    up, later = (share / 2 * (2 * torch.rand(2, len(mel), device=mel.device) - 1)).unbind()
    zero = torch.zeros_like(up)
    maps = torch.stack([torch.stack([time, zero, later], dim=1), torch.stack([zero, bands, up], dim=1)], dim=1)
    picture = mel[:, None]
    grid = affine_grid(maps, list(picture.shape), align_corners=False)
    return grid_sample(picture, grid, padding_mode="border", align_corners=False)[:, 0]
