"""Features of a frozen tower that are kept in a file: a stream whose clips are sequences of them.

features    (N, D) float16: the pictures of all videos, one video after the other
ends        (V,) int64: video k is features[ends[k - 1]:ends[k]]
content     (V,) the digests of the videos' files
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from torch import nn

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings, Starts
from streams.geometry import Crop
from streams.spec import FEATURES, Shapes


class KeptFeatures:
    """Reads a stream's clips as (S T, D) float16 from a file, in place of its pictures. Nothing is done to them.

    A segment begins at the last kept picture that is not after its start. Cheap to fork: each read opens the file.
    """

    unit = "picture"

    @classmethod
    def can_keep(cls, clip: ClipSettings) -> bool:
        """False for clips that show what cannot be computed once."""
        return True

    def __init__(self, name: str, path: Path) -> None:
        """name: the stream's. Raises UserError if the file is damaged."""
        self.name = name
        self.path = path
        try:
            with h5py.File(path) as file:
                features, ends = file[FEATURES], file["ends"][:]
                self.shape = features.shape
                self.offset = features.id.get_offset()  # bytes: the array lies in the file in one piece
                contents = file["content"][:].tolist()
            self.begins = dict(zip(contents, zip([0, *ends.tolist()], ends.tolist(), strict=False), strict=True))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): delete it, and it is made again") from error

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        return {FEATURES: ((clip.pictures, self.shape[1]), np.float16)}

    def read(
        self,
        store: Store,
        video: Video,
        starts: Sequence[int],
        clip: ClipSettings,
        crop: Crop,
        into: dict[str, np.ndarray],
    ) -> bool:
        if not video.streams[self.name]:
            return False
        begin, end = self.begins[video.content.encode()]
        kept = np.memmap(self.path, np.float16, "r", self.offset, self.shape)
        firsts = np.array(starts)[:, None] // clip.stride
        steps = begin + (firsts + np.arange(clip.frames)) % (end - begin)  # repeats, as pictures do
        np.take(kept, steps.ravel(), axis=0, out=into[FEATURES], mode="clip")
        return True


class WholeVideos(ClipDataset):
    """All pictures of videos at the clip's stride: clips that follow each other, from the first picture on."""

    def starts(self, video: Video) -> list[Starts]:
        return [(start,) for start in range(0, video.frames, self.clip.span)]

    def count(self, video: Video) -> int:
        """The pictures of a video."""
        return picture_count(video.frames, self.clip)

    def decides(self, tower: nn.Module) -> str:
        """All that decides the features, beside the videos and the weights."""
        return f"{tower.side} {self.clip.size} {self.clip.stride}"

    def counts(self, batch: Batch) -> list[int]:
        """The pictures of each clip of a batch that are in the video; those after them repeat its first ones."""
        lengths = [self.videos[row].frames for row in batch.videos.tolist()]
        starts = batch.starts[:, 0].tolist()
        return [
            min(self.clip.frames, picture_count(length - start, self.clip))
            for length, start in zip(lengths, starts, strict=True)
        ]


def picture_count(frames: int, clip: ClipSettings) -> int:
    """The pictures at the clip's stride among so many frames."""
    return -(-frames // clip.stride)
