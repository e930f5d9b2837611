"""Clips of several streams as batches, with masks of the present streams."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings, HopStarts, Starts, own_start, random_starts, view_starts
from streams.geometry import Crop, clip_crop
from streams.given import blended, parse_blend
from streams.registry import PATCHED, STREAMS, streams_of
from streams.spec import FEATURES, GIVEN


@dataclass(frozen=True)
class Batch:
    """B clips. The values of absent streams in `clips` are never used."""

    clips: dict[str, dict[str, torch.Tensor]]  # stream → name → (B, ...), by the stream's `shapes`
    present: dict[str, torch.Tensor]  # stream → (B,) bool
    rows: dict[str, torch.Tensor]  # stream → (N,) int64: indices of the present rows
    labels: torch.Tensor  # (B,) int64
    videos: torch.Tensor  # (B,) int64: index among the dataset's videos
    starts: torch.Tensor  # (B, S) int64: first frame of each segment
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

    def only(self, streams: Collection[str]) -> "Batch":
        """The same clips, of those of the batch's streams that are among `streams`."""

        def part(of: dict) -> dict:
            return {name: value for name, value in of.items() if name in streams}

        return replace(self, clips=part(self.clips), present=part(self.present), rows=part(self.rows))

    def inputs(self, *, training: bool) -> dict[str, torch.Tensor]:
        """The encoders' inputs, for a batch on the device: stream → (B, C, S T, H, W), (B, M, S T) or kept (B, D, S T).

        Call it outside of mixed precision: eight bits cannot address every pixel of a picture.
        """
        blend = parse_blend(self.clip.blend) if training else {}

        def prepared(name: str, clips: dict[str, torch.Tensor]) -> torch.Tensor:
            if FEATURES in clips:  # nothing is done to them
                return clips[FEATURES].float().transpose(1, 2)
            if GIVEN in clips:
                rows = clips[GIVEN]
                return (blended(rows, self.rows[name], blend[name]) if name in blend else rows).transpose(1, 2)
            return STREAMS[name].prepare(clips, self.clip.of(name), training=training)

        return {name: prepared(name, clips) for name, clips in self.clips.items()}

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
    """Clips of a store's videos, each read for all streams from the same windows of the clock.

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
        window: int | None = None,
        apart: bool = False,
        whole_strides: Collection[str] = (),
    ) -> None:
        """With a `seed`: for training. Without: not augmented, `views` clips a video or one each `hop` frames, which
        stands for a `window` of so many frames, by default as many as its segments have.

        apart: each stream of a training clip draws a crop of its own.
        whole_strides: streams whose segments begin a whole number of strides after the video's begin, and their sound a
        whole number of steps.
        """
        self.store = store
        self.videos = videos  # not copied to a list: a store makes them on access, as is needed with a million
        known = streams_of(store.parameters)
        self.streams = {name: (PATCHED if name in whole_strides else known)[name] for name in streams}
        self.rows = {name: row for row, name in enumerate(classes)}
        self.clip = clip
        self.whole_strides = whole_strides
        self.seed = seed
        self.views = views
        self.hop = hop
        self.window = clip.length if window is None else window
        self.apart = apart

    def __len__(self) -> int:
        return len(self.videos)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """A batch; every clip is decoded directly into it."""
        clips = {name: self._empty(name, len(keys)) for name in self.streams}
        present = {name: torch.zeros(len(keys), dtype=torch.bool) for name in self.streams}
        labels = torch.full((len(keys),), -1)
        starts = torch.full((len(keys), self.clip.segments), -1)
        for at, key in enumerate(keys):
            video, begins, crops = self._clip(*key)
            starts[at] = torch.tensor(begins)
            labels[at] = self.rows.get(video.label, -1)  # -1: no label, or one that the model does not know
            for name, stream in self.streams.items():
                into = {part: array[at].numpy() for part, array in clips[name].items()}
                own, ours = self.clip.of(name), self.own_starts(name, begins, video.frames)
                there = stream.read(self.store, video, ours, own, crops[name].resized(own.size / self.clip.size), into)
                present[name][at] = there
                for array in () if there else into.values():
                    array[:] = 0
        rows = {name: mask.nonzero()[:, 0] for name, mask in present.items()}
        videos = torch.tensor([row for row, _ in keys], dtype=torch.int64)
        return Batch(clips, present, rows, labels, videos, starts, self.clip)

    def starts(self, video: Video) -> Sequence[Starts]:
        """A video's clips, in the order of time, if they are not random."""
        if self.hop is None:
            return view_starts(video, self.clip, self.views)
        return HopStarts(video, self.clip, self.hop, self.window)

    def own_starts(self, stream: str, starts: Starts, length: float) -> Starts:
        """A stream's own segments, around the centres of those from `starts` on, in a video of `length` frames."""
        own = self.clip.of(stream)
        stride = own.stride if stream in self.whole_strides else 1
        return tuple(own_start(start, self.clip, own, length) // stride * stride for start in starts)

    def times(self, video: Video, starts: Starts) -> dict[str, np.ndarray]:
        """stream → (S T,) the middles of a clip's input steps, in seconds; see Stream.times."""
        found = {}
        for name, stream in self.streams.items():
            ours = self.own_starts(name, starts, video.frames)
            found[name] = stream.times(video, ours, self.clip.of(name), self.store.fps)
        return found

    def _clip(self, row: int, number: int) -> tuple[Video, Starts, dict[str, Crop]]:
        """The video, where its clip's segments begin, and the part of the frames that each stream shows."""
        video = self.videos[row]
        rng = None if self.seed is None else np.random.default_rng((self.seed, number, row))
        begins = self.starts(video)[number] if rng is None else random_starts(video, self.clip, rng)
        count = len(self.streams) if self.apart else 1
        drawn = [clip_crop(video, self.clip, rng) for _ in range(count)]
        return video, begins, {name: drawn[at % count] for at, name in enumerate(self.streams)}

    def _empty(self, stream: str, count: int) -> dict[str, torch.Tensor]:
        shapes = self.streams[stream].shapes(self.store.parameters, self.clip.of(stream)).items()
        return {name: _empty((count, *shape), dtype) for name, (shape, dtype) in shapes}


def _empty(shape: tuple[int, ...], dtype: type) -> torch.Tensor:
    """An uninitialised tensor; in a worker process in shared memory, so that a batch is sent without a copy."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, dtype))
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize)  # as default_collate does
    return torch.empty(0, dtype=kind).set_(storage, 0, shape)
