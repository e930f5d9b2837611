"""Parts of long videos as a store of their own: an event each, and the stretches between them.

Nothing is decoded or encoded again: the bytes of the long videos' store are copied. What train.py learns from the new
store are the towers that find the events.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from preprocess.common.console import progress
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.format import MEL_RATE, frame_count
from preprocess.store.index import STREAMS, Facts, Video, facts_columns, write_columns
from preprocess.store.kinds import KINDS, Pictures
from preprocess.store.locations import Locations
from preprocess.store.new_file import new_file
from preprocess.store.seal import stream_checksum, write_seal
from preprocess.store.writer import StoreWriter
from tasks.events.event import Event
from tasks.events.labels import BACKGROUND

EVENT = 4.0  # seconds of a part of an event, about; shorter than those without, which are most of a long video, so
WITHOUT = 8.0  # that the clips of a training, one a part, do not all show the same class
SHORTEST = 1.0  # seconds; a shorter stretch between two events is left out


@dataclass(frozen=True)
class Part:
    """Frames `first` until `last` of a video."""

    video: Video
    first: int
    last: int  # the frame after its last
    label: str

    @property
    def content(self) -> str:
        """A digest that stands for these frames of this file."""
        return blake2b(f"{self.video.content} {self.first} {self.last}".encode(), digest_size=16).hexdigest()


def parts_of(video: Video, events: Sequence[Event], *, fps: float) -> Iterator[Part]:
    """The events of a video and what lies between them, in equal pieces of about EVENT and WITHOUT seconds."""
    for event in events:
        first, last = round(event.start * fps), min(video.frames, round(event.end * fps))
        yield from _pieces(
            video, min(first, video.frames - 1), max(first + 1, last), event.label, seconds=EVENT, fps=fps
        )
    free = np.ones(video.frames + 2, bool)
    free[[0, -1]] = False
    for event in events:
        free[1 + max(0, round(event.start * fps)) : 1 + round(event.end * fps)] = False
    for begin, end in np.flatnonzero(free[1:] != free[:-1]).reshape(-1, 2).tolist():
        if end - begin >= SHORTEST * fps:
            yield from _pieces(video, begin, end, BACKGROUND, seconds=WITHOUT, fps=fps)


def _pieces(video: Video, begin: int, end: int, label: str, *, seconds: float, fps: float) -> Iterator[Part]:
    cuts = np.linspace(begin, end, 1 + max(1, round((end - begin) / (seconds * fps)))).round().astype(int)
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield Part(video, first, last, label)


def cut_store(store: Store, events: Mapping[str, Sequence[Event]], out: Path) -> Store:
    """Write the parts of the videos in `events` (path → events) as the store `out`. Their group is the long video's.

    Raises UserError for an event whose label is the background's, or a store that does not match its index.
    """
    if any(event.label == BACKGROUND for found in events.values() for event in found):
        raise UserError(f"an event is labelled '{BACKGROUND}', which stands for moments without one: rename it")
    videos = [video for video in store.videos if video.path in events]
    parts = [part for video in videos for part in parts_of(video, events[video.path], fps=store.fps)]
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        scratch, locations, rows = Path(folder), Locations(store.parameters), []
        with StoreWriter(out, locations=locations, scratch=scratch, shard_bytes=2e9) as writer:
            for part in progress(parts, unit="part", name="cut", leave=False):
                piece = scratch / f"{part.content}.h5"
                facts = _write_piece(store, part, piece)
                locations.add_file(piece)
                writer.place(part.content)
                rows.append(_row(part, facts, fps=store.fps))
            writer.publish(rows, [], notes=[f"cut from {store.path.name}"])
    return Store(out)


def _row(part: Part, facts: Facts, *, fps: float) -> Video:
    video = part.video
    name = f"{video.path}#{part.first / fps:.2f}-{part.last / fps:.2f} {part.label}"
    return Video(**vars(facts), path=name, label=part.label, group=video.group or video.path, split=video.split)


def _write_piece(store: Store, part: Part, piece: Path) -> Facts:
    """Copy a part's streams into a sealed file, as extraction makes one of a video."""
    video, fps = part.video, store.fps
    begin, end = part.first / fps, part.last / fps
    sound = video.sound and (max(0.0, video.sound[0] - begin), min(end, video.sound[1]) - begin)
    why = dict(video.why)
    if video.streams["audio"] and not (sound and sound[1] > sound[0]):
        sound, why["audio"] = None, "no sound in this part"
    if video.streams["flow"] and part.last - part.first < 2:
        why["flow"] = "one frame"
    source = store.group(video)
    with closing(new_file(piece, parameters=store.parameters)) as file:
        group = file.create_group(f"videos/{part.content}")
        for name, value in source.attrs.items():
            group.attrs[name] = value
        for stream in STREAMS:
            if stream not in why and stream in source:
                _copy_stream(source[stream], group.create_group(stream), KINDS[stream], part, fps=fps, sound=sound)
        facts = Facts(
            content=part.content,
            seconds=(part.last - part.first) / fps,
            frames=part.last - part.first,
            height=video.height,
            width=video.width,
            sound=sound,
            streams={stream: stream in group for stream in STREAMS},
            why=why,
            bytes={name: sum(data.nbytes for data in stream.values()) for name, stream in group.items()},
        )
        write_columns(file.create_group("index"), facts_columns([facts]))
    write_seal(piece)
    return facts


def _copy_stream(source, target, kind, part: Part, *, fps: float, sound: tuple[float, float] | None) -> None:
    if isinstance(kind, Pictures):
        steps = kind.number(part.last - part.first)
        ends = source["ends"][part.first : part.first + steps + 1]
        values = {"data": source["data"][ends[0] : ends[-1]], "ends": ends - ends[0]}
    else:
        rows = frame_count((part.last - part.first) / fps)
        row = min(round(part.first / fps * MEL_RATE), len(source["data"]) - rows)
        values = {"data": source["data"][row : row + rows]}
    for name, value in values.items():
        target[name] = value
    for name, value in source.attrs.items():
        target.attrs[name] = value
    if sound and "covered" in target.attrs:
        target.attrs["covered"] = sound
    target.attrs["checksum"] = np.bytes_(stream_checksum(target))
