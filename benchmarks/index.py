"""Time to open a store of a million videos, beside the same index as a CSV file.

    python -m benchmarks.index                       # two minutes, 3 GB of memory, 700 MB of disk
    python -m benchmarks.index --videos 100000

The index is written by the functions that write every store, for shards without videos, since choosing videos opens
none. Each reader is a process of its own that finds the file in the cache, and prints the seconds to open it and to
make 1,000 videos of random rows, and its memory in all, with Python and NumPy. It is compared with the same rows as
CSV, read with the csv module into a list of dicts. The last line is JSON.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from preprocess.common.console import human_bytes, print_table
from preprocess.common.files import make_folder
from preprocess.store import Store
from preprocess.store.format import shard_folder
from preprocess.store.index import STREAMS, Rejected, Video
from preprocess.store.new_file import new_file, write_index
from preprocess.store.seal import write_seal

ROOT = Path(__file__).resolve().parent.parent
SHARDS = 400
CLASSES = 700
ROWS = 1000  # videos that are accessed
FLOW = {"method": "tv-l1", "engine": "cpu", "preset": "default"}
PARAMETERS = {"fps": 25.0, "short_side": 128, "mel_bands": 64, "flow": FLOW}


def videos_of(count: int) -> Iterator[Video]:
    """Videos as in a crawl of the web: paths of about 60 bytes, one in five without sound."""
    rng = random.Random(0)
    for number in range(count):
        name = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()
        label = f"class {rng.randrange(CLASSES):03d}"
        silent = rng.random() < 0.2
        frames = rng.randrange(50, 300)
        yield Video(
            path=f"{label}/{name[:2]}/{name[:11]}_{number:06d}_{number + frames:06d}_video.clip.mp4",
            label=label,
            group=name[:11],
            split=("train", "val", "test")[rng.randrange(3)],
            content=name,
            seconds=frames / 25,
            expected=2 * frames / 25 if rng.random() < 0.01 else None,
            frames=frames,
            height=128,
            width=170,
            streams={"rgb": True, "flow": True, "audio": not silent},
            why={"audio": "no audio track"} if silent else {},
            bytes={stream: rng.randrange(1000, 9000) * frames for stream in STREAMS},
            shard=number * SHARDS // count,
        )


def write_store(out: Path, count: int) -> dict[str, float]:
    """Write the store; return the seconds taken and its bytes."""
    make_folder(shard_folder(out))
    shards = []
    for number in range(SHARDS):
        aside = out.with_name("shard.h5")
        with new_file(aside, parameters=PARAMETERS | {"shard": number}):
            pass
        shards.append(aside.rename(shard_folder(out) / f"{write_seal(aside).digest}.h5"))
    why = "corrupt: no frame can be decoded"
    rejected = [Rejected(f"rejected/{number:07d}.mp4", why) for number in range(count // 50)]
    videos = list(videos_of(count))
    begun = perf_counter()
    with new_file(out, parameters=PARAMETERS) as file:
        write_index(file, videos, rejected, notes=[], shards=sorted(shards))
    write_seal(out)
    return {"write_seconds": perf_counter() - begun, "bytes": out.stat().st_size}


def row_of(video: Video) -> dict:
    """A video as a row of CSV."""
    row = {name: getattr(video, name) for name in ("path", "label", "group", "split", "content", "seconds", "expected")}
    row |= {name: getattr(video, name) for name in ("frames", "height", "width", "damaged", "shard")}
    for stream in STREAMS:
        row |= {f"has_{stream}": int(video.streams[stream]), f"why_no_{stream}": video.why.get(stream, "")}
        row[f"bytes_{stream}"] = video.bytes[stream]
    return row


def write_csv(path: Path, count: int) -> None:
    with open(path, "w", newline="") as file:
        rows = map(row_of, videos_of(count))
        first = next(rows)
        writer = csv.DictWriter(file, first)
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def read_store(path: Path) -> tuple[float, float]:
    """Seconds to open it, and to make some videos."""
    begun = perf_counter()
    store = Store(path)
    opened = perf_counter()
    rows = random.Random(1).sample(range(len(store)), ROWS)
    videos = [store.videos[row] for row in rows]
    assert len({video.path for video in videos}) == ROWS
    return opened - begun, perf_counter() - opened


def read_csv(path: Path) -> tuple[float, float]:
    """Seconds to read the CSV file, and to make some videos."""
    begun = perf_counter()
    with open(path, newline="") as file:
        table = list(csv.DictReader(file))
    opened = perf_counter()
    rows = random.Random(1).sample(range(len(table)), ROWS)
    assert len({table[row]["path"] for row in rows}) == ROWS
    return opened - begun, perf_counter() - opened


def measure(way: str, path: Path) -> dict[str, float]:
    """The reading times of new processes: the fastest of five, since others may use the machine."""
    command = [sys.executable, "-m", "benchmarks.index", "--read", way, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = [subprocess.run(command, env=environment, capture_output=True, check=True).stdout for _ in range(5)]
    return min(map(json.loads, said), key=lambda row: row["open_seconds"])


def read(way: str, path: Path) -> None:
    """Read and print the times, in a process that `measure` starts."""
    opened, made = {"store": read_store, "csv": read_csv}[way](path)
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss includes the parent's
    print(json.dumps({"open_seconds": round(opened, 3), "rows_seconds": round(made, 4), "peak_bytes": int(peak) << 10}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--read", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        way, path = arguments.read
        read(way, Path(path))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrote = write_store(folder / "out.h5", arguments.videos)
        write_csv(folder / "index.csv", arguments.videos)
        found = {"store": measure("store", folder / "out.h5"), "csv": measure("csv", folder / "index.csv")}
        found["store"] |= {name: round(value, 2) for name, value in wrote.items()}
        found["csv"]["bytes"] = (folder / "index.csv").stat().st_size
    head = ["index", "size", "open", f"{ROWS} videos", "peak memory"]
    rows = [
        [
            name,
            human_bytes(row["bytes"]),
            f"{row['open_seconds']:.2f} s",
            f"{1e3 * row['rows_seconds']:.0f} ms",
            human_bytes(row["peak_bytes"]),
        ]
        for name, row in found.items()
    ]
    print_table(head, rows)
    print(json.dumps({"videos": arguments.videos, "shards": SHARDS} | found))


if __name__ == "__main__":
    main()
