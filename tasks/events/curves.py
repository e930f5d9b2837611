"""A detector's evidence for each class over time, from all streams and from each, for pages and pictures."""

from collections.abc import Sequence

import numpy as np
import torch

from streams.registry import subsets
from tasks.events.detector import Detector, points
from tasks.events.sequences import VideoFeatures
from tasks.shapley import shapley
from tasks.timeline import Timeline


def curves(detector: Detector, video: VideoFeatures, streams: Sequence[str], *, length: float) -> Timeline:
    """The score of each class of events at each window; a stream's share is its Shapley value of the highest score,
    which without any stream is zero. `length` is that of a window in seconds.
    """
    there = {name: video.present[name].numpy() for name in streams}
    said = {}
    for names in subsets(streams):
        scores = points(detector.head, video.of(names)).scores[: len(video)]  # the finest level comes first
        said[frozenset(names)] = scores * np.any([there[name] for name in names], axis=0)[:, None]
    answer = said[frozenset(streams)]
    best = answer.argmax(axis=1)[:, None]
    worth = {names: torch.from_numpy(np.take_along_axis(scores, best, axis=1)[:, 0]) for names, scores in said.items()}
    worth[frozenset()] = torch.zeros(len(video), dtype=torch.float64)
    middles = video.seconds_at(np.arange(len(video)))
    return Timeline(
        video=video.video,
        classes=detector.classes,
        times=np.stack([middles - length / 2, middles + length / 2], axis=1).clip(0, video.seconds),
        answer=answer,
        streams={name: said[frozenset([name])] for name in streams},
        present=there,
        shares={name: share.numpy() for name, share in shapley(worth, streams).items()},
    )
