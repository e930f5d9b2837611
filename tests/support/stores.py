"""Small valid stores, written directly: nothing is decoded and no flow is solved, so that they cost milliseconds.

What a stream shows follows one bit each, as in the three-bit videos: the hue of the pictures, the direction of the
motion, the band of the sound. A test that needs more gives the arrays itself.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import h5py
import numpy as np

from preprocess.store import Store
from preprocess.store.codec import encode_flow, encode_rgb, quantise_flow
from preprocess.store.format import FLOW_MEANING, SILENCE
from preprocess.store.index import Video
from preprocess.store.new_file import new_file, write_index
from preprocess.store.seal import stream_checksum, write_seal

FPS = 25.0  # frames a second
ROWS = 4  # of log-mel a frame
HEIGHT, WIDTH, BANDS = 36, 48, 16
STREAMS = ("rgb", "flow", "audio")
BITS = list(product((0, 1), repeat=3))
CONTENT = re.compile("[0-9a-f]{32}")
CEILINGS = {1: 0.25, 2: 0.5, 3: 1.0}  # number of streams → the best top-1 there can be


@dataclass(frozen=True)
class Spec:
    """One video of a store. Arrays stand in for what the bits would show."""

    path: str
    label: str | None = None
    group: str | None = None
    split: str | None = None
    content: str | None = None  # digest of the file; the default is the path: no two files alike
    frames: int = 20
    streams: tuple[str, ...] = STREAMS
    bits: tuple[int, int, int] = (0, 0, 0)
    rgb: np.ndarray | None = None  # (T, H, W, 3) uint8
    flow: np.ndarray | None = None  # (T - 1, H, W, 2) float32, pixels a frame
    mel: np.ndarray | None = None  # (4 T, M) float16
    covered: tuple[float, float] | None = None  # seconds of sound that the track has; the default is all
    source: dict[str, str | float] = field(default_factory=dict)  # what its file was: fps, container …

    @property
    def seconds(self) -> float:
        return self.frames / FPS


def make_store(path: Path, specs: Sequence[Spec], *, seed: int = 0, **parameters: float) -> Store:
    """Write a store of these videos to `path` and open it; `parameters` replace the usual ones."""
    rng = np.random.default_rng(seed)
    flow = {"method": "tv-l1", "engine": "cpu", "preset": "default", "steps": FLOW_MEANING}
    usual = {"fps": FPS, "short_side": HEIGHT, "mel_bands": BANDS, "flow": flow} | parameters
    with new_file(path, parameters=usual) as file:
        videos = [_add(file["videos"], spec, rng) for spec in specs]
        write_index(file, videos, [], notes=[])
    write_seal(path)
    return Store(path)


def three_bit(count: int, *, prefix: str = "v", **shared) -> list[Spec]:
    """`count` videos of the eight classes in turn: "000" to "111", one bit a stream."""
    specs = []
    for number in range(count):
        bits = BITS[number % 8]
        label = "".join(map(str, bits))
        specs.append(Spec(f"{label}/{prefix}{number:03d}.mp4", label=label, bits=bits, **shared))
    return specs


def with_or_against(count: int, *, seed: int = 0, **shared) -> list[Spec]:
    """Videos whose pictures face left or right and whose motion goes left or right; the class: whether they agree.

    Each stream alone, and any sum of what each says, is at chance.
    """
    rng = np.random.default_rng(seed)
    hues = np.array([(200, 120, 40), (40, 120, 200)])
    specs = []
    for number in range(count):
        facing, motion = number % 2, number // 2 % 2
        label = "with" if facing == motion else "against"
        halves = hues[[facing, 1 - facing]].repeat(WIDTH // 2, axis=0) + rng.integers(-30, 30, 3)
        noise = rng.integers(-10, 10, (20, HEIGHT, WIDTH, 1))
        flow = rng.normal(0, 0.2, (19, HEIGHT, WIDTH, 2))
        flow[..., 0] += (-2.0, 2.0)[motion] * rng.uniform(0.8, 1.2)
        arrays = {"rgb": np.clip(halves + noise, 0, 255).astype(np.uint8), "flow": flow.astype(np.float32)}
        specs.append(Spec(f"{label}/{number:03d}.mp4", label=label, **arrays, **shared))
    return specs


def two_moments(count: int, *, seed: int = 0, **shared) -> list[Spec]:
    """Videos that show the same two moments in either order, which is the class: every stream shows it.

    Each half is nothing, a moment, nothing, of random lengths: no window of less than six frames sees two moments.
    """
    rng = np.random.default_rng(seed)
    hues = np.array([(200, 120, 40), (120, 120, 120), (40, 120, 200)])
    specs = []
    for number in range(count):
        first = 2 * (number % 2) - 1
        signs = np.concatenate([_half(sign, rng) for sign in (first, -first)])
        frames = len(signs)
        noise = rng.integers(-10, 10, (frames, HEIGHT, WIDTH, 1))
        pictures = hues[signs + 1][:, None, None] + rng.integers(-30, 30, 3) + noise
        flow = rng.normal(0, 0.2, (frames - 1, HEIGHT, WIDTH, 2))
        flow[..., 0] += 2.0 * signs[:-1, None, None] * rng.uniform(0.8, 1.2)
        mel = rng.normal(SILENCE + 2, 0.5, (frames * ROWS, BANDS))
        high = np.arange(BANDS) >= BANDS // 2
        mel += np.where(signs.repeat(ROWS)[:, None] * np.where(high, 1, -1) > 0, rng.uniform(5, 8), 0.0)
        arrays = {"rgb": np.clip(pictures, 0, 255).astype(np.uint8), "flow": flow.astype(np.float32), "mel": mel}
        label = "low first" if first < 0 else "high first"
        specs.append(Spec(f"{label}/{number:03d}.mp4", label=label, frames=frames, **arrays, **shared))
    return specs


def _half(sign: int, rng: np.random.Generator) -> np.ndarray:
    """(24,) what each frame shows: 0, nothing, for at least six frames; the moment; nothing again."""
    length = rng.integers(9, 13)
    begin = rng.integers(6, 24 - 6 - length + 1)
    return np.where((np.arange(24) >= begin) & (np.arange(24) < begin + length), sign, 0)


def content_of(text: str) -> str:
    """What stands for the digest of a file; a digest stands for itself."""
    return text if CONTENT.fullmatch(text) else hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _add(videos: h5py.Group, spec: Spec, rng: np.random.Generator) -> Video:
    content = content_of(spec.content or spec.path)
    rgb = _pictures(spec, rng) if spec.rgb is None else spec.rgb
    if content not in videos:
        _write(videos.create_group(content), spec, rgb, rng)
    return Video(
        path=spec.path,
        label=spec.label,
        group=spec.group,
        split=spec.split,
        seconds=spec.seconds,
        frames=spec.frames,
        height=rgb.shape[1],
        width=rgb.shape[2],
        content=content,
        sound=(spec.covered or (0.0, spec.seconds)) if "audio" in spec.streams else None,
        streams={name: name in spec.streams for name in STREAMS},
        why={name: "left out" for name in STREAMS if name not in spec.streams},
        bytes={name: sum(data.nbytes for data in stream.values()) for name, stream in videos[content].items()},
        at={f"{n}_{k}": data.id.get_offset() for n, stream in videos[content].items() for k, data in stream.items()},
    )


def _write(group: h5py.Group, spec: Spec, rgb: np.ndarray, rng: np.random.Generator) -> None:
    for name, value in spec.source.items():
        group.attrs[f"source_{name}"] = np.bytes_(value) if isinstance(value, str) else value
    if "rgb" in spec.streams:
        _write_frames(group.create_group("rgb"), [encode_rgb(frame) for frame in rgb])
    if "flow" in spec.streams:
        flow = _motion(spec, rng) if spec.flow is None else spec.flow
        _write_frames(group.create_group("flow"), [encode_flow(quantise_flow(field)) for field in flow])
    if "audio" in spec.streams:
        group["audio/data"] = (_sound(spec, rng) if spec.mel is None else spec.mel).astype(np.float16)
        group["audio"].attrs["covered"] = spec.covered or (0.0, spec.seconds)
    for stream in group.values():
        stream.attrs["checksum"] = np.bytes_(stream_checksum(stream))


def _write_frames(group: h5py.Group, jpegs: list[np.ndarray]) -> None:
    group["data"] = np.concatenate([jpeg.ravel() for jpeg in jpegs])
    group["ends"] = np.cumsum([0, *(jpeg.size for jpeg in jpegs)])


def _pictures(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    hue = np.array([(200, 120, 40), (40, 120, 200)][spec.bits[0]]) + rng.integers(-30, 30, 3)
    noise = rng.integers(-10, 10, (spec.frames, HEIGHT, WIDTH, 1))
    return np.clip(hue + noise, 0, 255).astype(np.uint8)


def _motion(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    flow = rng.normal(0, 0.2, (spec.frames - 1, HEIGHT, WIDTH, 2))
    flow[..., 1] += (-2.0, 2.0)[spec.bits[1]] * rng.uniform(0.8, 1.2)
    return flow.astype(np.float32)


def _sound(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    mel = rng.normal(SILENCE + 2, 0.5, (spec.frames * ROWS, BANDS))
    half = BANDS // 2
    mel[:, half * spec.bits[2] : half * (spec.bits[2] + 1)] += rng.uniform(5, 8)
    return mel
