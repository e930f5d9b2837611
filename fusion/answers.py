"""A model's predictions for whole videos: several clips each, every subset of the streams from one encoding."""

from collections.abc import Callable, Iterable, Sequence

import torch

from fusion.device import mixed_precision
from fusion.model import FusionModel, Output
from streams.batch import Batch
from streams.registry import subset_name


class Answers:
    """Class probabilities of videos for each subset of the streams, averaged over a video's clips."""

    def __init__(self, subsets: Sequence[tuple[str, ...]], *, videos: int, classes: int) -> None:
        self.subsets = list(subsets)
        self._sum = {subset_name(s): torch.zeros(videos, classes, dtype=torch.float64) for s in subsets}
        self._clips = {subset_name(s): torch.zeros(videos, dtype=torch.float64) for s in subsets}

    def add(self, subset: str, videos: torch.Tensor, probabilities: torch.Tensor, there: torch.Tensor) -> None:
        """videos: (B,), probabilities: (B, K) float64, there: (B,) bool, True if any stream of the subset was."""
        self._sum[subset].index_add_(0, videos.cpu(), probabilities.cpu() * there.cpu()[:, None])
        self._clips[subset].index_add_(0, videos.cpu(), there.cpu().double())

    def join(self, add_up: Callable[[torch.Tensor], object]) -> None:
        """Sum the answers of several processes: `add_up` sums a tensor over them, in place."""
        for tensors in (self._sum, self._clips):
            for tensor in tensors.values():
                add_up(tensor)

    def answered(self, subset: str) -> torch.Tensor:
        """(N,) bool: videos that have a stream of the subset. The others have no answer."""
        return self._clips[subset] > 0

    def probabilities(self, subset: str) -> torch.Tensor:
        """(N, K); rows sum to one, or are zeros for a video without an answer."""
        return self._sum[subset] / self._clips[subset].clamp(min=1)[:, None]


def predict_videos(
    model: FusionModel,
    batches: Iterable[Batch],
    subsets: Sequence[tuple[str, ...]],
    *,
    videos: int,
    classes: int,
    device: torch.device,
    watch: Callable[[Output, torch.Tensor, dict[str, torch.Tensor]], None] | None = None,
) -> Answers:
    """Run the model over all batches; streams outside a subset are hidden from the fusion head.

    `watch` is called with the model's output for each batch, the labels, (B,), and the masks, {(B,)}.
    """
    answers = Answers(subsets, videos=videos, classes=classes)
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            batch = batch.to(device)
            clips = batch.inputs(training=False)
            with mixed_precision(device):
                streams = model.encode(clips, batch.present, rows=batch.rows)
                if watch is not None:
                    watch(Output(model.fuse(streams, batch.present), streams), batch.labels, batch.present)
                for subset in subsets:
                    use = {name: mask & (name in subset) for name, mask in batch.present.items()}
                    there = torch.stack([use[name] for name in use]).any(dim=0)
                    logits = model.fuse(streams, use)
                    answers.add(subset_name(subset), batch.videos, logits.float().double().softmax(dim=1), there)
    return answers
