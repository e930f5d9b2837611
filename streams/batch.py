"""Clips of several streams as batches, with masks of the present streams."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings, hop_starts, own_start, random_start, view_starts
from streams.geometry import Crop, clip_crop
from streams.registry import STREAMS
from streams.spec import FEATURES


@dataclass(frozen=True)
class Batch:
    """B clips. The values of absent streams in `clips` are never used."""

    clips: dict[str, dict[str, torch.Tensor]]  # stream → name → (B, ...), by the stream's `shapes`
    present: dict[str, torch.Tensor]  # stream → (B,) bool
    rows: dict[str, torch.Tensor]  # stream → (N,) int64: indices of the present rows
    labels: torch.Tensor  # (B,) int64
    videos: torch.Tensor  # (B,) int64: index among the dataset's videos
    starts: torch.Tensor  # (B,) int64: first frame of each clip
    clip: ClipSettings  # the shape of the clips

    def to(self, device: torch.device) -> "Batch":
        """Move everything to the device, without waiting for it."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            {name: {part: move(clip) for part, clip in clips.items()} for name, clips in self.clips.items()},
            {name: move(mask) for name, mask in self.present.items()},
            {name: move(rows) for name, rows in self.rows.items()},
            move(self.labels),
            move(self.videos),
            move(self.starts),
            self.clip,
        )

    def inputs(self, *, training: bool) -> dict[str, torch.Tensor]:
        """The towers' inputs, for a batch on the device: stream → (B, C, T, H, W) or (B, M, T).

        Call it outside of mixed precision: eight bits cannot address every pixel of a picture.
        """
        return {
            name: clips[FEATURES].float()  # of a frozen tower, which nothing is done to
            if FEATURES in clips
            else STREAMS[name].prepare(clips, self.clip.of(name), training=training)
            for name, clips in self.clips.items()
        }

    def pin_memory(self) -> "Batch":
        """For the DataLoader: memory from which a GPU can copy while the program goes on."""
        return Batch(
            {name: {part: clip.pin_memory() for part, clip in clips.items()} for name, clips in self.clips.items()},
            {name: mask.pin_memory() for name, mask in self.present.items()},
            {name: rows.pin_memory() for name, rows in self.rows.items()},
            self.labels.pin_memory(),
            self.videos.pin_memory(),
            self.starts.pin_memory(),
            self.clip,
        )


class ClipDataset(Dataset):
    """Clips of a store's videos, each read for all streams from one window of the clock.

    Indexed by (video, number). In training the number is the epoch, and the clip is random and augmented, but
    the same for the same (seed, epoch, video) in every worker; otherwise it is the view.
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
        hop: int | None = None,
        whole_strides: Collection[str] = (),
    ) -> None:
        """With a `seed`: for training. Without: not augmented, `views` clips a video or one each `hop` frames.

        whole_strides: streams whose clips begin a whole number of strides after the video's begin.
        """
        self.store = store
        self.videos = videos  # not copied to a list: a store makes them on access, as is needed with a million
        self.streams = {name: STREAMS[name] for name in streams}
        self.rows = {name: row for row, name in enumerate(classes)}
        self.clip = clip
        self.clips = {name: clip.of(name) for name in streams}
        self.whole_strides = whole_strides
        self.seed = seed
        self.views = views
        self.hop = hop

    def __len__(self) -> int:
        return len(self.videos)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """A batch; every clip is decoded directly into it."""
        clips = {name: self._empty(name, len(keys)) for name in self.streams}
        present = {name: torch.zeros(len(keys), dtype=torch.bool) for name in self.streams}
        labels, starts = torch.full((2, len(keys)), -1)
        for at, key in enumerate(keys):
            video, start, crop = self._window(*key)
            starts[at] = start
            labels[at] = self.rows.get(video.label, -1)  # -1: no label, or one that the model does not know
            for name, stream in self.streams.items():
                into = {part: array[at].numpy() for part, array in clips[name].items()}
                own, begin = self.clips[name], self.own_start(name, start, video.frames)
                there = stream.read(self.store, video, begin, own, crop.resized(own.size / self.clip.size), into)
                present[name][at] = there
                for array in () if there else into.values():
                    array[:] = 0
        rows = {name: mask.nonzero()[:, 0] for name, mask in present.items()}
        videos = torch.tensor([row for row, _ in keys], dtype=torch.int64)
        return Batch(clips, present, rows, labels, videos, starts, self.clip)

    def starts(self, video: Video) -> list[int]:
        """First frames of a video's clips, in the order of time, if they are not random."""
        if self.hop is None:
            return view_starts(video, self.clip, self.views)
        return hop_starts(video, self.clip, self.hop)

    def own_start(self, stream: str, start: int, length: float) -> int:
        """The first frame of a stream's part of the clip from `start` on, in a video of `length` frames."""
        own = self.clips[stream]
        begin = own_start(start, self.clip, own, length)
        return begin // own.stride * own.stride if stream in self.whole_strides else begin

    def _window(self, row: int, number: int) -> tuple[Video, int, Crop]:
        """The video, the first frame of its clip, and the part of the frames that the clip shows."""
        video = self.videos[row]
        if self.seed is None:
            return video, self.starts(video)[number], clip_crop(video, self.clip, None)
        rng = np.random.default_rng((self.seed, number, row))
        return video, random_start(video, self.clip, rng), clip_crop(video, self.clip, rng)

    def _empty(self, stream: str, count: int) -> dict[str, torch.Tensor]:
        shapes = self.streams[stream].shapes(self.store.parameters, self.clips[stream]).items()
        return {name: _empty((count, *shape), dtype) for name, (shape, dtype) in shapes}


def _empty(shape: tuple[int, ...], dtype: type) -> torch.Tensor:
    """An uninitialised tensor; in a worker process in shared memory, so that a batch is sent without a copy."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, dtype))
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize)  # as default_collate does
    return torch.empty(0, dtype=kind).set_(storage, 0, shape)
