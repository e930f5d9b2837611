"""A live video with a store's interface: its latest part is held in memory, encoded as in a store."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.stopwatch import Stopwatch
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import STREAMS, Video
from preprocess.store.kinds import KINDS
from preprocess.store.reader import EVERYTHING
from preprocess.video.decoded import QUIETEST, Absent, Frame, Item, Samples
from preprocess.video.encoder import VideoEncoder
from preprocess.video.log_mel import HOP, SAMPLE_RATE
from preprocess.video.settings import PieceSettings

NOT_YET = "nothing can be heard so far"
NOT_HERE = "nothing came"
FLOW_CHUNK = 5  # frames: four pairs take little longer, each, than many do, and a window need not wait for them
SILENCE_BLOCK = 1 << 18  # samples


class LiveVideo:
    """Push pictures and sound; read, as from a Store, what has not been forgotten.

    A window equals one from the store of the whole video, except for facts known only at the end: a sound track counts
    as absent until it is not silent. What did not come, or was dropped, is `Absent`: time goes on, no flow leads over
    it, and a stream is there in a window only as `within` says.
    """

    def __init__(self, parameters: dict, *, name: str = "live") -> None:
        """`parameters` are those of the store to imitate."""
        self.parameters = parameters
        self.fps: float = parameters["fps"]
        self._name = name
        self._size = (parameters["short_side"],) * 2  # (H, W), of the first picture as soon as there is one
        self._has_size = False
        self._rgb, self._flow, self._mel = _Recent(), _Recent(), _Recent()
        self._samples = 0
        self._heard: deque[tuple[int, int]] = deque()  # intervals of samples that have come
        self._heard_at = 0  # pictures when the latest of them came
        self._peak = 0.0
        self._pictures = {"rgb": self._rgb, "flow": self._flow}
        sinks = {"rgb": self._rgb, "flow": self._flow, "mel": _Rows(self._mel)}
        self._encoder = VideoEncoder(
            PieceSettings.like(parameters), **sinks, watch=Stopwatch(), flow_chunk=FLOW_CHUNK, sound_chunk=1
        )

    @property
    def frames_so_far(self) -> int:
        return self._rgb.count

    def until(self, stream: str) -> float:
        """The seconds of a stream that are available."""
        flow = self._flow.count + self._encoder.flow_ahead
        return {
            "rgb": self._rgb.count / self.fps,
            "flow": flow / self.fps,
            "audio": self._mel.count / MEL_RATE,
        }[stream]

    @property
    def video(self) -> Video:
        """The video so far."""
        count = self._rgb.count
        seconds = max(1, count) / self.fps
        heard = bool(self._heard) and self._peak >= QUIETEST
        there = {"rgb": count > 0, "flow": count > 1, "audio": heard}
        why = {"rgb": "no picture so far", "flow": "one frame", "audio": NOT_YET}
        return Video(
            content="",
            path=self._name,
            seconds=seconds,
            frames=count,
            height=self._size[0],
            width=self._size[1],
            sound=(self._heard[0][0] / SAMPLE_RATE, self._heard[-1][1] / SAMPLE_RATE) if heard else None,
            streams={name: there[name] for name in STREAMS},
            why={name: why[name] for name in STREAMS if not there[name]},
        )

    def within(self, reaches: Mapping[str, Sequence[tuple[float, float]]]) -> Video:
        """The video so far, for a window that takes these intervals of seconds, stream → (begin, end).

        Pictures and flow are there if all of them have come, sound if any of it has.
        """
        video, why = self.video, {}
        for stream in self._pictures.keys() & reaches.keys():
            if not all(self._is_whole(stream, *reach) for reach in reaches[stream]):
                why[stream] = NOT_HERE
        sound = video.sound
        if sound is not None and "audio" in reaches:
            found = [part for reach in reaches["audio"] for part in self._heard_in(*reach, video.seconds)]
            sound = (min(begin for begin, _ in found), max(end for _, end in found)) if found else None
            if sound is None:
                why["audio"] = NOT_HERE
        streams = {name: there and name not in why for name, there in video.streams.items()}
        return replace(video, sound=sound, streams=streams, why=why | video.why)

    def has_stopped(self, stream: str, *, patience: float) -> bool:
        """True if nothing of a stream has come while there were pictures for `patience` seconds."""
        return stream == "audio" and (self._rgb.count - self._heard_at) / self.fps >= patience

    def push(self, item: Item) -> None:
        """Take the next picture or samples.

        Raises UserError for a picture of another size than the previous ones, or than the store's.
        """
        if isinstance(item, Frame):
            size = item.rgb.shape[:2]
            if not self._has_size:
                self._size, self._has_size = size, True
            if size != self._size or min(size) != self.parameters["short_side"]:
                wanted = f"pictures of one size, with a shorter side of {self.parameters['short_side']}, are needed"
                raise UserError(f"{self._name}: {wanted}, not {size[1]}×{size[0]}")
        elif isinstance(item, Absent):
            self._skip(item)
            return
        elif len(item.samples):
            self._peak = max(self._peak, float(np.abs(item.samples).max()))
            begin, self._samples = self._samples, self._samples + len(item.samples)
            if item.there:
                if self._heard and self._heard[-1][1] == begin:
                    begin, _ = self._heard.pop()
                self._heard.append((begin, self._samples))
                self._heard_at = self._rgb.count
        self._encoder.push(item)

    def end(self) -> None:
        """Mark the video as complete."""
        self._encoder.finish()

    def forget(self, *, frame: int, row: int) -> None:
        """Drop the pictures and flow before a frame, and the log-mel before a row."""
        self._rgb.forget(frame)
        self._flow.forget(frame)
        self._mel.forget(row)
        while len(self._heard) > 1 and self._heard[0][1] < row * HOP:
            self._heard.popleft()

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

    def _skip(self, absent: Absent) -> None:
        """Let time go on without pictures, or sound."""
        if absent.frames:
            self._encoder.cut()
            for _ in range(absent.frames):
                self._rgb.add(None)
            while self._flow.count < self._rgb.count:  # neither to the first of them, nor from the last
                self._flow.add(None)
        for begin in range(0, absent.samples, SILENCE_BLOCK):
            silence = np.zeros(min(SILENCE_BLOCK, absent.samples - begin), np.float32)
            self._encoder.push(Samples(silence))
        self._samples += absent.samples

    def _is_whole(self, stream: str, begin: float, end: float) -> bool:
        """True if all pictures from one second to another have come, as far as there are any so far."""
        recent = self._pictures[stream]
        if round(end * self.fps) > recent.count:
            self._encoder.solve_flow()
        numbers = range(round(begin * self.fps), min(round(end * self.fps), recent.count))
        return all(recent[number] is not None for number in numbers)

    def _heard_in(self, begin: float, end: float, seconds: float) -> list[tuple[float, float]]:
        """The sound that has come of an interval, which in a video that ends earlier lies before its end."""
        begin = min(begin, max(0.0, seconds - (end - begin)))
        heard = ((since / SAMPLE_RATE, until / SAMPLE_RATE) for since, until in self._heard)
        return [part for part in heard if part[0] < end and part[1] > begin]


class _Recent:
    """The latest entries of a sequence, indexed by their numbers; None is an absent one."""

    def __init__(self) -> None:
        self._entries: deque[np.ndarray | None] = deque()
        self._first = 0

    @property
    def count(self) -> int:
        return self._first + len(self._entries)

    def add(self, values: np.ndarray | None) -> None:
        self._entries.append(values)

    def forget(self, before: int) -> None:
        while self._entries and self._first < before:
            self._entries.popleft()
            self._first += 1

    def __getitem__(self, number: int) -> np.ndarray | None:
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
