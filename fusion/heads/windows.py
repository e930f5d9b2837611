"""Windows of time in which streams of different steps meet."""

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from fusion.heads.head import Mask, StreamOutputs, visible

WINDOWS = 8  # of a clip


def in_windows(outputs: StreamOutputs, present: Mask, streams: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The towers' outputs side by side in each window, and a flag a stream: → (B, WINDOWS, C), (B, WINDOWS, streams)

    The clip of each stream, however many steps it has, is divided into WINDOWS, and each window is averaged; so the
    streams are aligned by relative time in their clips, and a clip that covers more seconds is squeezed. An absent
    stream is zeros, with a flag for its absence.
    """
    windows = torch.cat([_windows(part) for part in visible(outputs.towers, present, streams)], dim=2)
    flags = torch.stack([present[name] for name in streams], dim=1).to(windows.dtype)
    return windows, repeat(flags, "b s -> b w s", w=WINDOWS)


def _windows(sequence: Tensor) -> Tensor:
    """(B, T', C) → (B, WINDOWS, C)"""
    if torch.compiler.is_exporting():  # ONNX has no adaptive pooling of any length
        return _shares(sequence.shape[1], sequence) @ sequence
    by_channel = rearrange(sequence, "b t c -> b c t")
    return rearrange(adaptive_avg_pool1d(by_channel, WINDOWS), "b c w -> b w c")


def _shares(steps: int, like: Tensor) -> Tensor:
    """(WINDOWS, T'): the share of each step in the mean of each window, as adaptive_avg_pool1d divides them."""
    window = torch.arange(WINDOWS, device=like.device)[:, None]
    begin, end = window * steps // WINDOWS, -(-(window + 1) * steps // WINDOWS)
    place = torch.arange(steps, device=like.device)
    inside = ((place >= begin) & (place < end)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
