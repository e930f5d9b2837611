"""Milliseconds a clip: an exported model with onnxruntime against PyTorch, each on one core.

    python -m benchmarks.export                # the default model, not trained
    python -m benchmarks.export --run runs/NAME

Both take turns; the medians count. Decoding is left out, preparation and fusion are in. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.live import default_model
from streams.registry import streams_of
from tasks.exported.network import ExportedNetwork
from tasks.exported.parts import example_clips
from tasks.exported.write import write_parts
from tasks.model import load


def milliseconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model = load(given.run, device="cpu") if given.run else default_model(Path(folder))
        write_parts(model, Path(folder) / "out")
        exported, kinds = ExportedNetwork(Path(folder) / "out"), streams_of(model.parameters)
        rows = round(model.clip.audio_seconds * 100)
        clips = {
            name: example_clips(model, name, batch=1, frames=model.clip.of(name).frames, rows=rows)
            for name in model.streams
        }
        present = {name: torch.ones(1, dtype=torch.bool) for name in model.streams}

        def pytorch() -> None:
            inputs = {name: kinds[name].prepare(clips[name], model.clip.of(name), training=False) for name in clips}
            model.network.answer(model.network.encode(inputs, present), present)

        def onnxruntime() -> None:
            exported.answer(exported.encode(clips, present), present)

        found: dict[str, list[float]] = {"pytorch": [], "onnxruntime": []}
        for turn in range(given.turns + 1):
            for action in (pytorch, onnxruntime):
                taken = milliseconds(action)
                if turn:  # the first one warms up
                    found[action.__name__].append(taken)
    medians = {name: round(median(values), 1) for name, values in found.items()}
    print(json.dumps({"ms_a_clip": medians, "turns": given.turns, "threads": 1}))


if __name__ == "__main__":
    main()
