"""Milliseconds a clip: exported models, by onnxruntime and of torch.export, against PyTorch, each on one core.

    python -m benchmarks.export                # the default model, not trained
    python -m benchmarks.export --run runs/NAME --formats onnx pt2 aoti

All take turns; the medians count. Decoding is left out, preparation and fusion are in. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.live import default_model
from streams.registry import streams_of
from tasks.exported.network import ExportedNetwork
from tasks.exported.parts import example_clips, own_length
from tasks.exported.runners import SUFFIXES
from tasks.exported.write import write_parts
from tasks.model import load


def milliseconds(action: Callable[[], object]) -> float:
    """Of processor time, since machines are shared."""
    begin = time.process_time()
    action()
    return 1000 * (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--formats", nargs="+", choices=tuple(SUFFIXES), default=["onnx"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model = load(given.run, device="cpu") if given.run else default_model(Path(folder))
        kinds = streams_of(model.parameters)
        clips = {}
        for name in model.streams:
            frames, rows = own_length(model, name)
            clips[name] = example_clips(model, name, batch=1, frames=frames, rows=rows)
        present = {name: torch.ones(1, dtype=torch.bool) for name in model.streams}

        def pytorch() -> None:
            inputs = {name: kinds[name].prepare(clips[name], model.clip.of(name), training=False) for name in clips}
            model.network.answer(model.network.encode(inputs, present), present)

        def run(exported: ExportedNetwork) -> None:
            exported.answer(exported.encode(clips, present), present)

        actions: dict[str, Callable[[], None]] = {"pytorch": pytorch}
        for kind in given.formats:
            write_parts(model, Path(folder) / kind, kind=kind)
            actions[kind] = partial(run, ExportedNetwork(Path(folder) / kind))
        found: dict[str, list[float]] = {name: [] for name in actions}
        for turn in range(given.turns + 1):
            for name, action in actions.items():
                taken = milliseconds(action)
                if turn:  # the first one warms up
                    found[name].append(taken)
    medians = {name: round(median(values), 1) for name, values in found.items()}
    print(json.dumps({"cpu_ms_a_clip": medians, "turns": given.turns, "threads": 1}))


if __name__ == "__main__":
    main()
