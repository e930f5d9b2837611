"""Fusion at each time step, before aggregation over time."""

import torch
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, StreamOutputs
from fusion.heads.windows import WINDOWS, in_windows


class Binding(Head):
    """The towers' sequences joined at each time step, then one LSTM over the joined sequence.

    Kazakos et al. 2019, section 3: streams are joined within a window of time, by weights that all windows share,
    before time is aggregated; theirs is aggregated by a mean, ours by an LSTM and the mean of its output.
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
        windows, flags = in_windows(outputs, present, self.streams)
        if not windows.shape[0]:  # one of several processes may have no rows, which an LSTM does not accept
            return windows.new_zeros(0, WINDOWS, self.lstm.hidden_size)
        return self.lstm(torch.cat([self.dropout(windows), flags], dim=2))[0]
