"""The parts of the GPU suite, a function for each."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.gpu.data import CLASSES, SUBSETS, Endless, Size, moving_texture, new_batch


def measure_flow(height: int, width: int, preset: str, size: Size, device: torch.device) -> dict:
    """Speed of both engines, in turns, and their difference on the same pairs."""
    from preprocess.flow import tvl1

    engine = "cuda" if device.type == "cuda" else "cpu"
    video = moving_texture(height, width, size.pairs + 1)
    tvl1(video[:3], engine=engine, preset=preset)  # compiles
    mine = []
    for _ in range(size.turns):
        start = time.perf_counter()
        flow = tvl1(video, engine=engine, preset=preset)
        mine.append(size.pairs / (time.perf_counter() - start))
    result = {"pairs_per_second": statistics.median(mine)}
    try:
        tvl1(video[:3], engine="cpu", preset=preset)
    except ImportError as error:
        return result | {"cpu": f"skipped, {error}"}
    theirs = []
    for _ in range(min(size.turns, 3)):
        start = time.perf_counter()
        on_cpu = tvl1(video[: size.pairs_on_cpu + 1], engine="cpu", preset=preset)
        theirs.append(size.pairs_on_cpu / (time.perf_counter() - start))
    apart = np.linalg.norm(flow[: size.pairs_on_cpu] - on_cpu, axis=-1).mean()
    cpu = statistics.median(theirs)
    return result | {"cpu_pairs_per_second": cpu, "ratio": result["pairs_per_second"] / cpu, "apart_px": float(apart)}


def measure_reading(dataset, size: Size, workers: int, device: torch.device) -> dict:
    """Clips a second from the store to the device, through pinned memory; the towers' inputs are not made."""
    from streams.loader import make_loader

    batch = 4 if size.tiny else 64
    reads = iter(make_loader(dataset, Endless(dataset, batch), workers=workers, pin=device.type == "cuda"))
    for _ in range(2 + 2 * workers):  # skip batches read ahead while the workers started
        next(reads).to(device)
    synchronise(device)
    begun, clips = time.perf_counter(), 0
    while not clips or time.perf_counter() - begun < size.seconds:
        clips += len(next(reads).to(device).labels)
    synchronise(device)
    result = {"clips_per_second": clips / (time.perf_counter() - begun)}
    del reads  # ends the workers
    return result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeat(step: Callable[[], object], size: Size, device: torch.device) -> float:
    """Seconds a step: many in a row without waiting between them; the median of a few such rows."""
    for _ in range(1 if size.tiny else 3):
        step()
    synchronise(device)
    begun = time.perf_counter()
    step()
    synchronise(device)
    row = max(1, round(size.seconds / size.turns / (time.perf_counter() - begun)))
    seconds = []
    for _ in range(size.turns):
        begun = time.perf_counter()
        for _ in range(row):
            step()
        synchronise(device)
        seconds.append((time.perf_counter() - begun) / row)
    return statistics.median(seconds)


def new_model(streams: tuple[str, ...], size: Size, device: torch.device):
    from fusion.model import build_model
    from fusion.settings import ModelSettings

    parameters = {"mel_bands": 64, "short_side": min(size.stored)}
    return build_model(ModelSettings(**size.model), streams=streams, classes=CLASSES, parameters=parameters).to(device)


def new_step(model, device: torch.device):
    """A training step, a function of a batch, and the counter of its steps."""
    from fusion.training.balance import Auxiliary
    from fusion.training.ranks import Ranks
    from fusion.training.settings import Recipe
    from fusion.training.step import Schedule, Step

    recipe, number = Recipe(), 0
    balance = Auxiliary(streams=tuple(model.encoders), auxiliary=recipe.auxiliary, epochs=recipe.epochs)
    schedule = Schedule(lr=recipe.lr, weight_decay=recipe.weight_decay, steps=10**6)
    step = Step(model, balance=balance, schedule=schedule, device=device, ranks=Ranks())

    def run(batch) -> None:
        nonlocal number
        step([batch], number, recipe=recipe, seed=0)
        number += 1
        if step.due:
            step.report_skipped()

    return run


def clip_flops(model, batch, device: torch.device) -> float:
    """Floating-point operations to train on a clip."""
    from fusion.training.meter import training_flops

    batch = batch.to(device)
    return training_flops(model, batch.inputs(training=False), batch.present)


def measure_training(
    streams,
    batch: int,
    compiled: bool,
    size: Size,
    device: torch.device,
    peak: float | None,
    *,
    channels_first: bool = False,
) -> dict:
    """Whole steps on batches from pinned memory: copy, augmentation, forward, backward, update."""
    from fusion.training.compiling import compile_encoders

    model = new_model(streams, size, device).train()
    if channels_first:
        model.to(memory_format=torch.contiguous_format)
    given = new_batch(streams, batch, size, device)
    flops = clip_flops(model, given, device)
    note = compile_encoders(model, device, compiled)
    if compiled and note != ", compiled":
        raise ImportError(note.strip(", "))
    step = new_step(model, device)
    forget_peak(device)
    seconds = repeat(lambda: step(given), size, device)
    result = {"clips_per_second": batch / seconds, "gflop_a_clip": flops / 1e9} | peak_memory(device)
    return result | ({"mfu": flops * batch / seconds / peak} if peak else {})


def measure_loop(dataset, batch: int, compiled: bool, workers: int, size: Size, device, peak: float | None) -> dict:
    """Steps on batches from a loader, as in train.py, and the time that they wait for it."""
    from fusion.training.compiling import compile_encoders
    from fusion.training.meter import Meter
    from streams.loader import make_loader

    model = new_model(SUBSETS[0], size, device).train()
    flops = clip_flops(model, new_batch(SUBSETS[0], 2, size, device), device)
    compile_encoders(model, device, compiled)
    step = new_step(model, device)
    reads = iter(make_loader(dataset, Endless(dataset, batch), workers=workers, pin=device.type == "cuda"))
    for _ in range(1 if size.tiny else 4 + 2 * workers):
        step(next(reads))
    synchronise(device)
    meter = Meter(device)
    begun = time.perf_counter()
    for given in meter.reads(reads):
        step(given)
        meter.clips += len(given.labels)
        if time.perf_counter() - begun > 3 * size.seconds:
            break
    row = meter.row(frames=dataset.clip.frames, flops=flops, peak=peak)
    del reads
    return {"batch": batch, "compiled": compiled, "workers": workers} | row


def measure_asking(batch: int, compiled: bool, size: Size, device: torch.device) -> dict:
    """Answers from all streams, from clips on the device: latency, and clips a second."""
    from fusion.device import mixed_precision
    from fusion.training.compiling import compile_encoders

    model = new_model(SUBSETS[0], size, device).eval()
    compile_encoders(model, device, compiled)
    given = new_batch(SUBSETS[0], batch, size, device).to(device)

    def ask() -> torch.Tensor:
        with torch.inference_mode():
            clips = given.inputs(training=False)
            with mixed_precision(device):
                return model(clips, given.present, rows=given.rows).logits

    forget_peak(device)
    many = repeat(ask, size, device)
    taken = []
    for _ in range(5 if size.tiny else 100):
        begun = time.perf_counter()
        ask().float().cpu()
        taken.append(1e3 * (time.perf_counter() - begun))
    median, slow = np.percentile(taken, [50, 95])
    return {"clips_per_second": batch / many, "latency_ms": median, "latency_95_ms": slow} | peak_memory(device)


def measure_theirs(name: str, compiled: bool, size: Size, device: torch.device, peak: float | None) -> dict:
    """A training step of torchvision's model on pictures that are on the device, in mixed precision."""
    from torchvision.models import video

    from fusion.device import mixed_precision
    from fusion.training.meter import training_flops
    from streams.clip import ClipSettings

    clip, batch = ClipSettings(**size.clip | ({"frames": 16} if name == "s3d" else {})), size.their_batch
    model = getattr(video, name)(num_classes=CLASSES).to(device)
    if name == "s3d":
        model.avgpool = torch.nn.AdaptiveAvgPool3d(1)  # made for pictures of 224 pixels
    pictures = torch.randn(batch, 3, clip.frames, clip.size, clip.size, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    flops = training_flops(OneStream(model), {"rgb": pictures}, {})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model.train()
    if compiled:
        model.compile()
    forget_peak(device)

    def step() -> None:
        with mixed_precision(device):
            loss = torch.nn.functional.cross_entropy(model(pictures).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    seconds = repeat(step, size, device)
    result = {"clips_per_second": batch / seconds, "gflop_a_clip": flops / 1e9, "batch": batch} | peak_memory(device)
    return result | ({"mfu": flops * batch / seconds / peak} if peak else {})


class OneStream(torch.nn.Module):
    """A model of pictures with the interface of ours."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: dict[str, torch.Tensor], present: dict) -> torch.Tensor:
        return self.model(clips["rgb"])


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float]:
    return {"peak_gigabytes": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}
