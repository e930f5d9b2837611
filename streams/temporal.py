"""Models of time: a tower's sequence in, a sequence of features out, each step from itself and those before it."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

KERNEL = 3  # steps that a convolution sees, `dilation` apart
DILATIONS = (1, 2, 4, 8)  # of the blocks: a step sees itself and the 60 before it


class Tcn(nn.Module):
    """A temporal convolutional network: residual blocks of causal convolutions, each dilated twice as far as before.

    Bai et al. 2018, section 3. Causal, as an LSTM that runs one way is.
    """

    def __init__(self, inputs: int, feature: int, *, dropout: float) -> None:
        super().__init__()
        widths = [inputs, *[feature] * len(DILATIONS)]
        self.blocks = nn.Sequential(
            *(_Block(widths[at], feature, dilation=by, dropout=dropout) for at, by in enumerate(DILATIONS))
        )

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:
        """(B, T, C) → (B, T, D), and nothing in the place of the last state"""
        return rearrange(self.blocks(rearrange(steps, "b t c -> b c t")), "b d t -> b t d"), None


class Mean(nn.Module):
    """No model of time: one linear layer for all steps, so that the mean over them does not depend on their order."""

    def __init__(self, inputs: int, feature: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, feature)

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:
        """(B, T, C) → (B, T, D), and nothing in the place of the last state"""
        return self.layer(steps), None


# each: (B, T, C) → (B, T, D), and its last state, which is not used
TEMPORAL = {
    "lstm": lambda inputs, feature, dropout: nn.LSTM(inputs, feature, batch_first=True),
    "gru": lambda inputs, feature, dropout: nn.GRU(inputs, feature, batch_first=True),
    "tcn": lambda inputs, feature, dropout: Tcn(inputs, feature, dropout=dropout),
    "mean": lambda inputs, feature, dropout: Mean(inputs, feature),
}


def split_temporal(tower: str) -> tuple[str, str | None]:
    """``"cnn+lstm"`` → ``("cnn", "lstm")``, ``"cnn"`` → ``("cnn", None)``"""
    name, _, temporal = tower.rpartition("+")
    return (name, temporal) if name and temporal in TEMPORAL else (tower, None)


class _Block(nn.Module):
    """Two causal convolutions with weight normalisation, ReLU and dropout, beside a shortcut (figure 1b)."""

    def __init__(self, inputs: int, out: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_causal(inputs, out, dilation=dilation, dropout=dropout),
            *_causal(out, out, dilation=dilation, dropout=dropout),
        )
        self.shortcut = nn.Identity() if inputs == out else nn.Conv1d(inputs, out, 1)

    def forward(self, steps: Tensor) -> Tensor:
        """(B, C, T) → (B, D, T)"""
        return nn.functional.relu(self.layers(steps) + self.shortcut(steps))


def _causal(inputs: int, out: int, *, dilation: int, dropout: float) -> list[nn.Module]:
    before = nn.ConstantPad1d(((KERNEL - 1) * dilation, 0), 0.0)  # nothing after: no step sees the next
    return [before, weight_norm(nn.Conv1d(inputs, out, KERNEL, dilation=dilation)), nn.ReLU(), nn.Dropout(dropout)]
