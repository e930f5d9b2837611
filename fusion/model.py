"""The joint model: for each stream an encoder and an auxiliary head, and one fusion head."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.heads import HEADS
from fusion.heads.head import Mask, StreamOutputs
from fusion.settings import ModelSettings
from preprocess.common.errors import UserError
from streams.batch import Batch
from streams.encoder import Encoder, EncoderOutput
from streams.registry import streams_of
from streams.spec import Stream
from streams.temporal import TEMPORAL, split_temporal


class Output(NamedTuple):
    """The model's output for a batch."""

    logits: Tensor  # (B, K), fused
    streams: StreamOutputs  # of each stream alone; rows of absent streams hold zeros


class FusionModel(nn.Module):
    """Any number of streams; each encodes only the rows in which it is present."""

    def __init__(self, encoders: dict[str, Encoder], *, head: nn.Module, feature: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.encoders = nn.ModuleDict(encoders)
        self.auxiliary = nn.ModuleDict({name: nn.Linear(feature, classes) for name in encoders})
        self.head = head

    def forward(
        self, clips: dict[str, Tensor], present: Mask, *, rows: dict[str, Tensor] | None = None, use: Mask | None = None
    ) -> Output:
        """{(B, C, T, H, W) or (B, M, T)}, {(B,)} → Output

        `rows` are the indices of the present rows, {(N,) int64}: passing them avoids waiting for a GPU.
        `use` is the mask of what the fusion head may use, if that is less than what is present.
        """
        streams = self.encode(clips, present, rows=rows)
        return Output(self.fuse(streams, present if use is None else use), streams)

    def encode(
        self, clips: dict[str, Tensor], present: Mask, *, rows: dict[str, Tensor] | None = None
    ) -> StreamOutputs:
        """The output of each stream alone, for the arguments of forward: the costly part."""
        logits, features, sequences, towers = {}, {}, {}, {}
        rows = {name: mask.nonzero()[:, 0] for name, mask in present.items()} if rows is None else rows
        for name, encoder in self.encoders.items():
            encoded = _encode_present(encoder, clips[name], rows[name], self.training)
            towers[name], sequences[name], features[name] = encoded.tower, encoded.sequence, encoded.feature
            logits[name] = self.auxiliary[name](encoded.feature).masked_fill(~present[name][:, None], 0.0)
        return StreamOutputs(logits, features, sequences, towers)

    def fuse(self, streams: StreamOutputs, use: Mask) -> Tensor:
        """The logits from the streams in the mask `use`: → (B, K)"""
        return self.head(streams, use)

    def answer(self, streams: StreamOutputs, use: Mask) -> tuple[Tensor, Tensor]:
        """The fused feature and the logits from the streams in the mask `use`: → (B, F), (B, K)"""
        fused = self.head.features(streams, use)
        return fused, self.head.classify(fused)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What `encode` takes of a batch that is not for training."""
        return batch.inputs(training=False)


def build_model(
    settings: ModelSettings, *, streams: tuple[str, ...], classes: int, parameters: dict, segments: int = 1
) -> FusionModel:
    """The model for `streams` of a store with these `parameters`, and clips of so many segments.

    Without classes it has encoders to start from.

    Raises UserError for a head, model of time or tower that does not exist.
    """
    if settings.head not in HEADS:
        raise UserError(f"unknown head '{settings.head}': known are {', '.join(HEADS)}")
    if settings.temporal not in TEMPORAL:
        raise UserError(f"unknown --temporal '{settings.temporal}': known are {', '.join(TEMPORAL)}")
    known = streams_of(parameters)
    kinds = {name: known[name] for name in streams}
    given = _parse_towers(settings.towers, kinds)
    towers = {name: given.get(name, (kind.towers[0], None)) for name, kind in kinds.items()}
    encoders = {
        name: Encoder(
            tower=towers[name][0],
            channels=kinds[name].channels(parameters),
            width=settings.width,
            feature=settings.feature,
            dropout=settings.dropout,
            segments=segments,
            temporal=towers[name][1] or settings.temporal,
        )
        for name in streams
    }
    sizes = {"feature": settings.feature, "classes": classes}
    channels = {name: encoder.tower.features for name, encoder in encoders.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # those of no classes
        head = HEADS[settings.head](channels=channels, dropout=settings.dropout, **sizes)
        return FusionModel(encoders, head=head, **sizes)


def drop_streams(present: Mask, share: float) -> Mask:
    """Hide each present stream with probability `share`, but never the last one of a row."""
    mask = torch.stack(list(present.values()))  # (streams, B)
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= share)
    # if all were hidden, one present stream comes back: the one with the largest random number
    chance = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
    rescued = torch.zeros_like(mask).scatter_(0, chance.argmax(dim=0, keepdim=True), True)
    kept = torch.where(kept.any(dim=0), kept, rescued & mask)
    return dict(zip(present, kept, strict=True))


def _encode_present(encoder: Encoder, clips: Tensor, rows: Tensor, training: bool) -> EncoderOutput:
    """Encode the present rows; the others neither take time nor change batch norm's statistics.

    In distributed training, a process without rows encodes an empty batch, since the others wait for it.
    """
    if len(rows) == len(clips):
        return encoder(clips)
    if not len(rows) and not (training and torch.distributed.is_initialized()):
        tower, size = encoder.tower.features, encoder.feature
        shapes = (1, tower), (1, size), (size,)  # one time step of an empty batch
        return EncoderOutput(*(clips.new_zeros(len(clips), *shape) for shape in shapes))
    encoded = encoder(clips[rows])

    def put_back(part: Tensor) -> Tensor:
        return part.new_zeros(len(clips), *part.shape[1:]).index_copy(0, rows, part)

    return EncoderOutput(put_back(encoded.tower), put_back(encoded.sequence), put_back(encoded.feature))


def _parse_towers(texts: tuple[str, ...], streams: dict[str, Stream]) -> dict[str, tuple[str, str | None]]:
    """stream → its tower, and its model of time where that is named too"""
    towers = {}
    for text in texts:
        stream, _, given = text.partition("=")
        tower, temporal = split_temporal(given)
        library, _, rest = tower.partition(":")
        if stream in streams and library in streams[stream].libraries and rest:
            towers[stream] = tower, temporal
            continue
        if stream not in streams or tower not in streams[stream].towers:
            names = {name: [*kind.towers, *(f"{one}:…" for one in kind.libraries)] for name, kind in streams.items()}
            known = ", ".join(f"{name}={tower}" for name in streams for tower in names[name])
            raise UserError(
                f"unknown tower '{text}': this run can have {known}; each may be followed by +{', +'.join(TEMPORAL)}"
            )
        towers[stream] = tower, temporal
    return towers
