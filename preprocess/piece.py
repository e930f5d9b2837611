"""One video in, one piece of a store out."""

import hashlib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from preprocess.catalog import Source
from preprocess.decode import Decoder, Frame, Unusable
from preprocess.encode import FLOW_BOUND, FLOW_ZERO, MEL_RATE, encode_flow, encode_rgb, quantise_flow
from preprocess.flow import describe, tvl1
from preprocess.mel import LogMel, frame_count
from preprocess.stopwatch import Stopwatch
from preprocess.store import Rejected, Video

FLOW_CHUNK = 32  # frames whose flow is solved together: bounds the memory of a long video
COPY_BLOCK = 1 << 22  # bytes


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

    @classmethod
    def like(cls, parameters: dict) -> "PieceSettings":
        """The settings of a store with these parameters, for another machine: cpu and cuda agree with each other."""
        engine = "opencv" if parameters["flow"]["engine"] == "opencv" else "auto"
        same = {name: parameters[name] for name in ("fps", "short_side", "mel_bands")}
        return cls(**same, flow_engine=engine, flow_preset=parameters["flow"]["preset"])

    def parameters(self) -> dict:
        """What a store records.

        Raises ValueError for a flow engine or preset that is not there.
        """
        same = {"fps": self.fps, "short_side": self.short_side, "mel_bands": self.mel_bands}
        return same | {"flow": describe(self.flow_engine, self.flow_preset)}


def extract_piece(source: Source, target: Path, settings: PieceSettings, watch: Stopwatch) -> Video | Rejected:
    """Decode `source.file` once and write its streams to `target`, an HDF5 file with one group, "video".

    A file that cannot be used gives Rejected with the reason, and no `target`. Memory does not grow with the
    video's length: what is encoded waits in unnamed temporary files beside `target`.
    """
    decoder = Decoder(source.file, fps=settings.fps, short_side=settings.short_side, watch=watch)
    try:
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
            why = {"flow": "one frame"} if decoder.frames.placed < 2 or len(flow.spool.ends) < 2 else {}
            if decoder.audio_absent:
                why["audio"] = decoder.audio_absent
            with watch.stage("write"):
                video = _describe(source, decoder, why)
                try:
                    _write(target, video, decoder, settings, rgb=rgb, flow=flow, mel=mel)
                except BaseException:
                    target.unlink(missing_ok=True)
                    raise
            return video
    except Unusable as error:
        return Rejected(source.path, str(error))


class _Spool:
    """Bytes that wait on disk until their number is known, so that they become one contiguous dataset."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        self.ends = [0]

    def add(self, array: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(array).data)
        self.ends.append(self.ends[-1] + array.nbytes)

    def copy(self, data) -> None:
        """Fill an h5py dataset with the first bytes, block by block."""
        self.file.seek(0)
        row = data.nbytes // max(1, len(data))
        step = max(1, COPY_BLOCK // max(1, row))
        for begin in range(0, len(data), step):
            count = min(step, len(data) - begin)
            block = np.frombuffer(self.file.read(count * row), data.dtype)
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


def _describe(source: Source, decoder: Decoder, why: dict[str, str]) -> Video:
    assert decoder.size is not None
    return Video(
        path=source.path,
        label=source.label,
        group=source.group,
        split=source.split,
        seconds=decoder.seconds,
        frames=decoder.frames.emitted,
        height=decoder.size[0],
        width=decoder.size[1],
        content=_digest(source.file),
        damaged=decoder.errors + decoder.frames.dropped,
        streams={stream: stream not in why for stream in ("rgb", "flow", "audio")},
        why=why,
    )


def _write(target: Path, video: Video, decoder: Decoder, settings: PieceSettings, *, rgb, flow, mel) -> None:
    with h5py.File(target, "w") as file:
        group = file.create_group("video")
        for key in ("label", "group", "split"):
            group.attrs[key] = (getattr(video, key) or "").encode("utf-8", "surrogateescape")
        for key in ("seconds", "frames", "height", "width", "content", "damaged"):
            group.attrs[key] = getattr(video, key)
        for key, value in decoder.source.items():
            group.attrs[f"source_{key}"] = value
        for stream, reason in video.why.items():
            group.attrs[f"why_no_{stream}"] = reason
        _write_frames(group.create_group("rgb"), rgb)
        group["rgb"].attrs["unit"] = "JPEG, RGB, 8 bit"
        group["rgb"].attrs["rate"] = settings.fps
        if video.streams["flow"]:
            _write_frames(group.create_group("flow"), flow.spool)
            group["flow"].attrs["unit"] = "grey JPEG, x above y; (value - zero) * bound / 127 pixels a frame"
            group["flow"].attrs["rate"] = settings.fps
            group["flow"].attrs["zero"] = FLOW_ZERO
            group["flow"].attrs["bound"] = FLOW_BOUND
            group["flow"].attrs["clipped_share"] = flow.clipped / max(1, flow.values)
        if video.streams["audio"]:
            shape = (frame_count(video.seconds), settings.mel_bands)
            mel.copy(group.create_dataset("audio/data", shape, np.float16))
            group["audio"].attrs["unit"] = "natural log of mel power"
            group["audio"].attrs["rate"] = MEL_RATE
            group["audio"].attrs["covered"] = decoder.sound.covered  # seconds; beyond them the track has no samples


def _write_frames(group, spool: _Spool) -> None:
    group["ends"] = np.array(spool.ends, np.int64)
    spool.copy(group.create_dataset("data", (spool.ends[-1],), np.uint8))


def _digest(file: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
