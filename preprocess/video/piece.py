"""One video in, one piece of a store out."""

import json
import tempfile
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from preprocess.common.stopwatch import Stopwatch
from preprocess.flow import describe, tvl1
from preprocess.store.codec import encode_flow, encode_rgb, quantise_flow
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO, MEL_RATE, frame_count
from preprocess.store.index import STREAMS, Facts, facts_columns, write_columns
from preprocess.store.new_file import new_file
from preprocess.store.seal import COPY_BLOCK, new_hasher, write_seal
from preprocess.video.decoder import Decoder, Frame
from preprocess.video.limits import Limits
from preprocess.video.log_mel import LogMel

FLOW_CHUNK = 32  # frames whose flow is solved together: bounds the memory of a long video


@dataclass(frozen=True)
class PieceSettings:
    """What is stored of every video. Two videos of one store share these."""

    fps: float = 25.0
    """frames a second to which every video is resampled"""
    short_side: int = 128
    """pixels of the shorter side of a stored frame; the aspect is kept"""
    mel_bands: int = 64
    """bands of the log-mel spectrogram"""
    flow_engine: str = "auto"
    """what solves TV-L1: cpu, cuda, opencv (the slow reference), or auto: cuda where there is a GPU, else cpu"""
    flow_preset: str = "default"
    """default, or quality: more accurate, several times slower"""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)

    @classmethod
    def like(cls, parameters: dict) -> "PieceSettings":
        """The settings of a store with these parameters, for another machine: cpu and cuda agree with each other."""
        engine = "opencv" if parameters["flow"]["engine"] == "opencv" else "auto"
        same = {name: parameters[name] for name in ("fps", "short_side", "mel_bands")}
        return cls(**same, flow_engine=engine, flow_preset=parameters["flow"]["preset"])

    def parameters(self) -> dict:
        """What a store records, as JSON gives it back: parameters are compared with those of files.

        Raises ValueError for a flow engine or preset that is not there.
        """
        same = {"fps": self.fps, "short_side": self.short_side, "mel_bands": self.mel_bands}
        same |= {"flow": describe(self.flow_engine, self.flow_preset), "limits": asdict(self.limits)}
        return json.loads(json.dumps(same))


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

    `content` is the digest of `file`, by which the piece calls the video. Memory does not grow with its length: what
    is encoded waits in unnamed temporary files beside `target`. `pulse` is told how many seconds are done.

    Raises Unusable for a file that cannot be used; then, as after any error, there is no `target`.
    """
    limits = settings.limits
    decoder = Decoder(
        file, fps=settings.fps, short_side=settings.short_side, watch=watch, limits=limits, heartbeat=heartbeat
    )
    with ExitStack() as stack:
        rgb = _Spool(stack, target.parent)
        flow = _FlowSpool(_Spool(stack, target.parent), settings, watch)
        mel = _Spool(stack, target.parent)
        log_mel = LogMel(bands=settings.mel_bands)
        for item in watch.each("decode", decoder):
            if isinstance(item, Frame):
                with watch.stage("encode"):
                    jpeg = encode_rgb(item.rgb)
                for _ in range(item.count):
                    rgb.add(jpeg)
                    flow.push(item.rgb)
            else:
                with watch.stage("mel"):
                    mel.add(log_mel.push(item.samples))
        flow.finish()
        mel.add(log_mel.finish())
        with watch.stage("write"):
            try:
                facts = _write(target, decoder, content, settings, rgb=rgb, flow=flow, mel=mel)
                write_seal(target, each=heartbeat and (lambda: heartbeat(decoder.seconds)))
                return facts
            except BaseException:
                target.unlink(missing_ok=True)
                raise


class _Spool:
    """Bytes that wait on disk until their number is known, so that they become one contiguous dataset."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        self.ends = array("q", [0])

    def add(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values).data)
        self.ends.append(self.ends[-1] + values.nbytes)

    def copy(self, data, hasher) -> None:
        """Fill an h5py dataset with the first bytes, block by block, and tell `hasher` of them."""
        self.file.seek(0)
        row = data.nbytes // max(1, len(data))
        step = max(1, COPY_BLOCK // max(1, row))
        for begin in range(0, len(data), step):
            count = min(step, len(data) - begin)
            block = np.frombuffer(self.file.read(count * row), data.dtype)
            hasher.update(block)
            data[begin : begin + count] = block.reshape(count, *data.shape[1:])


class _FlowSpool:
    """Solves, quantises and spools the flow of frames that come one by one."""

    def __init__(self, spool: _Spool, settings: PieceSettings, watch: Stopwatch) -> None:
        self.spool = spool
        self.settings = settings
        self.watch = watch
        self.clipped = self.values = 0
        self._grey: list[np.ndarray] = []

    def push(self, rgb: np.ndarray) -> None:
        import cv2

        self._grey.append(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        if len(self._grey) == FLOW_CHUNK:
            self.finish()

    def finish(self) -> None:
        """Solve what waits; its last frame stays as the first of the next pair."""
        if len(self._grey) > 1:
            with self.watch.stage("flow"):
                engine, preset = self.settings.flow_engine, self.settings.flow_preset
                flows = tvl1(np.stack(self._grey), engine=engine, preset=preset)
            with self.watch.stage("encode"):
                self.clipped += int(np.count_nonzero(np.abs(flows) > FLOW_BOUND))
                self.values += flows.size
                for code in quantise_flow(flows):
                    self.spool.add(encode_flow(code))
        del self._grey[:-1]


def _write(target: Path, decoder: Decoder, content: str, settings: PieceSettings, *, rgb, flow, mel) -> Facts:
    assert decoder.size is not None
    why = {"flow": "one frame"} if decoder.frames.placed < 2 or len(flow.spool.ends) < 2 else {}
    if decoder.audio_absent:
        why["audio"] = decoder.audio_absent
    with new_file(target, parameters=settings.parameters()) as file:
        group = file.create_group(f"videos/{content}")
        for key, value in decoder.source.items():
            group.attrs[f"source_{key}"] = np.bytes_(value.encode()) if isinstance(value, str) else value
        rate = {"rate": settings.fps}
        _write_frames(group.create_group("rgb"), rgb, {"unit": "JPEG, RGB, 8 bit"} | rate)
        if "flow" not in why:
            unit = "grey JPEG, x above y; (value - zero) * bound / 127 pixels a frame"
            attributes = {"unit": unit, "zero": FLOW_ZERO, "bound": FLOW_BOUND} | rate
            attributes["clipped_share"] = flow.clipped / max(1, flow.values)
            _write_frames(group.create_group("flow"), flow.spool, attributes)
        if "audio" not in why:
            # the track may have no samples beyond the seconds that are covered
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
            frames=decoder.frames.emitted,
            height=decoder.size[0],
            width=decoder.size[1],
            sound=None if "audio" in why else decoder.sound.covered,
            damaged=decoder.errors + decoder.frames.dropped,
            streams={stream: stream not in why for stream in STREAMS},
            why=why,
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
