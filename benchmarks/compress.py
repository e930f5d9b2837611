"""What int8 gains in time and size: PyTorch, exported files and int8 files of one model, one thread and two.

    python -m benchmarks.compress                # the default model, not trained, calibrated on random clips
    python -m benchmarks.compress --run runs/NAME

The three take turns; the medians count. Decoding is left out, preparation and fusion are in. What int8 costs in
accuracy is said by python -m tasks.compress, on videos. The last line is JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.live import default_model
from tasks.compression.clips import Feed
from tasks.compression.quantise import quantise
from tasks.compression.table import ROWS, measure, size_of
from tasks.exported.parts import example_clips
from tasks.exported.write import write_parts
from tasks.model import Model, load

CLIPS, BATCHES = 4, 4


def random_feeds(model: Model, name: str) -> list[Feed]:
    """Random clips of a stream."""
    frames, rows = model.clip.of(name).frames, round(model.clip.audio_seconds * ROWS)
    clips = example_clips(model, name, batch=CLIPS * BATCHES, frames=frames, rows=rows)
    return [
        {part: clip[at : at + CLIPS].numpy() for part, clip in clips.items()} for at in range(0, CLIPS * BATCHES, CLIPS)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = load(given.run, device="cpu") if given.run else default_model(folder)
        write_parts(model, folder / "exported")
        feeds = {stream: random_feeds(model, stream) for stream in model.streams}
        found = quantise(folder / "exported", folder / "int8", feeds, limit=float("inf"))
        folders = {one: folder / one for one in ("exported", "int8")}
        times = measure({"pytorch": model} | folders, turns=given.turns)
        sizes = {"pytorch": model.path} | folders
        megabytes = {one: round(size_of(path) / 1e6, 2) for one, path in sizes.items()}
    convolutions = {stream: one.convolutions for stream, one in found.items()}
    facts = {"megabytes": megabytes, "int8_convolutions": convolutions, "turns": given.turns}
    print(json.dumps({"ms_a_clip": times} | facts))


if __name__ == "__main__":
    main()
