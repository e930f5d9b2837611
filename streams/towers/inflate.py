"""Conversion of a first layer's weights to another number of input channels or mel bands."""

import torch
from torch import Tensor
from torch.nn import functional


def inflate_channels(weight: Tensor, channels: int) -> Tensor:
    """A visual layer's weights for another number of input channels: (O, C, ...) → (O, channels, ...)

    The mean over the input channels, repeated: cross-modality pre-training of temporal segment networks (Wang et al.
    2016), which takes an RGB layer to flow. Rescaled by C / channels, so that an input of identical channels gets the
    same response as before, as I3D (Carreira and Zisserman 2017) does when it repeats filters over time.
    """
    mean = weight.mean(dim=1, keepdim=True) * (weight.shape[1] / channels)
    return mean.repeat_interleave(channels, dim=1)


def resize_bands(weight: Tensor, bands: int) -> Tensor:
    """An audio layer's weights for another number of mel bands: (O, M, K) → (O, bands, K)

    The response is that of the old layer to the new sound with its bands interpolated to M.
    """
    to_old = stretch_bands(torch.eye(bands, dtype=weight.dtype), weight.shape[1])  # (bands, M)
    return torch.einsum("omk,nm->onk", weight, to_old)


def stretch_bands(values: Tensor, bands: int) -> Tensor:
    """Linear interpolation along the last axis, which is mel bands: (..., M) → (..., bands)"""
    rows = values.reshape(1, -1, values.shape[-1])
    return functional.interpolate(rows, size=bands, mode="linear").reshape(*values.shape[:-1], bands)
