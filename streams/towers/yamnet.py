"""YAMNet as a tower for sound, yamnet:FILE, with weights from a file that the user has.

MobileNet v1 (Howard et al. 2017) on patches of 0.96 s × 64 mel bands, trained on AudioSet (Hershey et al. 2017; Plakal
and Ellis, github.com/tensorflow/models, research/audioset/yamnet). No package carries the weights with a licence.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad

from preprocess.store.format import SILENCE
from streams.audio import CENTRE, PATCH, SPREAD, STEP
from streams.towers.published import Published
from streams.towers.yamnet_file import EPSILON, yamnet_weights

RATE = 16_000  # Hz
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands of its input, and their edges in Hz
BIN, OURS = RATE / 512, RATE / 1024  # Hz from one bin to the next of its spectrum, and of the store's
OFFSET = 0.001  # of its logarithm
FLOOR = float(np.exp(np.float32(np.float16(SILENCE))))  # the power that silence has in the store
LEAST = 1e-14  # of a power, so that it has a logarithm
RAYLEIGH = np.sqrt(np.pi) / 2  # mean magnitude of noise by the root of its mean power
FIRST = 32  # channels of the first layer
# stride and channels of the others, each a depthwise and a pointwise convolution
LAYERS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))


class YamnetTower(nn.Module):
    """Each patch of 0.96 s through YAMNet, averaged over time and bands: a step each 0.48 s.

    Our log-mel is not what the weights were trained on: power over Slaney's bands of 0 to 8000 Hz instead of magnitude
    over HTK's of 125 to 7500 Hz. The logarithm of the magnitude is interpolated between the centres of our bands, as if
    sound were noise within each, of YAMNet's width; `tests/streams/test_yamnet.py` measures how near that comes. Sound
    that is no whole number of patches is followed by silence. Batch norm keeps the statistics of the weights also in
    training, as in ImageTower.
    """

    name, features = "yamnet", LAYERS[-1][1]

    def __init__(self, *, file: Path, bands: int) -> None:
        super().__init__()
        self.file = file
        layers: dict[str, nn.Module] = {"layer1": _Convolution(1, FIRST, size=3, stride=2)}
        channels = FIRST
        for number, (stride, out) in enumerate(LAYERS, start=2):
            depthwise = _Convolution(channels, channels, size=3, stride=stride, groups=channels)
            pair = {"depthwise_conv": depthwise, "pointwise_conv": _Convolution(channels, out)}
            layers[f"layer{number}"] = nn.Sequential(OrderedDict(pair))
            channels = out
        self.layers = nn.Sequential(OrderedDict(layers, mean=_Mean())).to(memory_format=torch.channels_last)
        between, wider = bands_to_yamnet(bands)
        self.register_buffer("between", torch.from_numpy(between).float(), persistent=False)
        self.register_buffer("wider", torch.from_numpy(wider).float()[:, None], persistent=False)

    def train(self, mode: bool = True) -> "YamnetTower":
        super().train(mode)
        self.layers.eval()
        return self

    def forward(self, sound: Tensor) -> Tensor:
        """(B, M, T) of the stream → (B, T', 1024); features that were kept, (B, 1024, T'), as they are"""
        if sound.shape[1] == self.features:
            return sound.transpose(1, 2)
        return rearrange(self.layers(self.pictures(sound)), "(b s) d -> b s d", b=len(sound))

    def pictures(self, sound: Tensor) -> Tensor:
        """The network's input, a picture a patch: (B, M, T) → (B T', 1, 96, 64)"""
        mel = self.log_mel(sound * SPREAD + CENTRE)
        missing = max(PATCH - mel.shape[2], -(mel.shape[2] - PATCH) % STEP)
        mel = pad(mel, (0, missing), value=float(np.log(OFFSET)))
        return rearrange(mel.unfold(2, PATCH, STEP), "b m s t -> (b s) 1 t m")

    def log_mel(self, mel: Tensor) -> Tensor:
        """The store's natural log of mel power, (B, M, T) → YAMNet's of mel magnitude, (B, 64, T)"""
        with torch.autocast(mel.device.type, enabled=False):  # eight bits of mantissa are few for a logarithm
            power = (mel.float().exp() - FLOOR).clamp(min=LEAST)
            magnitude = torch.einsum("ym,bmt->byt", self.between, power.log() / 2) + self.wider
            return torch.log(magnitude.exp() + OFFSET)

    def published(self) -> Published:
        """The weights in the file.

        Raises UserError if it is not there, or is not YAMNet's.
        """
        shapes = {name: value.shape for name, value in self.layers.state_dict().items()}
        tensors, licence = yamnet_weights(self.file, shapes)
        return Published(f"YAMNet's weights {self.file}", self.file, tensors, licence)


def yamnet_tower(file: str, *, channels: int) -> YamnetTower:
    """The tower; `channels` are the bands of the store's log-mel. The file is read when its weights are asked for."""
    return YamnetTower(file=Path(file).expanduser(), bands=channels)


def bands_to_yamnet(bands: int) -> tuple[np.ndarray, np.ndarray]:
    """(64, M), the weights of our bands in each of YAMNet's; (64,), what a sum over its band adds to log magnitude."""
    edges = np.linspace(_htk(LOWEST), _htk(HIGHEST), BANDS + 2)
    centres = 700 * np.expm1(edges[1:-1] / 1127)
    between = np.stack([np.interp(centres, _centres(bands), row) for row in np.eye(bands)], axis=1)
    mel = _htk(np.arange(RATE // 2 // BIN + 1) * BIN)[:, None]
    low, middle, high = (edges[k : k + BANDS] for k in range(3))
    triangles = np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)).clip(0)
    return between, np.log(triangles.sum(axis=0) * RAYLEIGH * np.sqrt(OURS))


def _centres(bands: int) -> np.ndarray:
    """(M,) the centres in Hz of the store's bands: even on Slaney's scale, linear to 1 kHz and logarithmic above."""
    edge, octaves = 1000.0, 27 / np.log(6.4)  # Hz, and steps of the scale an e-fold; 15 steps below the edge
    highest = 15 + octaves * np.log(RATE / 2 / edge)
    places = np.linspace(0, highest, bands + 2)[1:-1]
    return np.where(places < 15, edge / 15 * places, edge * np.exp((places - 15) / octaves))


def _htk(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU; a stride pads an even length as TensorFlow does, after it alone."""

    def __init__(self, channels: int, out: int, *, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        before = size // 2 if stride == 1 else 0
        self.pad = nn.ZeroPad2d((before, size // 2, before, size // 2))
        self.conv = nn.Conv2d(channels, out, size, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, T, M) → (N, out, T / stride, M / stride)"""
        return torch.relu(self.bn(self.conv(self.pad(maps))))


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        """(N, D, T, M) → (N, D)"""
        return maps.mean(dim=(2, 3))
