"""Live video in real time: delays by stage, what is dropped, stalls, a drop of the sound, and the largest size.

    python -m benchmarks.live                                  # two minutes of 320×240, and 20 s of each size
    python -m benchmarks.live --minutes 5 --size 640x480 --sizes
    python -m benchmarks.live --run runs/NAME                  # default: the default model, not trained

A file with sound is decoded as fast as its times go. Twice in it the source stalls for three seconds, after which what
it held back comes at once, and for a tenth of it there is no sound. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from preprocess.common.processes import own_memory
from preprocess.common.stopwatch import Stopwatch
from preprocess.video.arrival import paced
from preprocess.video.buffer import LiveBuffer
from preprocess.video.decoded import Absent, Item, Samples
from preprocess.video.decoder import Decoder
from preprocess.video.log_mel import SAMPLE_RATE
from preprocess.video.settings import PieceSettings
from tasks.live_answers import LiveAnswers
from tasks.model import Model, load

FPS = 25
LOOP = 8  # s that are encoded once and repeated
STALL = 3.0  # s
SLACK = 0.25  # s; a delay is back to normal when it is at most this over the median before
FEW = 5  # answers, of which the median counts
SIZES = ("320x240", "640x480", "1280x720", "1920x1080", "3840x2160")


def default_model(folder: Path) -> Model:
    """The default model for three streams and ten classes, with random weights."""
    import torch

    from fusion.model import build_model
    from fusion.training.run import About, save_weights
    from fusion.training.settings import TrainSettings
    from preprocess.store.format import release
    from streams.registry import parse_streams

    settings, classes = TrainSettings(), [f"class {number}" for number in range(10)]
    parameters, recipe = PieceSettings().parameters(), settings.recipe
    torch.manual_seed(0)
    sizes = {"classes": len(classes), "parameters": parameters, "segments": recipe.clip.segments}
    network = build_model(recipe.model, streams=parse_streams(settings.streams), **sizes)
    save_weights(folder / "default.safetensors", network, About(release(), settings, classes, parameters))
    return load(folder / "default.safetensors", device="cpu")


def write(path: Path, *, size: tuple[int, int], seconds: float) -> None:
    """A video of moving texture (H.264, a key frame a second) and noise (AAC), which repeats each LOOP seconds."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (size[1] // 8 + 2, size[0] // 4 + 2), np.uint8)
    wide = np.kron(coarse, np.ones((8, 8), np.uint8))[: size[1]]
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "g": str(FPS), "bf": "0"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = file.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        packets = []
        for number in range(LOOP * FPS):
            shown = np.roll(wide, 3 * number, axis=1)[:, : size[0]]
            frame = av.VideoFrame.from_ndarray(np.repeat(shown[..., None], 3, axis=2), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += video.encode(frame)
        packets += video.encode()
        for begin in range(0, LOOP * SAMPLE_RATE, 1024):
            noise = rng.uniform(-0.2, 0.2, (1, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, begin, Fraction(1, SAMPLE_RATE)
            packets += audio.encode(frame)
        packets = [(packet.pts, packet.dts, packet) for packet in packets if packet.dts is not None]
        packets.sort(key=lambda entry: entry[1] * entry[2].time_base)
        bytes_of = [
            (pts, dts, bytes(packet), packet.stream, packet.is_keyframe, packet.time_base)
            for pts, dts, packet in packets
        ]
        for turn in range(-(-int(seconds) // LOOP)):
            for pts, dts, data, stream, is_key, tick in bytes_of:
                copy = av.Packet(data)
                shift = round(turn * LOOP / tick)
                copy.stream, copy.pts, copy.dts, copy.time_base = stream, pts + shift, dts + shift, tick
                copy.is_keyframe = is_key
                file.mux(copy)


def with_trouble(
    items: Iterator[tuple[float, Item]], *, stalls: tuple[float, ...], mute: tuple[float, float]
) -> Iterator[tuple[float, Item]]:
    """The items with stalls at these seconds, and without the sound between two others; a moment is that of arrival."""
    begun, heard, lacking, waiting = None, 0, 0, list(stalls)
    for moment, item in items:
        begun = moment if begun is None else begun
        if waiting and moment - begun >= waiting[0]:
            waiting.pop(0)
            time.sleep(STALL)
        if isinstance(item, Samples):
            heard += len(item.samples)
            if mute[0] <= heard / SAMPLE_RATE < mute[1]:
                lacking += len(item.samples)
                continue
            if lacking:
                yield moment, Absent(samples=lacking)
                lacking = 0
        yield max(moment, time.monotonic()) if stalls else moment, item


def run(model: Model, file: Path, *, seconds: float, trouble: bool) -> dict:
    """What came of answering about a paced file."""
    fps, side = model.parameters["fps"], model.parameters["short_side"]
    stalls = (0.3 * seconds, 0.5 * seconds) if trouble else ()
    mute = (0.7 * seconds, 0.8 * seconds) if trouble else (0.0, 0.0)
    decoder = Decoder(str(file), fps=fps, short_side=side, watch=Stopwatch())
    items = with_trouble(paced(decoder, fps=fps), stalls=stalls, mute=mute)
    source = LiveBuffer(items, name=str(file), fps=fps, patience=20, seconds=seconds)
    answers, times, delays, heard, memory = LiveAnswers(model, source), [], [], [], []
    for part, delay in answers:
        times.append(part.seconds)
        delays.append(delay.total)
        heard.append(bool(part.present["audio"][0]))
        memory.append(own_memory(os.getpid()) / 1e6)
    ends, totals = np.array(times), np.array(delays)
    found = {"answers": len(times), "dropped": source.dropped, "stalls": source.stalls, "delay": answers.quantiles()}
    found |= {"longest_delay_s": float(totals.max()), "first_and_last_third_s": thirds(totals)}
    found["memory_mb"] = {"after_a_third": memory[len(memory) // 3], "at_the_end": memory[-1]}
    if trouble:
        normal = float(np.median(totals[ends < stalls[0]]))
        found["normal_s"] = normal
        marks = {"stall 1": stalls[0], "stall 2": stalls[1], "sound gone": mute[0], "sound back": mute[1]}
        found["back_to_normal_after_s"] = {
            name: back_after(ends, totals, at=at, normal=normal) for name, at in marks.items()
        }
        reach = (model.clip.audio_seconds + model.seconds) / 2  # s that a window's sound begins before its pictures end
        inside = (ends > mute[0] + reach) & (ends < mute[1] - reach)
        found["windows_without_sound"] = {"of": int(inside.sum()), "absent": int((~np.array(heard))[inside].sum())}
    return found


def thirds(totals: np.ndarray) -> list[float]:
    """The medians of the first and the last third."""
    size = max(1, len(totals) // 3)
    return [float(np.median(totals[:size])), float(np.median(totals[-size:]))]


def back_after(ends: np.ndarray, totals: np.ndarray, *, at: float, normal: float) -> float:
    """Seconds of the video from `at` to the first of FEW answers whose median is normal again; 0 if it always was.

    The median, since now and then an answer is late without any trouble.
    """
    after = np.flatnonzero(ends >= at - 1)
    medians = [float(np.median(totals[row : row + FEW])) for row in after]
    late = [row for row, median in zip(after, medians, strict=True) if median > normal + SLACK and ends[row] < at + 20]
    following = [row for row in after if late and row > late[-1]]
    return max(0.0, float(ends[following[0]]) - at) if following else 0.0


def keeps_up(found: dict) -> bool:
    first, last = found["first_and_last_third_s"]
    return found["dropped"] == 0 and last < first + SLACK


def size_of(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run's folder")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="sizes to try, from the smallest on")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of these")
    settings = parser.parse_args()
    found: dict = {"size": settings.size, "seconds": 60 * settings.minutes}
    with tempfile.TemporaryDirectory() as folder:
        model = default_model(Path(folder)) if settings.run is None else load(settings.run, device="cpu")
        file = Path(folder) / "video.mp4"
        if settings.minutes:
            write(file, size=size_of(settings.size), seconds=found["seconds"] + LOOP)
            found |= run(model, file, seconds=found["seconds"], trouble=True)
            print(json.dumps(found), flush=True)
        found["sizes"], found["largest_that_keeps_up"] = {}, None
        for size in settings.sizes:
            write(file, size=size_of(size), seconds=settings.seconds + LOOP)
            found["sizes"][size] = of_size = run(model, file, seconds=settings.seconds, trouble=False)
            print(json.dumps({size: of_size}), flush=True)
            if not keeps_up(of_size):
                break
            found["largest_that_keeps_up"] = size
    print(json.dumps(found))


if __name__ == "__main__":
    main()
