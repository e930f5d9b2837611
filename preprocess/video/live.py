"""A live video with a store's interface: its latest part is held in memory, encoded as in a store."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.stopwatch import Stopwatch
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import STREAMS, Video
from preprocess.store.kinds import KINDS
from preprocess.store.reader import EVERYTHING
from preprocess.video.decoded import QUIETEST, Frame, Samples
from preprocess.video.encoder import VideoEncoder
from preprocess.video.log_mel import SAMPLE_RATE
from preprocess.video.settings import PieceSettings

NOT_YET = "nothing can be heard so far"


class LiveVideo:
    """Push pictures and sound; read, as from a Store, what has not been forgotten.

    A window equals one from the store of the whole video, except for facts known only at the end: a sound track counts
    as absent until it is not silent.
    """

    def __init__(self, parameters: dict, *, name: str = "live") -> None:
        """`parameters` are those of the store to imitate."""
        self.parameters = parameters
        self.fps: float = parameters["fps"]
        self._name = name
        self._size = (1, 1)
        self._rgb, self._flow, self._mel = _Recent(), _Recent(), _Recent()
        self._samples = 0
        self._peak = 0.0
        self._pictures = {"rgb": self._rgb, "flow": self._flow}
        sinks = {"rgb": self._rgb, "flow": self._flow, "mel": _Rows(self._mel)}
        self._encoder = VideoEncoder(PieceSettings.like(parameters), **sinks, watch=Stopwatch())

    @property
    def frames_so_far(self) -> int:
        return self._rgb.count

    def until(self, stream: str) -> float:
        """The seconds of a stream that are available."""
        pictures = self._rgb.count / self.fps
        return {"rgb": pictures, "flow": pictures - 1 / self.fps, "audio": self._mel.count / MEL_RATE}[stream]

    @property
    def video(self) -> Video:
        """The video so far."""
        count = self._rgb.count
        seconds = max(1, count) / self.fps
        heard = self._samples > 0 and self._peak >= QUIETEST
        there = {"rgb": count > 0, "flow": count > 1, "audio": heard}
        why = {"rgb": "no picture so far", "flow": "one frame", "audio": NOT_YET}
        return Video(
            content="",
            path=self._name,
            seconds=seconds,
            frames=count,
            height=self._size[0],
            width=self._size[1],
            sound=(0.0, self._samples / SAMPLE_RATE) if heard else None,
            streams={name: there[name] for name in STREAMS},
            why={name: why[name] for name in STREAMS if not there[name]},
        )

    def push(self, item: Frame | Samples) -> None:
        """Take the next picture or samples.

        Raises UserError for a picture of another size than the previous ones, or than the store's.
        """
        if isinstance(item, Frame):
            size = item.rgb.shape[:2]
            if not self._rgb.count:
                self._size = size
            if size != self._size or min(size) != self.parameters["short_side"]:
                wanted = f"pictures of one size, with a shorter side of {self.parameters['short_side']}, are needed"
                raise UserError(f"{self._name}: {wanted}, not {size[1]}×{size[0]}")
        elif len(item.samples):
            self._peak = max(self._peak, float(np.abs(item.samples).max()))
            self._samples += len(item.samples)
        self._encoder.push(item)

    def end(self) -> None:
        """Mark the video as complete."""
        self._encoder.finish()

    def forget(self, *, frame: int, row: int) -> None:
        """Drop the pictures and flow before a frame, and the log-mel before a row."""
        self._rgb.forget(frame)
        self._flow.forget(frame)
        self._mel.forget(row)

    def frames(
        self,
        video: Video,
        stream: str,
        steps: Sequence[int],
        *,
        window: tuple[slice, slice] = EVERYTHING,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """As Store.frames."""
        kind, recent = KINDS[stream], self._pictures[stream]
        if max(steps) >= recent.count:
            self._encoder.solve_flow()
        decoded = {k: kind.decode(recent[k])[kind.window(*window)] for k in {*steps}}
        return np.stack([decoded[k] for k in steps], out=out)

    def mel(self, video: Video, start: int, stop: int) -> np.ndarray:
        """As Store.mel; silence where sound has not arrived in time."""
        rows = np.full((stop - start, self.parameters["mel_bands"]), SILENCE, np.float16)
        for row in range(start, min(stop, self._mel.count)):
            rows[row - start] = self._mel[row]
        return rows


class _Recent:
    """The latest entries of a sequence, indexed by their numbers."""

    def __init__(self) -> None:
        self._entries: deque[np.ndarray] = deque()
        self._first = 0

    @property
    def count(self) -> int:
        return self._first + len(self._entries)

    def add(self, values: np.ndarray) -> None:
        self._entries.append(values)

    def forget(self, before: int) -> None:
        while self._entries and self._first < before:
            self._entries.popleft()
            self._first += 1

    def __getitem__(self, number: int) -> np.ndarray:
        if number < self._first:
            raise IndexError(f"number {number} is forgotten")
        return self._entries[number - self._first]


class _Rows:
    """Splits (T, M) into rows."""

    def __init__(self, recent: _Recent) -> None:
        self._recent = recent

    def add(self, values: np.ndarray) -> None:
        for row in values:
            self._recent.add(row)
