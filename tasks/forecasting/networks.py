"""Networks that forecast frames: ConvLSTM encoder–forecaster and SimVP, both on patches of 4 x 4 pixels.

Both see the past frames, with their velocities if they learn from flow, and for each frame to come a base: the last
frame moved on by flow, or simply the last frame. Their answer is a share of the base plus what they add to it, so that
untrained they give the base.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from preprocess.common.errors import UserError

PATCH = 4  # pixels of the side of a patch; the sides of frames are multiples of it


class Join(nn.Module):
    """Answers from the features of the frames to come: a share of the base, and an addition, in pixels."""

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.last = nn.Conv2d(width, 2 * channels * PATCH**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(PATCH)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, base: Tensor) -> Tensor:
        """(B, D, H / 4, W / 4) and base (B, C, H, W) → (B, C, H, W)"""
        added, share = self.shuffle(self.last(features)).float().chunk(2, dim=1)
        return base * (1 + share) + added


def patches(channels: int, width: int) -> nn.Sequential:
    """The encoder of one frame: (B, C, H, W) → (B, D, H / 4, W / 4)"""
    return nn.Sequential(
        nn.PixelUnshuffle(PATCH),
        nn.Conv2d(channels * PATCH**2, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.SiLU(),
    )


class Residual(nn.Module):
    """Two convolutions around which the input passes; dilation lets distant places meet."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) → (B, D, H, W)"""
        return x + self.inner(x)


class SimVP(nn.Module):
    """An encoder a frame, a translator over all frames at once, a decoder a frame (Gao et al., CVPR 2022).

    The translator is plain dilated convolutions: the paper's large grouped kernels are several times as slow on a CPU.
    The decoder's skip comes from the base, not from a past frame.
    """

    DILATIONS = (1, 2, 4)

    def __init__(self, *, channels: int, flow: bool, past: int, future: int, width: int, depth: int) -> None:
        super().__init__()
        self.future = future
        self.encoder = patches(channels + 2 * flow, width)
        self.base = patches(channels + 1, width)
        hidden = 8 * width
        self.enter = nn.Conv2d((past + (future if flow else 1)) * width, hidden, 1)
        self.translator = nn.Sequential(
            *(Residual(hidden, self.DILATIONS[number % len(self.DILATIONS)]) for number in range(depth))
        )
        self.leave = nn.Conv2d(hidden, future * width, 1)
        self.decoder = nn.Sequential(nn.SiLU(), nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.SiLU())
        self.join = Join(channels=channels, width=2 * width)

    def forward(self, past: Tensor, moved: Tensor, arrived: Tensor) -> Tensor:
        """past (B, T, C, H, W), with flow C + 2; moved (B, T', C, H, W), arrived (B, T', 1, H, W) → (B, T', C, H, W)

        Without flow moved and arrived have one step, which is the base of all.
        """
        count = len(past)
        seen = self.encoder(rearrange(past, "b t c h w -> (b t) c h w"))
        base = self.base(rearrange(torch.cat([moved, arrived], dim=2), "b t c h w -> (b t) c h w"))
        both = [rearrange(one, "(b t) d h w -> b (t d) h w", b=count) for one in (seen, base)]
        coming = self.leave(self.translator(self.enter(torch.cat(both, dim=1))))
        coming = rearrange(coming, "b (t d) h w -> (b t) d h w", t=self.future)
        each = self.future // moved.shape[1]
        decoded = self.decoder(torch.cat([coming, base.repeat_interleave(each, dim=0)], dim=1))
        answer = self.join(decoded, rearrange(moved, "b t c h w -> (b t) c h w").repeat_interleave(each, dim=0))
        return rearrange(answer, "(b t) c h w -> b t c h w", b=count)


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM (Shi et al., NIPS 2015), without its peepholes."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(inputs + width, 4 * width, 3, padding=1)
        with torch.no_grad():
            self.gates.bias[width : 2 * width] = 1.0  # remember, until told otherwise

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """x (B, D, H, W) and the state before, or None → the state (h, c), each (B, width, H, W)"""
        if state is None:
            zeros = x.new_zeros(len(x), self.width, *x.shape[2:])
            state = zeros, zeros
        hidden, cell = state
        enter, keep, show, new = self.gates(torch.cat([x, hidden], dim=1)).float().chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(cell), cell


class ConvLSTM(nn.Module):
    """Layers that read the past, and as many that go on from their states (Shi et al., NIPS 2015).

    The forecaster sees each step's base; the states of all its layers together give the frame.
    """

    def __init__(self, *, channels: int, flow: bool, past: int, future: int, width: int, depth: int) -> None:
        super().__init__()
        self.future = future
        self.encoder = patches(channels + 2 * flow, width)
        self.base = patches(channels + 1, width)
        hidden = 2 * width
        shape = [(width if number == 0 else hidden, hidden) for number in range(depth)]
        self.readers = nn.ModuleList(ConvLSTMCell(*one) for one in shape)
        self.forecasters = nn.ModuleList(ConvLSTMCell(*one) for one in shape)
        self.decoder = nn.Sequential(nn.Conv2d(depth * hidden + width, 2 * width, 1), nn.SiLU())
        self.join = Join(channels=channels, width=2 * width)

    def forward(self, past: Tensor, moved: Tensor, arrived: Tensor) -> Tensor:
        """past (B, T, C, H, W), with flow C + 2; moved (B, T', C, H, W), arrived (B, T', 1, H, W) → (B, T', C, H, W)

        Without flow moved and arrived have one step, which is the base of all.
        """
        states: list[tuple[Tensor, Tensor] | None] = [None] * len(self.readers)
        for step in range(past.shape[1]):
            self._step(self.readers, self.encoder(past[:, step]), states)
        answers = []
        bases = [self.base(one) for one in torch.cat([moved, arrived], dim=2).unbind(dim=1)]
        for step in range(self.future):
            place = min(step, len(bases) - 1)
            self._step(self.forecasters, bases[place], states)
            shown = [state[0] for state in states if state is not None]
            answers.append(self.join(self.decoder(torch.cat([*shown, bases[place]], dim=1)), moved[:, place]))
        return torch.stack(answers, dim=1)

    @staticmethod
    def _step(cells: nn.ModuleList, x: Tensor, states: list[tuple[Tensor, Tensor] | None]) -> None:
        for number, cell in enumerate(cells):
            states[number] = cell(x, states[number])
            x = states[number][0]


NETWORKS = {"simvp": SimVP, "convlstm": ConvLSTM}


def make_network(
    name: str, *, channels: int, flow: bool, past: int, future: int, width: int, depth: int
) -> SimVP | ConvLSTM:
    """An untrained network. Raises UserError for an unknown name."""
    if name not in NETWORKS:
        raise UserError(f"unknown --network '{name}': known are {', '.join(NETWORKS)}")
    return NETWORKS[name](channels=channels, flow=flow, past=past, future=future, width=width, depth=depth)
