"""Long videos through the commands: memory against a short one, time against the video's own.

    python -m benchmarks.long runs/NAME                       # 10 and 60 minutes, features and timeline
    python -m benchmarks.long runs/NAME --minutes 1 3 --hop 0.64
    python -m benchmarks.long runs/NAME --detector runs/events

The videos are made: a texture that drifts this way and that, with a tone that comes and goes, 15 seconds over
and over. With --detector, events are found too. The last line is JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.memory import measure

FPS, RATE = 25, 16_000
SIZE = (320, 240)
UNIT = 15  # s that are made, and then repeated


def write_unit(path: Path) -> None:
    """UNIT seconds of video with sound."""
    random = np.random.default_rng(0)
    wide = np.kron(random.integers(30, 220, (SIZE[1] // 8, 2 * SIZE[0] // 8), np.uint8), np.ones((8, 8), np.uint8))
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "bf": "0"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(UNIT * FPS):
            shift = round(SIZE[0] / 2 * (1 + np.sin(2 * np.pi * number / (UNIT * FPS))))
            picture = np.repeat(wide[:, shift : shift + SIZE[0], None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            file.mux(video.encode(frame))
            clock = np.arange(number * RATE // FPS, (number + 1) * RATE // FPS)
            loud = 8000 * (clock // RATE % 3 > 0)
            samples = (loud * np.sin(2 * np.pi * 440 * clock / RATE)).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, int(clock[0]), Fraction(1, RATE)
            file.mux(sound.encode(heard))
        file.mux(video.encode())
        file.mux(sound.encode())


def repeat(unit: Path, path: Path, *, times: int) -> None:
    """The video `unit` so many times, its packets copied."""
    with av.open(str(path), "w") as out, av.open(str(unit)) as first:
        streams = [out.add_stream_from_template(stream) for stream in first.streams]
        for turn in range(times):
            with av.open(str(unit)) as file:
                for packet in file.demux():
                    if packet.dts is None:  # the end of a stream
                        continue
                    later = round(turn * UNIT / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)


def commands(
    run: Path, video: Path, folder: Path, *, window: list, detector: Path | None
) -> Iterator[tuple[str, list]]:
    """The commands to measure, by their names."""
    yield "features", ["-m", "tasks.features", run, video, folder / f"{video.stem}.h5", *window]
    yield "timeline", ["-m", "tasks.predict", run, video, "--timeline", "--json", *window]
    if detector is not None:
        yield "events", ["-m", "tasks.events", "predict", detector, video, "--out", folder / video.stem]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, nargs=2, default=(10.0, 60.0), help="of the two videos")
    parser.add_argument("--length", type=float, help="seconds of a window; the default is the run's")
    parser.add_argument("--hop", type=float, help="seconds from one window to the next; the default is the length")
    parser.add_argument("--only", nargs="+", help="of features, timeline and events, these alone")
    parser.add_argument("--detector", type=Path, help="a folder that tasks.events train has written")
    settings = parser.parse_args()
    window = [part for name in ("length", "hop") if (value := getattr(settings, name)) for part in (f"--{name}", value)]
    run, detector = settings.run.resolve(), settings.detector and settings.detector.resolve()
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_unit(folder / "unit.mkv")
        for minutes in settings.minutes:
            video, times = folder / f"{minutes:g}.mkv", max(1, round(60 * minutes / UNIT))
            repeat(folder / "unit.mkv", video, times=times)
            for task, arguments in commands(run, video, folder, window=window, detector=detector):
                if settings.only and task not in settings.only:
                    continue
                took = measure(arguments)
                row = {"seconds": took.seconds, "memory_mb": took.memory_mb, "video_seconds": float(times * UNIT)}
                row["times_real_time"] = row["video_seconds"] / took.seconds
                found.setdefault(task, {})[f"{minutes:g} min"] = row
                print(f"{task} of {minutes:g} min: {took.seconds:.0f} s, {took.memory_mb:.0f} MB", flush=True)
    for rows in found.values():
        short, long = (rows[f"{minutes:g} min"] for minutes in settings.minutes)
        rows["memory_ratio"] = long["memory_mb"] / short["memory_mb"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
