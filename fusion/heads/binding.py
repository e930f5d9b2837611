"""Fusion at each time step, before aggregation over time."""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from fusion.heads.head import Head, Mask, StreamOutputs, visible

WINDOWS = 8  # windows of time in a clip


class Binding(Head):
    """The towers' sequences joined at each time step, then one LSTM over the joined sequence.

    Kazakos et al. 2019, section 3: streams are joined within a window of time, by weights that all windows share,
    before time is aggregated; theirs is aggregated by a mean, ours by an LSTM and the mean of its output. The clip of
    each stream, however many steps it has, is divided into WINDOWS, and each window is averaged; so the streams are
    aligned by relative time in their clips, and a clip that covers more seconds is squeezed. An absent stream is zeros,
    with a flag for its absence.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(sum(channels.values()) + len(channels), feature, batch_first=True)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature, classes))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """towers {(B, T', C)}, present {(B,)} → (B, D)"""
        return self.join(outputs, present).mean(dim=1)

    def join(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """→ (B, WINDOWS, D), the LSTM's sequence"""
        shown = visible(outputs.towers, present, self.streams)
        windows = torch.cat([_windows(part) for part in shown], dim=2)
        if not windows.shape[0]:  # one of several processes may have no rows, which an LSTM does not accept
            return windows.new_zeros(0, WINDOWS, self.lstm.hidden_size)
        flags = torch.stack([present[name] for name in self.streams], dim=1).to(windows.dtype)
        steps = torch.cat([self.dropout(windows), repeat(flags, "b s -> b w s", w=WINDOWS)], dim=2)
        return self.lstm(steps)[0]


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
