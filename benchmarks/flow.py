"""Optical flow: speed, accuracy, the error of the 8-bit encoding, and the figure of docs/flow.md.

    python -m benchmarks.flow            # about three minutes, one thread
    python -m benchmarks.flow --quick    # under one minute, fewer clips

Reads ../shared/data/ucf7 (real video) and ../shared/data/middlebury (true flow), writes docs/flow.png and
prints one JSON line last. Speeds are ratios of two sides that take turns on the same frames, so that a busy
machine slows both.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from preprocess.flow import tvl1
from preprocess.flow.cpu import solve
from preprocess.flow.schedule import PRESETS
from preprocess.store.codec import dequantise_flow, quantise_flow

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SIZES = {"340x256": (340, 256), "171x128": (171, 128)}
STORED = "171x128"  # a store's default size, at which the encoding is measured
UNKNOWN = 1e9  # Middlebury marks pixels without true flow by larger values
BOUNDS = (20.0, 15.0)  # pixels: flow that 8 bits span on either side of zero; the first is the store's
JPEG_QUALITIES = (75, 85, 90, 95, 97, 98, 100)

Flow = Callable[[np.ndarray], np.ndarray]  # (T, H, W) uint8 -> (T - 1, H, W, 2) float32


def pairwise(calculate: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Flow:
    return lambda frames: np.stack([calculate(a, b) for a, b in itertools.pairwise(frames)])


def dis(preset: int) -> Flow:
    return pairwise(lambda a, b: cv2.DISOpticalFlow_create(preset).calc(a, b, None))


def methods() -> dict[str, Flow]:
    """All methods compared, by their names in the table; the reference first."""
    return {
        "TV-L1 (opencv)": lambda frames: tvl1(frames, engine="opencv"),
        "TV-L1 (cpu, default)": lambda frames: tvl1(frames, engine="cpu"),
        "TV-L1 (cpu, quality)": lambda frames: tvl1(frames, engine="cpu", preset="quality"),
        "Farneback (opencv)": pairwise(lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 5, 15, 3, 5, 1.2, 0)),
        "DIS ultrafast (opencv)": dis(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
        "DIS fast (opencv)": dis(cv2.DISOPTICAL_FLOW_PRESET_FAST),
        "DIS medium (opencv)": dis(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    }


def schedules() -> dict[str, Flow]:
    """Other schedules of the engine "cpu", for the figure's line."""
    default, quality = PRESETS["default"], PRESETS["quality"]
    others = {
        "schedule: 1 warp": replace(default, passes=((1, 10), (2, 10))),
        "schedule: 2 warps": replace(default, passes=((2, 10), (3, 15), (4, 20))),
        "schedule: scale 0.6": replace(default, scale=0.6, passes=((4, 15), (4, 20))),
        "schedule: twice quality": replace(quality, passes=((10, 30),)),
    }
    return {name: (lambda frames, s=settings: solve(frames, s)) for name, settings in others.items()}


def read_clips(count: int, frames: int) -> list[np.ndarray]:
    """`frames` consecutive grey frames from the middle of each of `count` clips, all classes in turn."""
    import av

    classes = [sorted(folder.glob("*.mp4")) for folder in sorted((DATA / "ucf7").iterdir())]
    clips = []
    for i in range(count):
        paths = classes[i % len(classes)]
        with av.open(str(paths[(i * 37) % len(paths)])) as container:
            grey = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        middle = (len(grey) - frames) // 2
        clips.append(np.stack(grey[middle : middle + frames]))
    return clips


def resized(clip: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    method = cv2.INTER_AREA if size[0] < clip.shape[2] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, size, interpolation=method) for frame in clip])


def read_middlebury() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per pair: frames (2, H, W) uint8 and true flow (H, W, 2) float32."""
    pairs = {}
    for folder in sorted((DATA / "middlebury").iterdir()):
        frames = [cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)]
        raw = (folder / "flow10.flo").read_bytes()
        width, height = np.frombuffer(raw, "<i4", 2, 4)
        pairs[folder.name] = np.stack(frames), np.frombuffer(raw, "<f4", offset=12).reshape(height, width, 2)
    return pairs


def endpoint_error(flow: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance in pixels where the truth is known."""
    known = (np.abs(truth) < UNKNOWN).all(-1)
    return float(np.linalg.norm(flow - truth, axis=-1)[known].mean())


def photometric_error(frames: np.ndarray, flows: np.ndarray) -> float:
    """Mean |I1(x + flow) - I0(x)| in grey levels over all pairs; bilinear, the edge repeated."""
    height, width = frames.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    errors = []
    for a, b, flow in zip(frames[:-1], frames[1:], flows, strict=True):
        back = cv2.remap(
            b.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        errors.append(np.abs(back - a).mean())
    return float(np.mean(errors))


def race(clips: list[np.ndarray], entries: dict[str, Flow], reference: str) -> dict[str, dict]:
    """Run every method on every clip, in turns: seconds a pair, match, and distance from the reference.

    A quick method runs three times a clip and its median counts, since a single run is mostly noise.
    """
    for flow in entries.values():
        flow(clips[0][:2])  # compile, load
    results = {name: {"seconds": [], "photometric": [], "difference": []} for name in entries}
    for clip in clips:
        flows = {}
        for name, flow in entries.items():
            taken = []
            while len(taken) < (1 if name == reference else 3):
                start = time.perf_counter()
                flows[name] = flow(clip)
                taken.append((time.perf_counter() - start) / (len(clip) - 1))
            results[name]["seconds"].append(statistics.median(taken))
            results[name]["photometric"].append(photometric_error(clip, flows[name]))
            apart = np.linalg.norm(flows[name] - flows[reference], axis=-1)
            results[name]["difference"].append(float(apart.mean()))
    for result in results.values():
        result["pairs_per_second"] = 1 / float(np.mean(result["seconds"]))
    return results


def report_size(label: str, results: dict[str, dict], reference: str) -> dict:
    """Print one image size's table; returns its JSON. Ratios: of totals, and the median over clips."""
    print(f"\n{label}, {len(results[reference]['seconds'])} clips, one thread")
    print(f"{'':26}{'pairs/s':>10}{'x opencv':>10}{'median':>8}{'photometric':>13}{'px from opencv':>16}")
    summary = {}
    for name, result in results.items():
        ratio = result["pairs_per_second"] / results[reference]["pairs_per_second"]
        taken = zip(results[reference]["seconds"], result["seconds"], strict=True)
        each = [slow / fast for slow, fast in taken]
        summary[name] = {
            "pairs_per_second": round(result["pairs_per_second"], 2),
            "ratio": round(ratio, 1),
            "median_ratio": round(statistics.median(each), 1),
            "photometric": round(float(np.mean(result["photometric"])), 4),
            "difference": round(float(np.mean(result["difference"])), 4),
        }
        row = summary[name]
        print(
            f"{name:26}{row['pairs_per_second']:10.2f}{row['ratio']:10.1f}{row['median_ratio']:8.1f}"
            f"{row['photometric']:13.3f}{row['difference']:16.3f}"
        )
    return summary


def report_middlebury(pairs: dict, entries: dict[str, Flow]) -> dict[str, dict[str, float]]:
    """Print and return the endpoint error of each method on each pair, and the mean."""
    print("\nMiddlebury, endpoint error (pixels)")
    print(f"{'':26}" + "".join(f"{name:>13}" for name in [*pairs, "mean"]))
    table = {}
    for name, flow in entries.items():
        errors = {pair: endpoint_error(flow(frames)[0], truth) for pair, (frames, truth) in pairs.items()}
        table[name] = {**errors, "mean": float(np.mean(list(errors.values())))}
        print(f"{name:26}" + "".join(f"{error:13.3f}" for error in table[name].values()))
    return {name: {pair: round(error, 4) for pair, error in row.items()} for name, row in table.items()}


def report_encoding(flows: list[np.ndarray], bound: float) -> dict[str, dict[str, float]]:
    """Bytes a pair and added error of flow as round(128 + v * 127 / bound), by codec.

    One grey image a pair, the x plane above the y plane. `error` is the mean of |decoded - flow| over both
    components, `endpoint` the mean distance. Lossless codecs show what 8 bits alone cost.
    """
    stacks = [np.concatenate([flow[..., 0], flow[..., 1]]) for clip in flows for flow in clip]
    coded = [quantise_flow(plane, bound=bound) for plane in stacks]
    beyond = float(np.mean([(np.abs(plane) > bound).mean() for plane in stacks]))
    table = {"beyond": round(beyond, 6)}

    def add(name: str, sizes: list[int], decoded: list[np.ndarray]) -> None:
        component, endpoint = [], []
        for plane, back in zip(stacks, decoded, strict=True):
            off = dequantise_flow(back, bound=bound) - plane
            half = len(off) // 2
            component.append(np.abs(off).mean())
            endpoint.append(np.hypot(off[:half], off[half:]).mean())
        table[name] = {
            "bytes": round(float(np.mean(sizes))),
            "error": round(float(np.mean(component)), 4),
            "endpoint": round(float(np.mean(endpoint)), 4),
        }
        print(f"{name:26}{table[name]['bytes']:12}{table[name]['error']:12.4f}{table[name]['endpoint']:12.4f}")

    print(f"\n8-bit flow, bound {bound:g} px ({beyond:.3%} beyond it), {len(coded)} pairs at {STORED}")
    print(f"{'':26}{'bytes/pair':>12}{'error (px)':>12}{'endpoint':>12}")
    for quality in JPEG_QUALITIES:
        how = [cv2.IMWRITE_JPEG_QUALITY, quality]
        files = [cv2.imencode(".jpg", plane, how)[1] for plane in coded]
        add(
            f"JPEG {quality}",
            [len(file) for file in files],
            [cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files],
        )
    add("PNG", [len(cv2.imencode(".png", plane)[1]) for plane in coded], coded)
    sizes = blosc2_sizes(coded)
    if sizes:
        add("Blosc2/zstd (HDF5)", sizes, coded)
    else:
        print("Blosc2/zstd: not measured, hdf5plugin or h5py is not installed")
    return table


def blosc2_sizes(coded: list[np.ndarray]) -> list[int] | None:
    """Stored bytes of each array as one HDF5 chunk; None where h5py or hdf5plugin is missing."""
    try:
        import h5py
        import hdf5plugin
    except ImportError:
        return None
    filters = hdf5plugin.Blosc2(cname="zstd", clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        return [
            file.create_dataset(str(i), data=plane, chunks=plane.shape, compression=filters).id.get_storage_size()
            for i, plane in enumerate(coded)
        ]


def draw(points: dict[str, tuple[float, float]], path: Path) -> None:
    """Draw the trade-off: endpoint error against pairs/s, our schedules on a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    ours = sorted(point for name, point in points.items() if "opencv" not in name)
    axes.plot(*zip(*ours, strict=True), ".-", color="tab:blue", lw=1.2, label="our schedules")
    for name, (speed, error) in points.items():
        if name.startswith("schedule"):
            continue
        theirs = "opencv" in name
        axes.plot(speed, error, "o", color="tab:gray" if theirs else "tab:blue")
        axes.annotate(name, (speed, error), textcoords="offset points", xytext=(6, 6 if theirs else -12), fontsize=8)
    axes.set(
        xscale="log",
        xlim=(0.5, 2e4),
        ylim=(0, 1.4),
        xlabel="pairs/s at 340x256, one core",
        ylabel="Middlebury endpoint error (px), mean of four",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clips, no figure")
    quick = parser.parse_args().quick
    for needed in ("ucf7", "middlebury"):
        if not (DATA / needed).is_dir():
            raise SystemExit(f"benchmarks/flow.py needs {DATA / needed}")
    cv2.setNumThreads(1)

    entries = methods()
    reference, default, *_ = entries
    if not quick:
        entries |= schedules()
    clips = read_clips(count=7 if quick else 21, frames=3)
    report = {"benchmark": "flow", "quick": quick, "opencv": cv2.__version__, "sizes": {}}
    for label, size in SIZES.items():
        results = race([resized(clip, size) for clip in clips], entries, reference)
        report["sizes"][label] = report_size(label, results, reference)
    report["middlebury"] = report_middlebury(read_middlebury(), entries)
    flows = [entries[default](resized(clip, SIZES[STORED])) for clip in clips]
    report["encoding"] = {f"{bound:g}": report_encoding(flows, bound) for bound in BOUNDS}
    if not quick:
        speeds = report["sizes"]["340x256"]
        errors = report["middlebury"]
        points = {name: (speeds[name]["pairs_per_second"], errors[name]["mean"]) for name in entries}
        draw(points, ROOT / "docs" / "flow.png")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
