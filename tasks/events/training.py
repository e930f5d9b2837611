"""Training of a temporal head on the window features of long videos whose events are known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from preprocess.common.console import progress
from tasks.events.event import Event
from tasks.events.heads import HEADS, TemporalHead
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import HeadRecipe
from tasks.events.targets import Targets, loss, targets

SPAN = 512  # windows of a video that a step sees
KEPT = 0.5  # share of an event that must lie within them
LONGEST = 100  # steps over which weights are averaged; the mean is what answers


def train_head(
    videos: Sequence[VideoFeatures],
    events: Mapping[str, Sequence[Event]],
    *,
    classes: Sequence[str],
    streams: Sequence[str],
    recipe: HeadRecipe,
    seed: int,
    bar: str | None = None,
) -> TemporalHead:
    """Train a head for `streams` on videos and their events, by the videos' names; in evaluation mode."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    videos = [video.of(streams) for video in videos]
    shape = {name: videos[0].features[name].shape[1] for name in streams}
    head = HEADS[recipe.head](shape, classes=len(classes), width=recipe.channels, dropout=recipe.drop)
    for name in streams:
        head.streams[name].standardise(torch.cat([video.features[name][video.present[name]] for video in videos]))
    averaged = torch.optim.swa_utils.AveragedModel(head, multi_avg_fn=_average)
    steps = recipe.passes * -(-len(videos) // recipe.videos)
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.rate, total_steps=steps, pct_start=0.1)
    head.train()
    with progress(total=steps, unit="step", name=bar or "", leave=False, hidden=bar is None) as shown:
        for _ in range(recipe.passes):
            for batch in _batches(videos, events, classes=classes, head=head, recipe=recipe, rng=rng):
                value = loss(head(batch.features, batch.present), batch.targets, batch.known)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                rate.step()
                averaged.update_parameters(head)
                shown.update()
    return averaged.module.eval()


@torch.no_grad()
def _average(averaged: list[Tensor], now: list[Tensor], steps: Tensor) -> None:
    """The running mean of the weights, over the last quarter of the steps so far, or LONGEST."""
    torch._foreach_lerp_(averaged, now, 1 / min(LONGEST, 1 + int(steps) / 4))


@dataclass(frozen=True)
class HeadBatch:
    """B stretches of videos, filled up to N windows."""

    features: dict[str, Tensor]  # stream → (B, N, D)
    present: dict[str, Tensor]  # stream → (B, N) bool
    known: Tensor  # (B, N) bool: False where it was filled up
    targets: list[Targets]  # of each level, (B, P, …)


def _batches(
    videos: Sequence[VideoFeatures],
    events: Mapping[str, Sequence[Event]],
    *,
    classes: Sequence[str],
    head: TemporalHead,
    recipe: HeadRecipe,
    rng: np.random.Generator,
) -> Iterator[HeadBatch]:
    """One pass over the videos, a stretch of each from anywhere."""
    order = rng.permutation(len(videos))
    for begin in range(0, len(order), recipe.videos):
        parts = [
            _stretch(videos[row], events.get(videos[row].video, ()), rng)
            for row in order[begin : begin + recipe.videos]
        ]
        most = padded(max(len(part) for part, _ in parts), head.strides[-1])
        wanted = []
        for part, its in parts:
            labels = [classes.index(event.label) for event in its]
            spans = part.spans(its)
            wanted.append(targets(spans, labels, windows=most, strides=head.strides, classes=len(classes)))
        yield collate(
            [part for part, _ in parts],
            most,
            targets=[
                Targets(
                    *(
                        torch.stack([getattr(one[level], field) for one in wanted])
                        for field in ("classes", "extents", "inside")
                    )
                )
                for level in range(len(head.strides))
            ],
            hidden=_hidden([part for part, _ in parts], recipe.hide, rng),
        )


def _stretch(
    video: VideoFeatures, events: Sequence[Event], rng: np.random.Generator
) -> tuple[VideoFeatures, list[Event]]:
    """SPAN windows of a video, and the events that lie within them for the most part."""
    begin = int(rng.integers(0, max(1, len(video) - SPAN + 1)))
    part = video.part(begin, begin + SPAN)
    from_, until = part.first - part.hop / 2, part.first + (len(part) - 0.5) * part.hop
    return part, [
        event for event in events if min(until, event.end) - max(from_, event.start) >= KEPT * (event.end - event.start)
    ]


def _hidden(parts: Sequence[VideoFeatures], share: float, rng: np.random.Generator) -> list[set[str]]:
    """The streams of each that are hidden: each with the probability `share`, but never all that are there."""
    found = []
    for part in parts:
        there = [name for name, present in part.present.items() if present.any()]
        hidden = {name for name in there if rng.random() < share}
        if hidden and len(hidden) == len(there):
            hidden.discard(there[int(rng.integers(len(there)))])
        found.append(hidden)
    return found


def padded(windows: int, stride: int) -> int:
    """The next multiple of `stride`."""
    return -(-windows // stride) * stride


def collate(
    parts: Sequence[VideoFeatures], windows: int, *, targets: list[Targets], hidden: Sequence[set[str]] | None = None
) -> HeadBatch:
    """Stretches as one batch of so many windows; the streams in `hidden` are absent."""

    def fill(values: Sequence[Tensor]) -> Tensor:
        values = [*values, values[0].new_zeros(windows, *values[0].shape[1:])]  # the last sets the length
        return pad_sequence(values, batch_first=True)[:-1]

    hidden = hidden or [set()] * len(parts)
    names = list(parts[0].features)
    return HeadBatch(
        features={name: fill([part.features[name] for part in parts]) for name in names},
        present={
            name: fill(
                [part.present[name] & (name not in without) for part, without in zip(parts, hidden, strict=True)]
            )
            for name in names
        },
        known=fill([torch.ones(len(part), dtype=torch.bool) for part in parts]),
        targets=targets,
    )
