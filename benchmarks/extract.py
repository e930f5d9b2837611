"""Extraction: two workers against one, time a video from the 10th to the 1,000th, memory for 10 minutes and an hour.

    python -m benchmarks.extract            # about ten minutes on two cores
    python -m benchmarks.extract --quick    # three minutes: 300 videos, and half an hour of video
    python -m benchmarks.extract --before /path/of/another/checkout [--videos real/]   # CPU time and flow against it

Makes its own videos. The sides take turns, so that a busy machine slows both. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from preprocess.common.processes import family, own_memory
from preprocess.store.codec import dequantise_flow
from preprocess.store.reader import Store

ROOT = Path(__file__).parents[1]
FPS = 25
SIZE = (240, 320)  # H, W, as UCF101's
SOUND = 16_000  # Hz


def make_video(path: Path, seconds: int, *, seed: int) -> Path:
    """A drifting texture with noise, and sound: H.264 and AAC."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 255, (SIZE[0] // 8, SIZE[1] // 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "28"})
        video.height, video.width = SIZE
        audio = file.add_stream("aac", rate=SOUND, layout="mono")
        for k in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(np.roll(wide, k * 2, axis=1)[:, : SIZE[1]].copy(), format="rgb24")
            file.mux(video.encode(frame))
        samples = rng.normal(0, 0.1, (1, seconds * SOUND)).astype(np.float32)
        for begin in range(0, samples.shape[1], 1024):
            block = av.AudioFrame.from_ndarray(samples[:, begin : begin + 1024].copy(), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = SOUND, begin, Fraction(1, SOUND)
            file.mux(audio.encode(block))
        file.mux(video.encode())
        file.mux(audio.encode())
    return path


def repeat_video(source: Path, target: Path, times: int) -> None:
    """Write a video repeated end to end, without encoding it again."""
    with av.open(str(target), "w") as out:
        with av.open(str(source)) as file:
            streams = [out.add_stream_from_template(stream) for stream in file.streams]
            length = Fraction(file.duration, av.time_base) + 1  # timestamps must rise
        for turn in range(times):
            with av.open(str(source)) as file:
                for packet in file.demux():
                    if packet.dts is None:
                        continue
                    shift = int(turn * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)


def extract(videos: Path, out: Path, *, workers: int, checkout: Path = ROOT) -> tuple[float, int, dict]:
    """Run the command. Returns seconds, the largest memory of all its processes together (bytes), and its report."""
    command = [sys.executable, "-m", "preprocess.extract", str(videos), str(out), "--workers", str(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, **quiet)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    if process.wait():
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    took = time.monotonic() - begun
    watcher.join()
    return took, peak[0], json.loads(out.with_name(f"{out.stem}.report.json").read_text())


def _watch(process: subprocess.Popen, peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(own_memory, family(process.pid))))
        time.sleep(0.1)


def measure_workers(folder: Path, *, count: int, turns: int) -> dict:
    """The speed-up of two workers over one, on videos of equal length."""
    videos = folder / "videos" / "class"
    videos.mkdir(parents=True)
    for number in range(count):
        make_video(videos / f"{number:04d}.mp4", 4, seed=number)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(turns):
        for workers in (1, 2):
            _, _, report = extract(videos.parent, folder / f"{turn}-{workers}.h5", workers=workers)
            (t0, n0), (t1, n1) = report["throughput"][workers], report["throughput"][-workers]  # all at work between
            rates[workers].append((n1 - n0) / (t1 - t0))
    one, two = (statistics.median(rates[workers]) for workers in (1, 2))
    return {"videos_per_s_1_worker": one, "videos_per_s_2_workers": two, "ratio_2_workers": two / one}


def measure_change(folder: Path, before: Path, videos: Path | None, *, turns: int) -> dict:
    """CPU time and flow of this checkout against those of another one, on the same videos.

    Of each side: how many seconds of video a second of CPU time (user and system) extracts, and milliseconds of it a
    second of video by stage, as medians over videos and turns, so that imports in the first video do not count.
    """
    if videos is None:
        videos = folder / "videos"
        (videos / "class").mkdir(parents=True)
        for number in range(40):
            make_video(videos / "class" / f"{number:04d}.mp4", 4, seed=number)
    costs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    sides = [("before", before), ("now", ROOT)]
    for turn in range(turns):
        for side, checkout in sides[:: 1 if turn % 2 else -1]:
            report = extract(videos.absolute(), folder / f"{side}{turn}.h5", workers=1, checkout=checkout)[2]
            used = [row for row in report["videos"] if row["status"] != "rejected"]
            costs[side] += [{stage: cpu / row["seconds"] for stage, cpu in row["cpu"].items()} for row in used]
            print(f"turn {turn + 1} of {turns}, {side}: {sum(report['cpu_seconds'].values()):.1f} s of CPU", flush=True)
    figures: dict = {"videos": len(costs["now"]) // turns}
    for side, found in costs.items():
        figures[f"times_real_time_{side}"] = statistics.median(1 / sum(cost.values()) for cost in found)
        stages = sorted({stage for cost in found for stage in cost})
        medians = {stage: statistics.median(cost.get(stage, 0.0) for cost in found) for stage in stages}
        figures[f"ms_a_second_{side}"] = {stage: round(1000 * median, 2) for stage, median in medians.items()}
    figures["flow_apart_px"] = flow_apart(folder / "before0.h5", folder / "now0.h5")
    return figures


def flow_apart(one: Path, other: Path) -> float:
    """The mean distance of two stores' flow of the same videos, in pixels, after 8 bits."""
    here, there = Store(one), Store(other)
    others = {video.content: video for video in there.videos}
    apart = []
    for video in here.videos:
        steps = range(video.frames - 1)
        flows = [
            dequantise_flow(store.frames(found, "flow", steps))
            for store, found in ((here, video), (there, others[video.content]))
        ]
        apart.append(np.linalg.norm(flows[0] - flows[1], axis=1).mean())
    return float(np.mean(apart))


def measure_flatness(folder: Path, *, count: int) -> dict:
    """Seconds a video in the tenths of a run over many equal videos: the last against the first."""
    videos = folder / "many" / "class"
    videos.mkdir(parents=True)
    short = make_video(folder / "short.mp4", 1, seed=0).read_bytes()
    for number in range(count):  # an empty box ("free") with a number in it makes every file different
        free = (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big")
        (videos / f"{number:05d}.mp4").write_bytes(short + free)
    _, peak, report = extract(videos.parent, folder / "many.h5", workers=2)
    times, counts = np.array(report["throughput"]).T
    edges = np.interp(np.linspace(10, counts[-1], 11), counts, times)
    spans = np.diff(edges) / (counts[-1] - 10) * 10
    return {
        "flat_videos": count,
        "seconds_a_video_by_tenth": [round(float(span), 4) for span in spans],
        "last_to_first": float(np.median(spans[-3:]) / np.median(spans[:3])),
        "flat_memory_mb": peak / 1e6,
    }


def measure_memory(folder: Path, *, minutes: int) -> dict:
    """The most memory that a run takes for one video of 10 minutes and for a long one."""
    minute = make_video(folder / "minute.mp4", 60, seed=1)
    figures: dict[str, float] = {}
    for length in (10, minutes):
        videos = folder / f"long{length}" / "class"
        videos.mkdir(parents=True)
        repeat_video(minute, videos / "long.mp4", length)
        took, peak, _ = extract(videos.parent, folder / f"long{length}.h5", workers=2)
        figures |= {f"memory_mb_{length}_min": peak / 1e6, f"seconds_{length}_min": took}
    figures["memory_ratio"] = figures[f"memory_mb_{minutes}_min"] / figures["memory_mb_10_min"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer videos, and a shorter long one")
    parser.add_argument("--before", type=Path, help="another checkout, to compare this one with")
    parser.add_argument("--videos", type=Path, help="videos to compare them on, instead of made ones")
    parser.add_argument("--turns", type=int, default=3, help="of the comparison")
    options = parser.parse_args()
    quick = options.quick
    figures: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.before:
            print(
                json.dumps(measure_change(Path(folder), options.before.absolute(), options.videos, turns=options.turns))
            )
            return
        figures |= measure_workers(Path(folder), count=30 if quick else 60, turns=2 if quick else 3)
        print(figures, flush=True)
        figures |= measure_flatness(Path(folder), count=300 if quick else 1000)
        print(figures, flush=True)
        figures |= measure_memory(Path(folder), minutes=30 if quick else 60)
    print(json.dumps({name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()}))


if __name__ == "__main__":
    main()
