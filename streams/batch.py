"""Clips of several streams as batches, with a mask that says what is there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from preprocess.index import Video
from preprocess.store import Store
from streams import STREAMS
from streams.clip import ClipSettings, random_start, view_starts


@dataclass(frozen=True)
class Batch:
    """B clips. What absent streams hold in `clips` is never looked at."""

    clips: dict[str, torch.Tensor]  # stream → (B, ...), as the stream's `read` gives them
    present: dict[str, torch.Tensor]  # stream → (B,) bool
    labels: torch.Tensor  # (B,) int64
    videos: torch.Tensor  # (B,) int64: row of the videos that the dataset was made of

    def to(self, device: torch.device) -> "Batch":
        """Move everything, without waiting for it."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            {name: move(clips) for name, clips in self.clips.items()},
            {name: move(mask) for name, mask in self.present.items()},
            move(self.labels),
            move(self.videos),
        )

    def pin_memory(self) -> "Batch":
        """For the DataLoader: pages from which a GPU can copy while the program goes on."""
        return Batch(
            {name: clips.pin_memory() for name, clips in self.clips.items()},
            {name: mask.pin_memory() for name, mask in self.present.items()},
            self.labels.pin_memory(),
            self.videos.pin_memory(),
        )


class ClipDataset(Dataset):
    """Clips of a store's videos, each read for all streams from one window of the clock.

    Indexed by (video, number). In training the number is the epoch, and the clip is random and augmented, but
    the same for the same (seed, epoch, video) in whatever worker; otherwise it is the view.
    """

    def __init__(
        self,
        store: Store,
        videos: Sequence[Video],
        *,
        streams: Sequence[str],
        classes: Sequence[str],
        clip: ClipSettings,
        seed: int | None = None,
        views: int = 1,
    ) -> None:
        """With a `seed` for training, without one for `views` clips a video, not augmented."""
        self.store = store
        self.videos = list(videos)
        self.streams = {name: STREAMS[name] for name in streams}
        self.rows = {name: row for row, name in enumerate(classes)}
        self.clip = clip
        self.seed = seed
        self.views = views

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        row, number = key
        video = self.videos[row]
        if self.seed is None:
            start, rng = view_starts(video, self.clip, self.views)[number], None
        else:
            rng = np.random.default_rng((self.seed, number, row))
            start = random_start(video, self.clip, rng)
        clips = {name: stream.read(self.store, video, start, self.clip, rng) for name, stream in self.streams.items()}
        return {"clips": clips, "label": -1 if video.label is None else self.rows[video.label], "video": row}

    def collate(self, items: list[dict]) -> Batch:
        """Stack items; absent streams get a placeholder and a False."""
        clips, present = {}, {}
        for name, stream in self.streams.items():
            read = [item["clips"][name] for item in items]
            present[name] = torch.tensor([clip is not None for clip in read])
            empty = None if all(clip is not None for clip in read) else stream.empty(self.store, self.clip)
            clips[name] = torch.from_numpy(np.stack([empty if clip is None else clip for clip in read]))
        return Batch(
            clips,
            present,
            torch.tensor([item["label"] for item in items]),
            torch.tensor([item["video"] for item in items]),
        )


class EpochSampler(Sampler):
    """Every video once an epoch in an order that the seed and the epoch alone decide."""

    def __init__(self, dataset: ClipDataset, *, seed: int) -> None:
        self.count = len(dataset)
        self.seed = seed
        self.epoch = 0  # set before each epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        return iter([(int(row), self.epoch) for row in order])


class ViewSampler(Sampler):
    """Every view of every video, once."""

    def __init__(self, dataset: ClipDataset) -> None:
        self.keys = [
            (row, view)
            for row, video in enumerate(dataset.videos)
            for view in range(len(view_starts(video, dataset.clip, dataset.views)))
        ]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.keys)


def make_loader(dataset: ClipDataset, sampler: Sampler, *, batch: int, workers: int, pin: bool) -> DataLoader:
    """Batches in the sampler's order, read ahead by `workers` processes."""
    if workers:
        _one_thread(0)  # here, before the fork: a child that stops threads which it did not inherit waits for ever
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.collate,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # its own: else each new iterator draws from the program's random numbers
    )


def _one_thread(_: int) -> None:
    import cv2

    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
