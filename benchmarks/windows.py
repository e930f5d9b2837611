"""Windows of a long video: memory against a short one, time against the video's own, and whether they are right.

    python -m benchmarks.windows runs/NAME videos/               # clips to make the long videos of
    python -m benchmarks.windows runs/NAME videos/ --minutes 1 60

The clips are decoded and written one after the other, without loss, into one video of each length; then the windows of
the longest are held against those of the single clips where they coincide. The last line is JSON.
"""

import argparse
import json
import tempfile
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import av
import numpy as np

from benchmarks.memory import measure

FPS, RATE = 25, 16_000
SIZE = (320, 240)
LENGTH, HOP = 1.28, 0.64  # s
CHILD = """
import sys, tristream
model = tristream.load(sys.argv[1], device="cpu")
count = sum(len(part) for part in model.windows(sys.argv[2], length=float(sys.argv[3]), hop=float(sys.argv[4])))
print(count)
"""


def decode(file: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The pictures, (H, W, 3) uint8 of SIZE, and as much sound, (N,) int16; silence where there is none."""
    with av.open(str(file)) as container:
        pictures = [frame.reformat(*SIZE, format="rgb24").to_ndarray() for frame in container.decode(video=0)]
    count = len(pictures) * RATE // FPS
    samples = np.zeros(0, np.int16)
    with av.open(str(file)) as container:
        if container.streams.audio:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            parts = [out.to_ndarray()[0] for f in container.decode(audio=0) for out in resampler.resample(f)]
            samples = np.concatenate([samples, *parts])
    return pictures, np.concatenate([samples, np.zeros(count, np.int16)])[:count]


def write(path: Path, clips) -> list[float]:
    """One video of clips, without loss (H.264 at qp 0 in RGB, PCM); the second at which each begins."""
    begins, pictures, heard = [], 0, 0
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264rgb", rate=FPS, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "rgb24"
        audio = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for frames, samples in clips:
            begins.append(pictures / FPS)
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = pictures, Fraction(1, FPS)
                pictures += 1
                file.mux(video.encode(frame))
            for begin in range(0, len(samples), 1024):
                sound = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], format="s16", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = RATE, heard, Fraction(1, RATE)
                heard += sound.samples
                file.mux(audio.encode(sound))
        file.mux(video.encode())
        file.mux(audio.encode())
    return begins


def measure_windows(run: Path, video: Path) -> dict:
    """Seconds and the highest memory of a process, and those that it starts, that goes through all windows."""
    took = measure(["-c", CHILD, run, video, LENGTH, HOP])
    return {"windows": int(took.output), "seconds": took.seconds, "memory_mb": took.memory_mb}


def largest_difference(run: Path, long: Path, clips: list[Path], begins: list[float]) -> dict:
    """The largest difference of a feature between a window of a clip and the same window of the long video, a stream.

    Left out are windows that touch a clip's end, where the long video goes on, or whose sound reaches beyond the clip.
    """
    import torch

    import tristream

    model = tristream.load(run, device="cpu")
    hop = round(HOP * FPS) / FPS
    parts = list(model.windows(long, length=LENGTH, hop=hop))
    times = torch.cat([part.times[:, 0] for part in parts])
    features = {name: torch.cat([part.features[name] for part in parts]) for name in model.streams}
    worst, compared = dict.fromkeys(model.streams, 0.0), dict.fromkeys(model.streams, 0)
    for path, begin in zip(clips, begins, strict=True):
        for part in model.windows(path, length=LENGTH, hop=1 / FPS):
            for row, (since, until) in enumerate(part.times.tolist()):
                gap = (times - begin - since).abs()
                for name in model.streams if gap.min() < 1e-6 else ():
                    margin = 1.0 if name == "audio" else 2 / FPS  # s; sound looks further than pictures
                    if since >= margin * (name == "audio") and until <= end_of(path) - margin:
                        difference = features[name][gap.argmin()] - part.features[name][row]
                        worst[name] = max(worst[name], difference.abs().max().item())
                        compared[name] += 1
    return {name: {"largest": worst[name], "windows": compared[name]} for name in model.streams}


def end_of(path: Path) -> float:
    """Seconds of a video."""
    with av.open(str(path)) as container:
        return container.duration / av.time_base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("videos", type=Path, help="folder of clips, at any depth")
    parser.add_argument("--minutes", type=float, nargs=2, default=(1.0, 10.0), help="of the two videos")
    parser.add_argument("--compare", type=int, default=5, help="clips to compare with, from the longest video's begin")
    settings = parser.parse_args()
    files = sorted(settings.videos.rglob("*.mp4"))
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in settings.minutes:
            path, seconds, clips = Path(folder) / f"{minutes:g}.mkv", 0.0, []
            for file in cycle(files):
                clips.append(file)
                with av.open(str(file)) as container:
                    seconds += container.duration / av.time_base
                if seconds > 60 * minutes:
                    break
            begins = write(path, map(decode, clips))
            found[f"{minutes:g} min"] = measure_windows(settings.run, path) | {"video_seconds": end_of(path)}
            print(json.dumps(found), flush=True)
        singles = [Path(folder) / f"clip{k}.mkv" for k in range(settings.compare)]
        for single, file in zip(singles, clips, strict=False):
            write(single, [decode(file)])
        found["difference"] = largest_difference(settings.run, path, singles, begins[: len(singles)])
    short, long = (found[f"{minutes:g} min"] for minutes in settings.minutes)
    found["memory_ratio"] = long["memory_mb"] / short["memory_mb"]
    found["times_real_time"] = long["video_seconds"] / long["seconds"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
