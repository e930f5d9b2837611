"""A training step on the CPU: our three streams beside torchvision's r3d_18, on pictures alone.

    python -m benchmarks.train_step             # six minutes on two cores
    python -m benchmarks.train_step --quick     # one: without the variants

Both get random clips of 16 frames of 112 × 112 pixels, in batches of the same size, and run forward and backward,
theirs also with channels last; ours also with the optimiser's step, compiled (the towers, or the LSTMs too), and with
channels first. The sides take turns; a ratio is the median over the turns. The last line is JSON.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it

import argparse
import json
import statistics
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fusion.model import FusionModel, build_model
from fusion.settings import ModelSettings
from fusion.training.loss import count_rows, each_loss, joint_loss
from preprocess.store.format import MEL_RATE
from streams.clip import ClipSettings
from streams.registry import STREAMS

CLASSES = 101
PARAMETERS = {"mel_bands": 64, "short_side": 128}

Side = Callable[[], None]


def new_model(streams: tuple[str, ...] = tuple(STREAMS), settings: ModelSettings | None = None) -> FusionModel:
    """The default model, unless settings are given."""
    return build_model(settings or ModelSettings(), streams=streams, classes=CLASSES, parameters=PARAMETERS)


def random_clips(
    streams: tuple[str, ...], batch: int, clip: ClipSettings, device: torch.device | str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """Towers' inputs, {(B, ...)}, masks of presence, all True, {(B,)}, and labels, (B,)."""
    clips = {}
    for name in streams:
        channels, *rest = STREAMS[name].channels(PARAMETERS), clip.frames, clip.size, clip.size
        shape = rest if name != "audio" else [round(clip.audio_seconds * MEL_RATE)]
        clips[name] = torch.randn(batch, channels, *shape, device=device)
    present = {name: torch.ones(batch, dtype=torch.bool, device=device) for name in streams}
    return clips, present, torch.randint(CLASSES, (batch,), device=device)


def our_step(
    batch: int,
    clip: ClipSettings,
    *,
    settings: ModelSettings | None = None,
    compiled: Literal["", "towers", "encoders"] = "",
    channels_first: bool = False,
    optimise: bool = False,
) -> Side:
    """Forward and backward of our model."""
    model = new_model(settings=settings).train()
    clips, present, labels = random_clips(tuple(STREAMS), batch, clip)
    if channels_first:
        model.to(memory_format=torch.contiguous_format)
    for encoder in model.encoders.values() if compiled else ():
        (encoder if compiled == "encoders" else encoder.tower).compile()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    counts = count_rows(present)
    rows = {name: torch.arange(batch) for name in STREAMS}

    def step() -> None:
        torch._dynamo.config.allow_rnn = compiled == "encoders"  # read on compilation, at the first step
        output = model(clips, present, rows=rows)
        optimizer.zero_grad(set_to_none=True)
        joint_loss(each_loss(output, labels, present, counts), auxiliary=0.5).backward()
        if optimise:
            optimizer.step()

    return step


def their_step(model: nn.Module, batch: int, clip: ClipSettings) -> Side:
    """Forward and backward of a classifier of pictures."""
    model.train()
    clips, _, labels = random_clips(("rgb",), batch, clip)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        cross_entropy(model(clips["rgb"]), labels).backward()

    return step


def race(sides: dict[str, Side], turns: int) -> dict[str, dict[str, list[float]]]:
    """Run the sides in turns: seconds of each, of wall time and of CPU time."""
    taken = {name: {"clock": [], "cpu": []} for name in sides}
    for side in sides.values():
        side()
    for _ in range(turns):
        for name, side in sides.items():
            clock, cpu = perf_counter(), process_time()
            side()
            taken[name]["clock"].append(perf_counter() - clock)
            taken[name]["cpu"].append(process_time() - cpu)
    return taken


def summary(taken: dict[str, dict[str, list[float]]], batch: int, than: str) -> dict[str, dict[str, float]]:
    """Clips a second of each side, and its speed relative to the side `than`, in the median turn."""
    table = {}
    for name, times in taken.items():
        ratios = {
            how: statistics.median(slow / fast for slow, fast in zip(taken[than][how], times[how], strict=True))
            for how in times
        }
        speed = batch / statistics.median(times["clock"])
        table[name] = {"clips_per_s": speed, "ratio": ratios["clock"], "ratio_cpu": ratios["cpu"]}
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="without the variants of our model")
    parser.add_argument("--tiny", action="store_true", help="a small model and small clips: shows that it runs")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    clip = ClipSettings(frames=4, size=32, audio_seconds=0.64) if given.tiny else ClipSettings()
    settings = ModelSettings(width=2, feature=4) if given.tiny else None
    shared = {"batch": given.batch, "clip": clip, "settings": settings}
    ours = {"ours": our_step(**shared), "ours, with the optimiser": our_step(**shared, optimise=True)}
    if not given.quick:
        ours["ours, channels first"] = our_step(**shared, channels_first=True)
        ours["ours, compiled"] = our_step(**shared, compiled="towers")
        ours["ours, compiled with the LSTMs"] = our_step(**shared, compiled="encoders")
    theirs = {}
    try:
        from torchvision.models.video import r3d_18

        theirs["r3d_18"] = their_step(r3d_18(num_classes=CLASSES), given.batch, clip)
        last = r3d_18(num_classes=CLASSES).to(memory_format=torch.channels_last_3d)
        theirs["r3d_18, channels last"] = their_step(last, given.batch, clip)
    except (ImportError, RuntimeError) as error:
        print(f"r3d_18: skipped, torchvision is not here ({error})")
    taken = race(ours | theirs, given.turns)
    table = summary(taken, given.batch, "ours")
    report = {"benchmark": "train_step", "torch": torch.__version__, "threads": given.threads, "batch": given.batch}
    report |= {"load": os.getloadavg()[0], "sides": table}
    print(f"batch {given.batch}, {given.threads} threads, load average {report['load']:.1f}")
    print(f"{'':36}{'clips/s':>9}{'x ours':>9}{'x ours, CPU time':>18}")
    for name, row in table.items():
        print(f"{name:36}{row['clips_per_s']:9.2f}{row['ratio']:9.2f}{row['ratio_cpu']:18.2f}")
    if theirs:
        other, last = (summary(taken, given.batch, name)["ours"] for name in ("r3d_18", "r3d_18, channels last"))
        report |= {"ratio_r3d_18": other["ratio"], "ratio_r3d_18_cpu": other["ratio_cpu"]}
        report |= {"ratio_r3d_18_channels_last": last["ratio"]}
        print(f"ours is {other['ratio']:.1f} times as fast as r3d_18, {last['ratio']:.1f} times with its channels last")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
