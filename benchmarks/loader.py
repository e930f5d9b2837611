"""Reading clips: all three streams from a store, beside RGB alone from the video files with torchcodec and decord.

    python -m benchmarks.loader                                        # five minutes: extracts 70 clips of ucf7 first
    python -m benchmarks.loader --store out.h5 --videos videos/        # a store and the files that it was made of

A clip is 16 frames at stride 2 from a random place of a random video. Ours is read as in training: augmented windows of
rgb and flow, and sound. The others give pictures alone, in the file's size, which training would have to resize. Each
is used in the fastest of its ways, which is found first; once opening a file a clip, once with all files kept open.

The sides take turns, one thread each, in processes of their own. Speeds are by a process's CPU time, the time that an
idle core would take: all files are in memory, so that nothing waits. Then the DataLoader with one worker; and the cost
of a clip from an index of a million videos, the store's own repeated. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from benchmarks.apart import Apart
from preprocess.store import Store
from preprocess.store.index import Texts, Videos
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.loader import make_loader
from streams.registry import STREAMS

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "ucf7"
A_CLASS = 10  # extracted videos of each class
BATCH = 32
MILLION = 1_000_000


class Ours:
    """Batches of random, augmented clips, read in this process."""

    def __init__(self, store: Store, videos, clip: ClipSettings, streams: tuple[str, ...] = tuple(STREAMS)) -> None:
        self.dataset = ClipDataset(store, videos, streams=streams, classes=store.classes, clip=clip, seed=0)
        self.rng = np.random.default_rng(0)

    def __call__(self, clips: int) -> None:
        for number in range(-(-clips // BATCH)):
            rows = self.rng.integers(len(self.dataset), size=min(BATCH, clips - number * BATCH))
            self.last = self.dataset.__getitems__([(int(row), int(self.rng.integers(1000))) for row in rows])


class Peer:
    """A decoder of video files: `open_file` gives a reader, `read` the clip of 16 frames from a first one on."""

    def __init__(self, files: list[Path], clip: ClipSettings, open_file: Callable, read: Callable, keep=False) -> None:
        self.files, self.clip, self.open_file, self.read = files, clip, open_file, read
        self.kept = [open_file(str(file)) for file in files] if keep else None
        self.rng = np.random.default_rng(0)

    def __call__(self, clips: int) -> None:
        for row in self.rng.integers(len(self.files), size=clips):
            reader = self.kept[row] if self.kept else self.open_file(str(self.files[row]))
            frames = len(reader)
            start = int(self.rng.integers(max(0, frames - self.clip.span) + 1))
            pictures = self.read(reader, range(start, min(start + self.clip.span, frames), self.clip.stride))
            assert min(pictures.shape[-3:]) in (3, *range(8, 4096))


def torchcodec_ways() -> dict[str, tuple[Callable, Callable]]:
    """torchcodec's ways to read a clip, by name. Raises ImportError or RuntimeError if it, or FFmpeg, is missing."""
    from torchcodec.decoders import VideoDecoder

    def opener(mode: str) -> Callable:
        return lambda path: VideoDecoder(path, num_ffmpeg_threads=1, seek_mode=mode)

    reads = {
        "frames_at": lambda reader, steps: reader.get_frames_at(list(steps)).data,
        "frames_in_range": lambda reader, steps: reader.get_frames_in_range(steps[0], steps[-1] + 1, steps.step).data,
    }
    return {f"{m}, {name}": (opener(m), read) for m in ("approximate", "exact") for name, read in reads.items()}


def decord_ways() -> dict[str, tuple[Callable, Callable]]:
    """decord's ways to read a clip, by name. Raises ImportError if it is missing."""
    import decord

    def open_file(path: str):
        return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)

    return {"get_batch": (open_file, lambda reader, steps: reader.get_batch(list(steps)).asnumpy())}


def find_peers(files: list[Path], clip: ClipSettings, *, clips: int) -> tuple[dict[str, Apart], dict[str, str]]:
    """Each peer's fastest way, opening files and with them open; and the way's name, or the reason for none."""
    sides, notes = {}, {}
    for name, ways in (("torchcodec", torchcodec_ways), ("decord", decord_ways)):

        def start(way: str, *, keep: bool = False, ways=ways) -> Apart:
            return Apart(lambda: Peer(files, clip, *ways()[way], keep=keep))

        try:
            peers = {way: start(way) for way in ways()}
            seconds = {way: (peer(2), peer(clips))[1][0] for way, peer in peers.items()}
        except (ImportError, RuntimeError, OSError) as error:
            notes[name] = f"skipped: {str(error).splitlines()[0]}"
            continue
        notes[name] = min(seconds, key=seconds.get)
        sides[name] = peers[notes[name]]
        sides[f"{name}, files open"] = start(notes[name], keep=True)
    return sides, notes


def race(sides: dict[str, Apart], *, turns: int, clips: dict[str, int]) -> dict[str, dict[str, float]]:
    """Run the sides in turns: median clips a second, by CPU time and by wall time."""
    taken = {name: ([], []) for name in sides}
    for name, side in sides.items():
        side(clips[name])  # bring files into memory
    for _ in range(turns):
        for name, side in sides.items():
            for speeds, seconds in zip(taken[name], side(clips[name]), strict=True):
                speeds.append(clips[name] / seconds)
    return {
        name: {"clips_per_s": statistics.median(cpu), "by_the_clock": statistics.median(clock)}
        for name, (cpu, clock) in taken.items()
    }


class DecodeAlone:
    """The JPEG decoding in our reading: random frames of rgb and flow, from memory, discarded."""

    def __init__(self, store: Store, clip: ClipSettings) -> None:
        from preprocess.store.codec import decode_flow, decode_rgb

        rng, self.frames, self.each = np.random.default_rng(0), [], clip.frames
        for video in store.videos:
            for stream, decode in (("rgb", decode_rgb), ("flow", decode_flow)):
                if video.streams[stream]:
                    group = store.group(video)[stream]
                    ends, data = group["ends"][:], group["data"][:]
                    picked = rng.integers(len(ends) - 1, size=4)
                    self.frames.append([(decode, data[ends[k] : ends[k + 1]].copy()) for k in picked])

    def __call__(self, clips: int) -> None:
        frames = [frame for group in self.frames for frame in group]
        for number in range(2 * self.each * clips):
            decode, jpeg = frames[number % len(frames)]
            decode(jpeg)


def repeat_index(store: Store, rows: int) -> Videos:
    """The store's videos repeated, `rows` in all."""
    count = len(store)
    times = -(-rows // count)

    def repeat(column):
        if isinstance(column, Texts):
            return Texts(np.tile(column.array(), times))
        return np.tile(column, times)

    return Videos({name: repeat(column) for name, column in store.columns.items()}, store.classes)


def with_worker(store: Store, videos, clip: ClipSettings, *, batches: int) -> dict[str, float]:
    """Clips a second of wall time through a DataLoader with one worker; CPU milliseconds a clip on either side."""
    dataset = ClipDataset(store, videos, streams=tuple(STREAMS), classes=store.classes, clip=clip, seed=0)
    rng = np.random.default_rng(0)
    keys = [[(int(row), 0) for row in rng.integers(len(videos), size=BATCH)] for _ in range(batches + 2)]
    reads = iter(make_loader(dataset, keys, workers=1, pin=False))
    worker = Path("/proc", str(reads._workers[0].pid), "stat")

    def worker_seconds() -> float:
        ticks = worker.read_text().rsplit(")", 1)[1].split()[11:13] if worker.exists() else (0, 0)
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    next(reads), next(reads)
    begun, mine, its = perf_counter(), process_time(), worker_seconds()
    count = 0
    for batch in reads:
        count += len(batch.labels)
        if count == batches * BATCH:  # before the worker becomes idle
            break
    result = {
        "by_the_clock": count / (perf_counter() - begun),
        "worker_ms": 1e3 * (worker_seconds() - its) / count,
        "program_ms": 1e3 * (process_time() - mine) / count,
    }
    del reads  # ends the worker
    return result


def measure(store: Store, files: list[Path], *, clip: ClipSettings, turns: int, clips: int) -> dict:
    videos = [video for video in store.videos if all(video.streams.values())]
    sides = {
        "ours": Apart(lambda: Ours(store, videos, clip)),
        "index of a million": Apart(lambda: Ours(store, repeat_index(store, MILLION), clip)),
        "ours, rgb alone": Apart(lambda: Ours(store, videos, clip, ("rgb",))),
        "JPEG decoding alone": Apart(lambda: DecodeAlone(store, clip)),
    }
    peers, notes = {}, {"peers": "skipped: no videos"}
    if files:
        peers, notes = find_peers(files, clip, clips=max(2, clips // 16))
    few = max(2, clips // 8)
    results = race(sides | peers, turns=turns, clips=dict.fromkeys(sides, clips) | dict.fromkeys(peers, few))
    ours = Ours(store, videos, clip)
    ours(BATCH)
    ours.last.inputs(training=True)
    begun = process_time()
    for _ in range(turns):
        ours.last.inputs(training=True)
    prepared = (process_time() - begun) / turns / len(ours.last.labels)
    mine = results["ours"]["clips_per_s"]
    report = {
        "benchmark": "loader",
        "videos": len(videos),
        "load": os.getloadavg()[0],
        "clips_per_s": mine,
        "prepare_ms": 1e3 * prepared,
        "clips_per_s_with_prepare": 1 / (1 / mine + prepared),
        "ms_a_clip": {"small": 1e3 / mine, "million": 1e3 / results["index of a million"]["clips_per_s"]},
        "jpeg_ms": 1e3 / results["JPEG decoding alone"]["clips_per_s"],
        "sides": results,
        "one_worker": with_worker(store, videos, clip, batches=max(1, turns)),
        "ways": notes,
    }
    for peer in ("torchcodec", "decord"):
        if peer in results:
            report[f"ratio_{peer}"] = mine / results[peer]["clips_per_s"]
            report[f"ratio_{peer}_by_the_clock"] = results["ours"]["by_the_clock"] / results[peer]["by_the_clock"]
            report[f"ratio_{peer}_files_open"] = mine / results[f"{peer}, files open"]["clips_per_s"]
    return report


def print_report(report: dict) -> None:
    print(f"{report['videos']} videos, load average {report['load']:.1f}; clips a second")
    print(f"{'':28}{'CPU time':>10}{'clock':>10}{'ours / it':>11}")
    for name, row in report["sides"].items():
        ratio = report["clips_per_s"] / row["clips_per_s"]
        print(f"{name:28}{row['clips_per_s']:10.1f}{row['by_the_clock']:10.1f}{ratio:11.2f}")
    for peer, way in report["ways"].items():
        print(f"{peer}: {way}")
    worker = report["one_worker"]
    print(f"one worker: {worker['by_the_clock']:.0f} clips/s by the clock; {worker['worker_ms']:.2f} ms of CPU a clip")
    print(f"reading {1e3 / report['clips_per_s']:.2f} ms a clip, of it JPEG {report['jpeg_ms']:.2f} ms; ", end="")
    print(f"prepare on this CPU another {report['prepare_ms']:.2f} ms")


def sample(folder: Path) -> Path:
    """Evenly chosen clips of each class of ucf7, as links in a folder."""
    for source in sorted(DATA.iterdir()):
        (folder / source.name).mkdir(parents=True)
        paths = sorted(source.glob("*.mp4"))
        for path in paths[:: max(1, len(paths) // A_CLASS)][:A_CLASS]:
            shutil.copy(path, folder / source.name / path.name)
    return folder


def again_with_ffmpeg(arguments: list[str]) -> int | None:
    """Run again so that torchcodec finds PyAV's FFmpeg, whose libraries have other names in its wheel.

    None if torchcodec finds an FFmpeg anyway, or there is none to find.
    """
    import re
    from importlib.util import find_spec

    folders = [Path(find_spec("av").origin).parent.parent / "av.libs"] if find_spec("av") else []
    if not find_spec("torchcodec") or not any(map(Path.is_dir, folders)) or "TRISTREAM_FFMPEG" in os.environ:
        return None
    try:
        import torchcodec.decoders

        torchcodec.decoders.VideoDecoder(b"")
    except RuntimeError as error:
        if "Could not load libtorchcodec" not in str(error):
            return None  # it is loaded, and reports that this is not a video
    except Exception:
        return None
    with tempfile.TemporaryDirectory() as links:
        for library in folders[0].glob("lib*"):
            if found := re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)[.\d]*", library.name):
                Path(links, f"{found[1]}.so.{found[2]}").symlink_to(library)
        paths = [links, str(folders[0]), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        environment = os.environ | {"LD_LIBRARY_PATH": ":".join(paths), "TRISTREAM_FFMPEG": links}
        return subprocess.run([sys.executable, "-m", "benchmarks.loader", *arguments], env=environment).returncode


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="the default is extracted for the purpose")
    parser.add_argument("--videos", type=Path, help="folder of the files that the store was made of")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--clips", type=int, default=128, help="clips a turn; a peer reads an eighth")
    given = parser.parse_args(arguments)
    if given.videos or not given.store:
        code = again_with_ffmpeg(sys.argv[1:] if arguments is None else arguments)
        if code is not None:
            raise SystemExit(code)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if not given.store:
            if not DATA.is_dir():
                raise SystemExit(f"error: benchmarks/loader.py needs {DATA}, or --store and --videos")
            given.videos, given.store = sample(Path(scratch, "videos")), Path(scratch, "out.h5")
            extract = [sys.executable, "-m", "preprocess.extract", str(given.videos), str(given.store)]
            subprocess.run(extract, check=True, stdout=subprocess.DEVNULL)
        store = Store(given.store)
        files = [given.videos / video.path for video in store.videos] if given.videos else []
        report = measure(store, files, clip=ClipSettings(), turns=given.turns, clips=given.clips)
    print_report(report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
