"""Benchmarks on a GPU, in one command of at most eight minutes, on synthetic data.

    python -m benchmarks.gpu                  # writes benchmarks/results/gpu-<name>.json and .md
    python -m benchmarks.gpu --minutes 4      # parts that do not fit are skipped, with a note
    python -m benchmarks.gpu --tiny           # a test in seconds, also without a GPU

Flow: pairs a second of the engine "cuda" beside "cpu" on one core, and their difference. Training: clips a second of
whole steps, in bfloat16, with one, two and three streams, compiled or not, for several sizes of batch; their share of
the speed of a large matrix product (MFU); the real loop, which reads from a store, and its time of waiting. Reading:
clips a second from worker processes to the GPU. Prediction: latency of one clip, throughput of many. And training steps
of torchvision's r3d_18, r2plus1d_18 and s3d, on pictures alone.

Needs neither PyAV, librosa nor OpenCV's contrib modules; training needs tyro and simplejpeg beside PyTorch. A part that
lacks a package is skipped, with a note. The last line is JSON.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.gpu.data import SUBSETS, TINY, Size, new_dataset, new_store
from benchmarks.gpu.parts import (
    measure_asking,
    measure_flow,
    measure_loop,
    measure_reading,
    measure_theirs,
    measure_training,
)

RESULTS = Path(__file__).parents[1] / "results"


class Report:
    """Results of the parts, and the parts skipped, with reasons."""

    def __init__(self, *, until: float, strict: bool) -> None:
        self.result: dict = {"skipped": {}}
        self.until = until
        self.strict = strict  # True: a part that fails ends the run

    def part(self, name: str, measure: Callable[..., dict], *given: object, **named: object) -> dict | None:
        """Measure one part. A missing package, a lack of memory or an error does not end the others."""
        if time.monotonic() > self.until:
            return self.skip(name, "no time left")
        begun = time.monotonic()
        try:
            measured = measure(*given, **named)
        except ImportError as error:
            return self.skip(name, f"{error}")
        except Exception as error:  # any error: the other parts should still run
            if self.strict:
                raise
            return self.skip(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        *above, last = name.split("/")
        place = self.result
        for key in above:
            place = place.setdefault(key, {})
        place[last] = measured
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in measured.items() if isinstance(value, int | float))
        print(f"{name}: {numbers}  ({time.monotonic() - begun:.0f} s)", flush=True)
        return measured

    def skip(self, name: str, why: str) -> None:
        self.result["skipped"][name] = why
        print(f"{name}: skipped, {why}", flush=True)


def measure_all(report: Report, size: Size, device: torch.device) -> None:
    """Measure every part, the most important first."""
    from fusion.training.meter import peak_flops
    from preprocess.flow.schedule import PRESETS

    peak = peak_flops(device)
    report.result["matmul_tflops"] = peak and peak / 1e12
    for height, width in size.pictures:
        for preset in PRESETS:
            report.part(f"flow/{width}x{height} {preset}", measure_flow, height, width, preset, size, device)
    best: dict | None = None
    for streams in SUBSETS:
        for compiled in size.compiled:
            batches = size.batches if streams == SUBSETS[0] else size.batches[-2:]
            for batch in batches:
                name = f"training/{'+'.join(streams)}, batch {batch}{', compiled' * compiled}"
                row = report.part(name, measure_training, streams, batch, compiled, size, device, peak)
                fastest = best["clips_per_second"] if best else 0.0
                if row and streams == SUBSETS[0] and row["clips_per_second"] > fastest:
                    best = row | {"batch": batch, "compiled": compiled}
    if best:
        given = (SUBSETS[0], best["batch"], best["compiled"], size, device, peak)
        report.part("training/the best, channels first", measure_training, *given, channels_first=True)
    with TemporaryDirectory() as folder:
        made: dict = {}
        report.part("store", describe_store, Path(folder, "made.h5"), size, made)
        if made:
            cores = len(os.sched_getaffinity(0))
            speeds = {}
            for workers in size.workers:
                row = report.part(f"reading/{workers} workers", measure_reading, made["set"], size, workers, device)
                speeds |= {workers: row["clips_per_second"]} if row else {}
            if best and speeds:
                workers = max(speeds, key=speeds.get)
                compiled, named = best["compiled"], {"peak": peak}
                for batch in {min(32, size.batches[-1]), best["batch"]}:
                    loop = (made["set"], batch, compiled, workers, size, device)
                    report.part(f"loop/batch {batch}, {workers} workers on {cores} cores", measure_loop, *loop, **named)
    for batch in (1, size.batches[-1]):
        for compiled in size.compiled:
            name = f"asking/batch {batch}{', compiled' * compiled}"
            report.part(name, measure_asking, batch, compiled, size, device)
    for compiled in size.compiled:
        for name in ("r3d_18", "r2plus1d_18", "s3d"):
            where = f"theirs/{name}{', compiled' * compiled}"
            row = report.part(where, measure_theirs, name, compiled, size, device, peak)
            if row and best:
                row["ours_is_times_as_fast"] = best["clips_per_second"] / row["clips_per_second"]


def describe_store(path: Path, size: Size, made: dict) -> dict:
    """Make a store; return its description, with bytes a frame."""
    store = new_store(path, size)
    made["set"] = new_dataset(store, size)
    total = size.videos * size.frames
    return {f"{name}_bytes_a_frame": sum(v.bytes[name] for v in store.videos) / total for name in ("rgb", "flow")}


def table(result: dict) -> str:
    """The result as Markdown: a table for each part."""
    lines = [f"# {result['device']}", ""]
    lines.append(f"torch {result['torch']}, {result['cores']} cores, {result['seconds']:.0f} s")
    if result.get("matmul_tflops"):
        lines.append(f"A large bfloat16 matrix product reaches {result['matmul_tflops']:.0f} TFLOP/s here.")
    for part in ("flow", "training", "reading", "loop", "asking", "theirs"):
        rows = result.get(part, {})
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        if columns:
            lines += ["", f"| {part} | {' | '.join(column.replace('_', ' ') for column in columns)} |"]
            lines.append("|---" * (len(columns) + 1) + "|")
        for name, row in rows.items():
            cells = [row.get(column, "") for column in columns]
            cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    if result["skipped"]:
        lines += ["", *(f"- not measured: {name}: {why}" for name, why in result["skipped"].items())]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no other part is begun")
    parser.add_argument("--tiny", action="store_true", help="little of everything, also without a GPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for what is written")
    given = parser.parse_args(arguments)
    if not given.tiny and not torch.cuda.is_available():
        raise SystemExit("error: no GPU here; run this where torch.cuda.is_available(), or with --tiny")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    if given.tiny:
        torch.set_num_threads(1)
    begun = time.monotonic()
    report = Report(until=begun + 60 * given.minutes, strict=given.tiny)
    report.result |= {"device": name, "torch": torch.__version__, "cores": len(os.sched_getaffinity(0))}
    measure_all(report, TINY if given.tiny else Size(), device)
    result = report.result | {"seconds": time.monotonic() - begun}
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower())}{'-tiny' * given.tiny}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(result))
    print(f"wrote {path} and {path.with_suffix('.md').name}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
