"""A table of models before and after: how good, how sure, how large, how fast."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from fusion.training.run import write_json
from preprocess.common.command import available_cores
from preprocess.common.console import markdown_table, plural, print_table
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from streams.registry import streams_of, subset_name, subsets
from tasks.exported.network import ExportedNetwork
from tasks.exported.parts import example_clips
from tasks.metrics import score
from tasks.model import Model, load
from tasks.probabilities import Probabilities

ROWS = 100  # of log-mel a second
THREADS = (1, 2)


@dataclass(frozen=True)
class Row:
    """One model. Rates are between 0 and 1; `top1` has an entry a subset of the streams, the rest is of all of them."""

    name: str
    top1: dict[str, float]
    log_loss: float  # nats a video that got an answer
    calibration_error: float  # ECE, 15 bins
    megabytes: float  # of its files, 10⁶ bytes
    milliseconds: dict[str, float]  # number of threads → median a clip: preparation, towers and fusion


def judge(model: Model, name: str, *, store: Store, videos: Sequence[Video], views: int) -> Row:
    """A model on videos that it has not seen, for every subset of its streams; without its times."""
    names = subsets(model.streams)
    answers = model.answers(store, videos, names, views=views, bar=name)
    labels = torch.tensor([model.classes.index(video.label) for video in videos])
    found = {text: Probabilities.of(answers, text) for text in map(subset_name, names)}
    scores = {text: score(one.probabilities, labels, one.answered, model.classes) for text, one in found.items()}
    whole = subset_name(model.streams)
    return Row(
        name=name,
        top1={text: one["top1"] for text, one in scores.items()},
        log_loss=log_loss(found[whole].probabilities, labels, found[whole].answered),
        calibration_error=scores[whole]["calibration_error"],
        megabytes=size_of(model.path) / 1e6,
        milliseconds={},
    )


def log_loss(probabilities: torch.Tensor, labels: torch.Tensor, answered: torch.Tensor) -> float:
    """(N, K), (N,), (N,) bool → the mean negative logarithm of the label's probability, over the answered."""
    if not answered.any():
        return float("nan")
    right = probabilities[answered].gather(1, labels[answered][:, None]).double()
    return float(-right.clamp(min=1e-12).log().mean())


def size_of(path: Path) -> int:
    """The bytes of a weights file, or of the ONNX files in a folder."""
    return sum(one.stat().st_size for one in path.glob("*.onnx")) if path.is_dir() else path.stat().st_size


def measure(models: dict[str, Model | Path], *, turns: int) -> dict[str, dict[str, float]]:
    """name → number of threads → median milliseconds a clip of random values; the models take turns.

    A model in PyTorch, or the folder of an exported one, which is opened for each number of threads.
    """
    before, found = torch.get_num_threads(), {name: {} for name in models}
    try:
        for threads in THREADS:
            if threads > available_cores():
                continue
            torch.set_num_threads(threads)
            clips = {name: OneClip(load(one) if isinstance(one, Path) else one) for name, one in models.items()}
            taken: dict[str, list[float]] = {name: [] for name in models}
            for turn in range(turns + 1):
                for name, clip in clips.items():
                    begin = perf_counter()
                    clip.answer()
                    if turn:  # the first one warms up
                        taken[name].append(1000 * (perf_counter() - begin))
            for name, values in taken.items():
                found[name][str(threads)] = round(median(values), 2)
    finally:
        torch.set_num_threads(before)
    return found


class OneClip:
    """One clip of a model on the CPU, of random values, with all streams."""

    def __init__(self, model: Model) -> None:
        rows = round(model.clip.audio_seconds * ROWS)
        self.model, self.kinds = model, streams_of(model.parameters)
        self.clips = {
            name: example_clips(model, name, batch=1, frames=model.clip.of(name).frames, rows=rows)
            for name in model.streams
        }
        self.present = {name: torch.ones(1, dtype=torch.bool) for name in model.streams}

    @torch.no_grad()
    def answer(self) -> torch.Tensor:
        """The logits (1, K), as a clip that a reader gave would get them."""
        network, inputs = self.model.network, self.clips
        if not isinstance(network, ExportedNetwork):
            inputs = {
                name: self.kinds[name].prepare(clip, self.model.clip.of(name), training=False)
                for name, clip in self.clips.items()
            }
        return network.answer(network.encode(inputs, self.present), self.present)[1]


def show(rows: Sequence[Row], folder: Path, *, which: str, facts: dict) -> None:
    """Print the table, and write compressed.md and compressed.json into a folder."""
    head, cells = _cells(rows)
    print_table(head, cells)
    for row in rows[1:]:
        print(f"{row.name}: {_compared(row, rows[0])}")
    whole = [f"{row.name}: " + ", ".join(f"{name} {value:.1%}" for name, value in row.top1.items()) for row in rows]
    text = "\n".join([f"# {which}", "", markdown_table(head, cells), *(f"- {line}" for line in whole), ""])
    write_aside(folder / "compressed.md", lambda part: part.write_text(text))
    write_json(folder / "compressed.json", {"which": which, "rows": [asdict(row) for row in rows]} | facts)
    print(f"wrote {folder / 'compressed.md'}, {folder / 'compressed.json'}")


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    threads = list(rows[0].milliseconds)
    head = ["model", "top-1", "log-loss", "calibration error", "MB"]
    head += [f"ms a clip, {plural(int(count), 'thread')}" for count in threads]
    cells = []
    for row in rows:
        whole = max(row.top1, key=lambda name: name.count("+"))
        numbers = [f"{row.top1[whole]:.1%}", f"{row.log_loss:.3f}", f"{row.calibration_error:.1%}"]
        numbers += [f"{row.megabytes:.2f}", *(f"{row.milliseconds[count]:.1f}" for count in threads)]
        cells.append([row.name, *numbers])
    return head, cells


def _compared(row: Row, first: Row) -> str:
    """How much smaller, faster and worse a model is than the first."""
    worst = max(first.top1, key=lambda name: first.top1[name] - row.top1[name])
    points = 100 * (row.top1[worst] - first.top1[worst])
    faster = [
        f"{first.milliseconds[count] / value:.1f} times as fast with {plural(int(count), 'thread')}"
        for count, value in row.milliseconds.items()
    ]
    parts = [f"{first.megabytes / row.megabytes:.1f} times smaller", *faster]
    return ", ".join(parts) + f"; of all subsets of the streams {worst} loses most: {points:+.1f} points"
