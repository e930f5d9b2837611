"""Towers of the transformers library, hf:NAME: VideoMAE, V-JEPA 2 and AST, from a folder or the Hugging Face hub."""

import logging
import re
from pathlib import Path

import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional

from preprocess.common.errors import UserError
from preprocess.store.format import SILENCE
from streams.audio import CENTRE, SPREAD
from streams.towers.libraries import resampled
from streams.towers.published import UNSTATED, Published, library, not_loaded

VIDEO = ("videomae", "vjepa2")  # model types of transformers
SOUND = "audio-spectrogram-transformer"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which both video networks expect
AST_MEAN, AST_STD = -4.2677393, 4.5689974  # of log-mel over AudioSet (Gong et al. 2021); it expects half the deviation
FILES = ("model.safetensors", "pytorch_model.bin")


def hf_tower(name: str, *, channels: int) -> nn.Module:
    """The encoder called `name`: a folder, or a repository of the hub, whose config.json is downloaded.

    Raises UserError if transformers is not installed, the configuration cannot be had, or is of another kind of model.
    """
    tower = f"hf:{name}"
    transformers = library(tower, "transformers", "hf")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings come on top of the error below
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except Exception as error:  # no network, no such repository, a damaged file
        raise not_loaded(tower, "configuration", error) from error
    if config.model_type not in (*VIDEO, SOUND):
        raise UserError(f"{tower} is a {config.model_type}: towers can be {', '.join((*VIDEO, SOUND))}")
    if config.model_type == SOUND:
        return SpectrogramTransformer(name=name, config=config, network=transformers.AutoModel.from_config(config))
    if channels != 3:
        raise UserError(f"--towers …={tower}: it is for pictures, with three channels, not {channels}")
    return VideoTransformer(name=name, config=config, network=transformers.AutoModel.from_config(config))


class _Transformer(nn.Module):
    """An encoder of the transformers library, with its own names of weights."""

    def __init__(self, *, name: str, config, network: nn.Module) -> None:
        super().__init__()
        self.name, self.where = f"hf:{name}", name
        self.config, self.features = config, config.hidden_size
        self.layers = _encoder(network)

    def published(self) -> Published:
        """The weights beside the configuration, of the encoder alone."""
        transformers = library(self.name, "transformers", "hf")
        try:
            model, about = transformers.AutoModel.from_pretrained(self.where, output_loading_info=True)
            path = next(filter(None, (_file(self.where, name) for name in FILES)), None)
        except Exception as error:  # no network, a proxy, a full disk, a damaged file
            raise not_loaded(self.name, "weights", error) from error
        if path is None:
            raise UserError(f"{self.name} has its weights in several files or another format, which are not read")
        encoder, missing = _encoder(model), about["missing_keys"]
        prefix = "" if encoder is model else "encoder."
        tensors = {name: value for name, value in encoder.state_dict().items() if prefix + name not in missing}
        return Published(f"{self.name}'s weights", path, tensors, _licence(self.where))


class VideoTransformer(_Transformer):
    """VideoMAE (Tong et al. 2022) or V-JEPA 2 (Assran et al. 2025): tokens of two pictures, averaged over space.

    The clip is brought to the pictures' number and size that the network was trained with.
    """

    def __init__(self, *, name: str, config, network: nn.Module) -> None:
        super().__init__(name=name, config=config, network=network)
        self.frames = getattr(config, "num_frames", None) or config.frames_per_clip
        side = getattr(config, "image_size", None) or config.crop_size
        self.size = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
        for part, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(part, torch.tensor(values).view(-1, 1, 1, 1), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) in -1…1 → (B, frames / 2, D), of the network's number of frames"""
        if clip.ndim != 5:
            raise UserError(f"{self.name} takes pictures, not sound")
        clip = ((resampled(clip, self.frames, self.size) + 1) / 2 - self.mean) / self.std
        tokens = self.layers(clip.transpose(1, 2)).last_hidden_state
        return reduce(tokens, "b (t s) d -> b t d", "mean", t=self.frames // self.config.tubelet_size)


class SpectrogramTransformer(_Transformer):
    """AST (Gong et al. 2021): patches of log-mel, averaged over the bands, a step each patch in time.

    Our log-mel differs from the Kaldi filter banks that it was trained on in window and band edges; its bands are
    interpolated to AST's number, and silence follows until the length that AST takes.
    """

    def forward(self, sound: Tensor) -> Tensor:
        """(B, M, T) as the audio stream gives it → (B, T', D), without the steps of added silence"""
        if sound.ndim != 3:
            raise UserError(f"{self.name} takes sound, not pictures")
        config, length = self.config, min(sound.shape[2], self.config.max_length)
        mel = sound.transpose(1, 2)[:, :length] * SPREAD + CENTRE
        mel = functional.interpolate(mel, size=config.num_mel_bins, mode="linear")
        mel = functional.pad(mel, (0, 0, 0, config.max_length - length), value=SILENCE)
        tokens = self.layers((mel - AST_MEAN) / (2 * AST_STD)).last_hidden_state
        high, long = (
            (size - config.patch_size) // stride + 1
            for size, stride in (
                (config.num_mel_bins, config.frequency_stride),
                (config.max_length, config.time_stride),
            )
        )
        patches = tokens[:, -high * long :]  # after the class tokens
        steps = reduce(patches, "b (m t) d -> b t d", "mean", m=high, t=long)
        return steps[:, : max(1, (length - config.patch_size) // config.time_stride + 1)]


def _encoder(network: nn.Module) -> nn.Module:
    """Of V-JEPA 2, its encoder; the predictor is for its own training."""
    return network.encoder if network.config.model_type == "vjepa2" else network


def _file(where: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    path = cached_file(where, name, _raise_exceptions_for_missing_entries=False)
    return path and Path(path)


def _licence(where: str) -> str:
    """The licence that the model's card states."""
    try:
        card = _file(where, "README.md")
        found = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8"), re.MULTILINE) if card else None
    except (OSError, ValueError):
        found = None
    return found[1] if found else UNSTATED
