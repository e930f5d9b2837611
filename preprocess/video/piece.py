"""One video in, one piece of a store out."""

import tempfile
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from preprocess.common.stopwatch import Stopwatch
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO, MEL_RATE, frame_count
from preprocess.store.index import STREAMS, Facts, facts_columns, write_columns
from preprocess.store.new_file import new_file
from preprocess.store.seal import COPY_BLOCK, new_hasher, write_seal
from preprocess.video.decoder import Decoder
from preprocess.video.encoder import VideoEncoder
from preprocess.video.settings import PieceSettings
from preprocess.video.sound_only import SoundDecoder


def extract_piece(
    file: str,
    target: Path,
    *,
    content: str,
    settings: PieceSettings,
    watch: Stopwatch,
    heartbeat: Callable[[float], None] | None = None,
) -> Facts:
    """Decode a video once and write its streams to `target`, a sealed HDF5 file like a shard with one video.

    `content` is the digest of `file`, the video's name in the piece. Memory does not grow with its length: encoded data
    wait in unnamed temporary files beside `target`. `heartbeat` is called with the seconds done.

    Raises Unusable for a file that cannot be used; after any error there is no `target`.
    """
    limits = settings.limits
    decode = SoundDecoder if limits.sound_only else Decoder
    shape = {"fps": settings.fps, "short_side": settings.short_side}
    decoder = decode(file, **shape, watch=watch, limits=limits, heartbeat=heartbeat)
    with ExitStack() as stack:
        rgb, flow, mel = (_Spool(stack, target.parent) for _ in range(3))
        encoder = VideoEncoder(settings, rgb=rgb, flow=flow, mel=mel, watch=watch)
        for item in watch.each("decode", decoder):
            encoder.push(item)
        encoder.finish()
        with watch.stage("write"):
            try:
                facts = _write(target, decoder, encoder, content, settings, rgb=rgb, flow=flow, mel=mel)
                write_seal(target, each=heartbeat and (lambda: heartbeat(decoder.seconds)))
                return facts
            except BaseException:
                target.unlink(missing_ok=True)
                raise


class _Spool:
    """Bytes kept on disk until their number is known, so that they become one contiguous dataset."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        self.ends = array("q", [0])

    def add(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values).data)
        self.ends.append(self.ends[-1] + values.nbytes)

    def copy(self, data, hasher) -> None:
        """Fill an h5py dataset with the first bytes, block by block, and add them to `hasher`."""
        self.file.seek(0)
        row = data.nbytes // max(1, len(data))
        step = max(1, COPY_BLOCK // max(1, row))
        for begin in range(0, len(data), step):
            count = min(step, len(data) - begin)
            block = np.frombuffer(self.file.read(count * row), data.dtype)
            hasher.update(block)
            data[begin : begin + count] = block.reshape(count, *data.shape[1:])


def _write(
    target: Path,
    decoder: Decoder,
    encoder: VideoEncoder,
    content: str,
    settings: PieceSettings,
    *,
    rgb: _Spool,
    flow: _Spool,
    mel: _Spool,
) -> Facts:
    pictures, frames, dropped = decoder.pictures, round(decoder.seconds * settings.fps), 0
    size, why = (settings.short_side, settings.short_side), dict.fromkeys(("rgb", "flow"), "only sound")
    if pictures is not None:
        assert pictures.size is not None
        size, frames, dropped = pictures.size, pictures.clock.emitted, pictures.clock.dropped
        why = {"flow": "one frame"} if pictures.clock.placed < 2 or len(flow.ends) < 2 else {}
    if decoder.audio_absent:
        why["audio"] = decoder.audio_absent
    with new_file(target, parameters=settings.parameters()) as file:
        group = file.create_group(f"videos/{content}")
        for key, value in decoder.source.items():
            group.attrs[f"source_{key}"] = np.bytes_(value.encode()) if isinstance(value, str) else value
        rate = {"rate": settings.fps}
        if "rgb" not in why:
            _write_frames(group.create_group("rgb"), rgb, {"unit": "JPEG, RGB, 8 bit"} | rate)
        if "flow" not in why:
            unit = "grey JPEG, x above y; (value - zero) * bound / 127 pixels a frame"
            attributes = {"unit": unit, "zero": FLOW_ZERO, "bound": FLOW_BOUND} | rate
            attributes["clipped_share"] = encoder.clipped / max(1, encoder.values)
            _write_frames(group.create_group("flow"), flow, attributes)
        if "audio" not in why:
            # the track may have samples only in the seconds that are covered
            attributes = {"unit": "natural log of mel power", "rate": MEL_RATE, "covered": decoder.sound.covered}
            shape = (frame_count(decoder.seconds), settings.mel_bands)
            audio = group.create_group("audio")
            hasher = new_hasher()
            mel.copy(audio.create_dataset("data", shape, np.float16), hasher)
            _describe(audio, attributes, hasher)
        facts = Facts(
            content=content,
            seconds=decoder.seconds,
            expected=decoder.expected if decoder.truncated else None,
            frames=frames,
            height=size[0],
            width=size[1],
            sound=None if "audio" in why else decoder.sound.covered,
            damaged=decoder.errors + dropped,
            streams={stream: stream not in why for stream in STREAMS},
            why=why,
            notes="; ".join(decoder.notes),
            bytes={name: sum(data.nbytes for data in stream.values()) for name, stream in group.items()},
        )
        write_columns(file.create_group("index"), facts_columns([facts]))
    return facts


def _write_frames(group, spool: _Spool, attributes: dict) -> None:
    hasher = new_hasher()
    spool.copy(group.create_dataset("data", (spool.ends[-1],), np.uint8), hasher)
    ends = np.array(spool.ends, np.int64)
    hasher.update(ends)
    group["ends"] = ends
    _describe(group, attributes, hasher)


def _describe(group, attributes: dict, hasher) -> None:
    for key, value in attributes.items():
        group.attrs[key] = np.bytes_(value.encode()) if isinstance(value, str) else value
    group.attrs["checksum"] = np.bytes_(hasher.hexdigest())
