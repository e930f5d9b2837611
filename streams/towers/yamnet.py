"""YAMNet as a tower for sound, yamnet:FILE, with weights from a file that the user has.

MobileNet v1 (Howard et al. 2017) on patches of 0.96 s × 64 mel bands, trained on AudioSet (Hershey et al. 2017; Plakal
and Ellis, github.com/tensorflow/models, research/audioset/yamnet). No package carries the weights with a licence.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad

from preprocess.common.errors import UserError
from preprocess.store.format import MEL_FLOOR
from streams.audio import CENTRE, SPREAD
from streams.towers.published import Published, first_line, library

RATE = 16_000  # Hz
PATCH, STEP = 96, 48  # rows of 10 ms: a patch, and from one to the next
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands of its input, and their edges in Hz
BINS = 257  # of its spectrum, from 0 to RATE / 2
OFFSET = 0.001  # of its logarithm
OURS = RATE / 1024  # Hz of a bin of our spectrum
RAYLEIGH = np.sqrt(np.pi) / 2  # mean magnitude of noise by the root of its mean power
# stride and channels of the layers after the first, each a depthwise and a pointwise convolution
LAYERS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))
FIRST = 32  # channels of the first
EPSILON = 1e-4  # of batch norm

Arrays = dict[str, np.ndarray]


class YamnetTower(nn.Module):
    """(B, M, T) → (B, T', 1024), a step each 0.48 s; shorter sound is followed by silence.

    Our log-mel differs from what the weights were trained on: power instead of magnitude, Slaney's bands instead of
    HTK's. The magnitudes are interpolated between our bands and summed up over YAMNet's, as if sound were noise within
    each band; `tests/streams/towers/test_yamnet.py` says how near that comes.
    """

    features = 1024

    def __init__(self, file: str, *, bands: int) -> None:
        super().__init__()
        self.name, self.file = f"yamnet:{file}", Path(file)
        channels = [FIRST, *(out for _, out in LAYERS)]
        pairs = zip(channels[:-1], LAYERS, strict=True)
        self.layers = nn.Sequential(
            _Convolution(1, FIRST, size=3, stride=2),
            *(
                nn.Sequential(_Convolution(into, into, size=3, stride=stride, groups=into), _Convolution(into, out))
                for into, (stride, out) in pairs
            ),
        )
        self.register_buffer("bands", torch.from_numpy(band_matrix(bands)).float(), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """(B, M, T) as the audio stream gives it → (B, T', 1024)"""
        if sound.ndim != 3:
            raise UserError(f"{self.name} takes sound, not pictures")
        mel = self.log_mel(sound * SPREAD + CENTRE)
        rest = max(PATCH - mel.shape[2], -(mel.shape[2] - PATCH) % STEP)
        mel = pad(mel, (0, rest), value=float(np.log(OFFSET)))
        patches = mel.unfold(2, PATCH, STEP)  # (B, M, T', PATCH)
        steps = patches.shape[2]
        pictures = rearrange(patches, "b m s t -> (b s) 1 t m")
        return rearrange(self.layers(pictures).mean(dim=(2, 3)), "(b s) d -> b s d", s=steps)

    def log_mel(self, mel: Tensor) -> Tensor:
        """Our natural log of mel power, (B, M, T) → YAMNet's log of mel magnitude, (B, 64, T)"""
        power = (mel.float().exp() - MEL_FLOOR).clamp(min=0) * OURS
        return torch.log(torch.einsum("ym,bmt->byt", self.bands, power.sqrt() * RAYLEIGH) + OFFSET)

    def published(self) -> Published:
        """The weights in the file, whose names are those of this tower, or of TensorFlow's model.

        Raises UserError if it is not there, or is not YAMNet's.
        """
        if not self.file.is_file():
            raise UserError(f"--towers audio={self.name}: there is no file {self.file}")
        arrays = _onnx(self.file) if self.file.suffix == ".onnx" else _safetensors(self.file)
        tensors = {}
        for (name, convolution), found in zip(self._convolutions(), arrays, strict=False):
            tensors |= {f"layers.{name}.{key}": torch.from_numpy(value) for key, value in found.items()}
            for key, wanted in convolution.state_dict().items():
                there = tensors.setdefault(f"layers.{name}.{key}", wanted)
                if there.shape != wanted.shape:
                    shapes = f"{tuple(there.shape)}, not {tuple(wanted.shape)}"
                    raise UserError(f"{self.file} is not YAMNet's: layer {name}'s {key} is {shapes}")
        if len(tensors) < len(self.state_dict()):
            raise UserError(f"{self.file} is not YAMNet's: it has {len(arrays)} convolutions of 27")
        return Published(f"YAMNet's weights {self.file.name}", self.file, tensors)

    def _convolutions(self) -> Iterator[tuple[str, "_Convolution"]]:
        return ((name, part) for name, part in self.layers.named_modules() if isinstance(part, _Convolution))


def yamnet_tower(file: str, *, channels: int) -> YamnetTower:
    """The tower; `channels` are the bands of the store's log-mel. The file is read when its weights are asked for."""
    return YamnetTower(file, bands=channels)


def band_matrix(bands: int) -> np.ndarray:
    """(64, M): what a magnitude in each of our bands adds to each of YAMNet's."""
    bins = np.linspace(0, RATE / 2, BINS)
    shares = np.stack([np.interp(bins, _centres(bands), row) for row in np.eye(bands)], axis=1)  # (BINS, M)
    mel, edges = _htk(bins), np.linspace(_htk(LOWEST), _htk(HIGHEST), BANDS + 2)
    low, middle, high = (edges[k : k + BANDS, None] for k in range(3))
    triangles = np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)).clip(0)
    triangles[:, 0] = 0  # as TensorFlow's linear_to_mel_weight_matrix
    return triangles @ shares


def _centres(bands: int) -> np.ndarray:
    """(M,) the middles in Hz of Slaney's bands between 0 and RATE / 2, those of the store's log-mel."""
    from torchaudio.functional import melscale_fbanks

    bins = np.linspace(0, RATE / 2, 513)
    filters = melscale_fbanks(513, 0.0, RATE / 2, bands, RATE, norm="slaney", mel_scale="slaney").numpy()
    return (filters * bins[:, None]).sum(axis=0) / filters.sum(axis=0)


def _htk(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU; where it strides it pads as TensorFlow does: more after than before."""

    def __init__(self, channels: int, out: int, *, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.before, self.size, self.stride = (size - 1) // 2, size, stride
        self.conv = nn.Conv2d(channels, out, size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T, M) → (B, out, T / stride, M / stride)"""
        amounts = []
        for length in (maps.shape[3], maps.shape[2]):
            total = max(0, (-(-length // self.stride) - 1) * self.stride + self.size - length)
            amounts += [total // 2, total - total // 2]
        return torch.relu(self.norm(self.conv(pad(maps, amounts))))


def _safetensors(file: Path) -> list[Arrays]:
    """The arrays of each convolution, in the order of the layers, under our names.

    TensorFlow's kernels are (height, width, in, out), of depthwise ones (height, width, channels, 1).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        there = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged, or no safetensors file ({first_line(error)})") from error
    ours = {name.removeprefix("tower.").removeprefix("layers."): value for name, value in there.items()}
    found: list[Arrays] = []
    if any(name.endswith("conv.weight") for name in ours):
        for name in sorted((name for name in ours if name.endswith("conv.weight")), key=_layer_order):
            stem = name.removesuffix("conv.weight")
            its = {key.removeprefix(stem): value for key, value in ours.items() if key.startswith(stem)}
            found.append({key: value for key, value in its.items() if not key.endswith("num_batches_tracked")})
        return found
    names = [name.replace(".", "/").replace(":0", "") for name in there]
    values = dict(zip(names, there.values(), strict=True))
    for layer in range(1, 2 + len(LAYERS)):
        for part in ("conv",) if layer == 1 else ("depthwise_conv", "pointwise_conv"):
            place = f"layer{layer}/{part}/"
            its = {name.split(place)[1]: value for name, value in values.items() if place in name}
            kernel = its.get("kernel", its.get("depthwise_kernel", its.get("depthwise_weights")))
            if kernel is None or kernel.ndim != 4:
                raise UserError(f"{file} is not YAMNet's: it has no layer{layer}/{part}/kernel of four axes")
            order = (2, 3, 0, 1) if part == "depthwise_conv" else (3, 2, 0, 1)
            arrays = {"conv.weight": np.ascontiguousarray(kernel.transpose(order))}
            for theirs, name in (("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var")):
                value = next((v for key, v in its.items() if key.endswith(theirs)), None)
                if value is None:
                    raise UserError(f"{file} is not YAMNet's: layer{layer}/{part} has no {theirs}")
                arrays[f"norm.{name}"] = value
            found.append(arrays)
    return found


def _layer_order(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdigit()]


def _onnx(file: Path) -> list[Arrays]:
    """The arrays of each convolution of an ONNX graph, in its order; batch norm apart, or folded into them."""
    onnx = library(f"yamnet:{file}", "onnx", "onnx")
    try:
        graph = onnx.load(str(file)).graph
        weights = {one.name: onnx.numpy_helper.to_array(one).astype(np.float32) for one in graph.initializer}
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{file} is damaged, or no ONNX file ({first_line(error)})") from error
    after = {name: node for node in graph.node for name in node.input}
    found = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        if any(name not in weights for name in node.input[1:]):
            raise UserError(f"{file}: the weights of a convolution are computed in the graph; export it with constants")
        kernel = weights[node.input[1]]
        shift = weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel), np.float32)
        arrays = {"conv.weight": kernel, "norm.bias": shift}
        norm = after.get(node.output[0])
        if norm is not None and norm.op_type == "BatchNormalization":
            scale, bias, mean, variance = (weights[name] for name in norm.input[1:5])
            arrays |= {"norm.weight": scale, "norm.bias": bias, "norm.running_mean": mean - shift}
            arrays["norm.running_var"] = variance
        else:  # folded: a norm that changes nothing but by its shift
            arrays["norm.running_var"] = np.full(len(kernel), 1 - EPSILON, np.float32)
        found.append(arrays)
    return found
