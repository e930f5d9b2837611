"""Small real video files, made when a test wants one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICK = Fraction(1, 90_000)  # s; in which the pictures' times are written


@dataclass(frozen=True)
class Sound:
    """A sound track: stretches of samples, each with the second at which it begins."""

    stretches: Sequence[tuple[float, np.ndarray]]  # (channels, N) or (N,), float, -1…1
    rate: int = 16_000
    layout: str = "mono"
    codec: str = "pcm_s16le"
    packet: int = 1024  # samples


def sound(samples: np.ndarray, *, start: float = 0.0, **settings) -> Sound:
    """One stretch of sound."""
    return Sound([(start, samples)], **settings)


def write_video(
    path: Path | str,
    pictures: Sequence[np.ndarray],
    *,
    times: Sequence[float] | None = None,
    fps: Fraction | int = 25,
    track: Sound | None = None,
    codec: str = "libx264",
    rotation: int = 0,
    pixel_aspect: Fraction | int = 1,
    pixels: str | None = None,
    container: str | None = None,
    muxing: dict[str, str] | None = None,
    b_frames: int = 0,
) -> Path:
    """Write pictures, (H, W, 3) uint8 RGB, at `times` (seconds, in any order; default k / fps), and a sound track.

    The container follows from the suffix: .mp4 (with libx264 and "aac") or .mkv (which takes any codec). `rotation`
    is what a phone writes: degrees counterclockwise by which a player turns the pictures before it shows them.
    Without pictures the file has sound alone. `muxing` are the options of the container's writer. With `b_frames`,
    packets are not in the order of their pictures, a key frame comes every 12, and `times` are not taken.
    """
    assert times is None or not b_frames
    times = [k / fps for k in range(len(pictures))] if times is None else times
    with av.open(str(path), "w", format=container, options=muxing or {}) as file:
        if pictures:
            video = file.add_stream(codec, rate=fps)
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pixels or {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
            video.codec_context.max_b_frames = b_frames  # without them a packet is a picture, in order
            video.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
            if codec == "libx264":
                video.options = {"crf": "4", "preset": "ultrafast", "threads": "1", "bf": str(b_frames)}
            if codec == "libx265":
                video.options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
            if b_frames:
                video.codec_context.gop_size = 12
            if rotation:
                video.set_display_rotation(rotation)
        packets = []
        if track is not None:  # all streams are there before the first is encoded
            audio = file.add_stream(track.codec, rate=track.rate, layout=track.layout)
        if pictures:
            packets += _picture_packets(video, pictures)
            if not b_frames:
                _at_times(packets, [round(time / TICK) for time in times])
        if track is not None:
            packets += _sound_packets(audio, track)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    if codec == "libsvtav1":  # for root it makes this thread real-time, and whatever is begun by it: others would wait
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return Path(path)


def grey(level: int, size: tuple[int, int] = (36, 48)) -> np.ndarray:
    """One even grey picture, (H, W, 3) uint8."""
    return np.full((*size, 3), level, np.uint8)


def flash(count: int, at: int, size: tuple[int, int] = (36, 48)) -> list[np.ndarray]:
    """Dark pictures of which number `at` is bright."""
    return [grey(230 if k == at else 20, size) for k in range(count)]


def drift(count: int, *, step: int = 1, size: tuple[int, int] = (36, 48), seed: int = 0) -> list[np.ndarray]:
    """A smooth random texture that moves to the right by `step` pixels a picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(30, 220, (size[0] // 4 + 2, (size[1] + count * abs(step)) // 4 + 3))
    wide = np.kron(coarse, np.ones((4, 4)))
    for axis in (0, 1):  # smooth it: blocks have no motion inside
        wide = sum(np.roll(wide, shift, axis) for shift in (-2, -1, 0, 1, 2)) / 5
    begin = count * abs(step) if step > 0 else 0
    views = (wide[2 : 2 + size[0], begin - k * step :][:, : size[1]] for k in range(count))
    return [np.repeat(view[..., None], 3, axis=2).astype(np.uint8) for view in views]


def tone(seconds: float, *, rate: int = 16_000, frequency: float = 440.0, level: float = 0.3) -> np.ndarray:
    """A sine, (N,) float32."""
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def click(seconds: float, at: float, *, rate: int = 16_000) -> np.ndarray:
    """Silence with 5 ms of a loud tone that begins at the second `at`, (N,) float32."""
    samples = np.zeros(round(seconds * rate), np.float32)
    begin = round(at * rate)
    burst = tone(0.005, rate=rate, frequency=2000, level=0.9)
    samples[begin : begin + len(burst)] = burst[: max(0, len(samples) - begin)]
    return samples


def _picture_packets(stream, pictures: Sequence[np.ndarray]) -> list[av.Packet]:
    packets = []
    for k, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = k, 1 / Fraction(stream.codec_context.framerate)
        packets += stream.encode(frame)
    return [packet for packet in [*packets, *stream.encode()] if packet.size]


def _at_times(packets: list[av.Packet], ticks: list[int]) -> None:
    """Stamp packet k with tick k. Decoding times rise, as muxers demand, and are never later than that."""
    before = None
    for k, packet in enumerate(packets):
        before = min(ticks[k:]) if before is None else max(before + 1, min(ticks[k:]))
        packet.time_base, packet.pts, packet.dts = TICK, ticks[k], min(before, ticks[k])


def _sound_packets(stream, track: Sound):
    for start, samples in track.stretches:
        samples = np.atleast_2d(samples).astype(np.float32)
        for begin in range(0, samples.shape[1], track.packet):
            block = np.ascontiguousarray(samples[:, begin : begin + track.packet])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=track.layout)
            frame.sample_rate, frame.time_base = track.rate, Fraction(1, track.rate)
            frame.pts = round(start * track.rate) + begin
            yield from (packet for packet in _encode_sound(stream, frame, track) if packet.size)
    yield from (packet for packet in stream.encode() if packet.size)


def _encode_sound(stream, frame: av.AudioFrame, track: Sound):
    """PyAV gathers samples into whole frames for a codec that wants them, but does not convert their format."""
    wanted = stream.codec_context.format.name
    if wanted == "fltp":
        return stream.encode(frame)
    form = {"s16": np.int16, "s16p": np.int16, "s32p": np.int32, "flt": np.float32}[wanted]
    samples = frame.to_ndarray()
    if form is not np.float32:
        samples = np.rint(samples.astype(np.float64) * np.iinfo(form).max).astype(form)
    packed = samples if wanted.endswith("p") else samples.T.reshape(1, -1)
    converted = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=wanted, layout=track.layout)
    converted.sample_rate, converted.time_base, converted.pts = frame.sample_rate, frame.time_base, frame.pts
    return stream.encode(converted)
