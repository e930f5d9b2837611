"""The parts of the GPU suite: one function for each thing that is measured, on data that are made here."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

CLASSES = 8
SUBSETS = (("rgb", "flow", "audio"), ("rgb", "flow"), ("rgb",))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    tiny: bool = False
    pictures: tuple[tuple[int, int], ...] = ((256, 340), (128, 171))  # height, width of flow's videos
    pairs: int = 128  # of such a video
    pairs_on_cpu: int = 16
    clip: dict = field(default_factory=dict)  # ClipSettings other than the default
    model: dict = field(default_factory=dict)  # ModelSettings
    stored: tuple[int, int] = (128, 171)  # height, width of a store's pictures
    videos: int = 48
    frames: int = 64  # of a stored video
    workers: tuple[int, ...] = (0, 1, 2, 4, 8)
    seconds: float = 4.0  # of each measurement
    turns: int = 5
    batches: tuple[int, ...] = (32, 64, 128, 256)
    compiled: tuple[bool, ...] = (False, True)
    their_batch: int = 64


TINY = Size(
    tiny=True,
    pictures=((36, 48),),
    pairs=2,
    pairs_on_cpu=2,
    clip={"frames": 4, "size": 32, "audio_seconds": 0.64},
    model={"width": 2, "feature": 4},
    stored=(36, 48),
    videos=8,
    frames=12,
    workers=(0, 1),
    seconds=0.05,
    turns=1,
    batches=(2, 4),
    compiled=(False,),
    their_batch=1,
)


def moving_texture(height: int, width: int, frames: int, *, seed: int = 0, grain: float = 0.0) -> np.ndarray:
    """(T, H, W) uint8: smooth noise that drifts, turns a little and breathes, as a hand-held camera would show it."""
    from torch.nn.functional import affine_grid, grid_sample

    rng = np.random.default_rng(seed)
    noise = np.fft.rfft2(rng.normal(size=(2 * height, 2 * width)))
    y, x = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)
    texture = np.fft.irfft2(noise * np.exp(-2 * (np.pi * 2.5) ** 2 * (x * x + y * y)), s=(2 * height, 2 * width))
    texture = 255 * (texture - texture.min()) / np.ptp(texture)
    k = np.arange(frames)
    turn, zoom = np.radians(3 * np.sin(k / 9)), 0.5 * (1 + 0.05 * np.sin(k / 13))  # of a picture twice as large
    map_ = np.empty((frames, 2, 3), np.float32)
    map_[:, 0] = np.stack([zoom * np.cos(turn), -zoom * np.sin(turn) * height / width, 20 * np.sin(k / 7) / width], 1)
    map_[:, 1] = np.stack([zoom * np.sin(turn) * width / height, zoom * np.cos(turn), 15 * np.cos(k / 11) / height], 1)
    grid = affine_grid(torch.from_numpy(map_), [frames, 1, height, width], align_corners=False)
    picture = torch.from_numpy(texture).float().expand(frames, 1, -1, -1)
    video = grid_sample(picture, grid, padding_mode="reflection", align_corners=False)[:, 0].numpy()
    video += grain * rng.normal(size=video.shape)
    return video.round().clip(0, 255).astype(np.uint8)


def measure_flow(height: int, width: int, preset: str, size: Size, device: torch.device) -> dict:
    """Speed of both engines in turn, and their difference on the same pairs."""
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


def new_store(path: Path, size: Size):
    """A store of moving textures, as large as real ones are."""
    from tests.stores import Spec, make_store

    height, width = size.stored
    rng, specs = np.random.default_rng(0), []
    for number in range(size.videos):
        grey = moving_texture(height, width, size.frames, seed=number, grain=4.0)
        tint = rng.uniform(0.6, 1.0, 3)
        flow = rng.normal(0, 0.3, (size.frames - 1, height // 8, width // 8 + 1, 2)).astype(np.float32)
        flow = flow.repeat(8, 1).repeat(8, 2)
        flow = np.pad(flow, ((0, 0), (0, height - flow.shape[1]), (0, 0), (0, 0)), mode="edge")[:, :, :width]
        specs.append(
            Spec(
                f"{number % CLASSES}/{number:03d}.mp4",
                label=str(number % CLASSES),
                frames=size.frames,
                rgb=(grey[..., None] * tint).astype(np.uint8),
                flow=flow,
                mel=rng.normal(-6, 4, (4 * size.frames, 64)),
            )
        )
    return make_store(path, specs, short_side=height, mel_bands=64)


def new_dataset(store, size: Size):
    from streams.batch import ClipDataset
    from streams.clip import ClipSettings

    clip = ClipSettings(**size.clip)
    return ClipDataset(store, store.videos, streams=SUBSETS[0], classes=store.classes, clip=clip, seed=0)


class Endless:
    """A sampler of random batches."""

    def __init__(self, dataset, batch: int) -> None:
        self.videos, self.batch = len(dataset), batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng(0)
        for number in itertools.count():
            yield [(int(row), number) for row in rng.integers(self.videos, size=self.batch)]


def measure_reading(dataset, size: Size, workers: int, device: torch.device) -> dict:
    """Clips a second from the store to the device, through pinned memory; the towers' inputs are not made."""
    from streams.batch import make_loader

    batch = 4 if size.tiny else 64
    reads = iter(make_loader(dataset, Endless(dataset, batch), workers=workers, pin=device.type == "cuda"))
    for _ in range(2 + 2 * workers):  # what was read ahead while the workers started
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
    """Seconds that a step takes: many in a row, without waiting between them; the median of some such rows."""
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


def new_batch(streams: tuple[str, ...], batch: int, size: Size, device: torch.device):
    """A batch as a loader gives it, in pinned memory."""
    from streams import STREAMS
    from streams.batch import Batch
    from streams.clip import ClipSettings
    from streams.geometry import centre_crop

    clip, rng = ClipSettings(**size.clip), np.random.default_rng(0)
    parameters = {"mel_bands": 64, "short_side": min(size.stored)}
    clips: dict[str, dict[str, torch.Tensor]] = {}
    for name in streams:
        clips[name] = {}
        for part, (shape, dtype) in STREAMS[name].shapes(parameters, clip).items():
            made = rng.integers(256, size=(batch, *shape)) if dtype == np.uint8 else rng.normal(-6, 4, (batch, *shape))
            clips[name][part] = torch.from_numpy(made.astype(dtype))
        if "map" in clips[name]:
            clips[name]["map"][:] = torch.from_numpy(centre_crop(*size.stored, clip.size)[0])
    present = {name: torch.ones(batch, dtype=torch.bool) for name in streams}
    rows = {name: torch.arange(batch) for name in streams}
    labels = torch.from_numpy(rng.integers(CLASSES, size=batch))
    made = Batch(clips, present, rows, labels, torch.arange(batch), clip)
    return made.pin_memory() if device.type == "cuda" else made


def new_model(streams: tuple[str, ...], size: Size, device: torch.device):
    from fusion.model import ModelSettings, build_model

    parameters = {"mel_bands": 64, "short_side": min(size.stored)}
    return build_model(ModelSettings(**size.model), streams=streams, classes=CLASSES, parameters=parameters).to(device)


def new_step(model, device: torch.device):
    """What training does with a batch, and a number that counts the steps."""
    from fusion.balance import Auxiliary
    from fusion.ranks import Ranks
    from fusion.settings import Recipe
    from fusion.step import Step

    recipe, number = Recipe(), 0
    balance = Auxiliary(streams=tuple(model.encoders), auxiliary=recipe.auxiliary, epochs=recipe.epochs)
    rates = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "steps": 10**6}
    step = Step(model, balance=balance, **rates, device=device, ranks=Ranks())

    def run(batch) -> None:
        nonlocal number
        step([batch], number, recipe=recipe, seed=0)
        number += 1
        if step.due:
            step.look()

    return run


def clip_flops(model, batch, device: torch.device) -> float:
    """Operations that training takes for a clip."""
    from fusion.meter import training_flops
    from fusion.predict import prepare

    batch = batch.to(device)
    return training_flops(model, prepare(batch, training=False), batch.present)


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
    from fusion.compiling import compile_encoders

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
    """Steps on what a loader reads, as train.py takes them: how long they wait for it."""
    from fusion.compiling import compile_encoders
    from fusion.meter import Meter
    from streams.batch import make_loader

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
    from fusion.compiling import compile_encoders
    from fusion.device import mixed_precision
    from fusion.predict import prepare

    model = new_model(SUBSETS[0], size, device).eval()
    compile_encoders(model, device, compiled)
    given = new_batch(SUBSETS[0], batch, size, device).to(device)

    def ask() -> torch.Tensor:
        with torch.inference_mode():
            clips = prepare(given, training=False)
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
    from fusion.meter import training_flops
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
    """A model of pictures, called as ours is."""

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
