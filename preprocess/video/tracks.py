"""The choice of a file's pictures and sound: those that a person would see and hear."""

from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from preprocess.video.container import AV_ERRORS, ENCRYPTED
from preprocess.video.decoded import QUIETEST
from preprocess.video.limits import Unusable
from preprocess.video.mp4 import Aperture, Mp4Track, read_tracks


@dataclass(frozen=True)
class Tracks:
    """A file's chosen streams."""

    video: av.VideoStream
    audio: av.AudioStream | None
    audio_absent: str | None  # the reason if there is no audio
    notes: list[str]  # on the choice
    aperture: Aperture | None  # the part of the pictures to be seen, if it is not all


def choose_tracks(
    container: av.container.InputContainer,
    file: str,
    *,
    again: Callable[[], av.container.InputContainer] | None,
    heartbeat: Callable[[], None],
) -> Tracks:
    """Choose the best pictures, and of the same programme the first sound in which something can be heard.

    `again` opens the file a second time, to listen to several tracks; None, for a live source, takes the best one.
    Raises Unusable if there are no pictures, or only encrypted ones.
    """
    boxes = {track.number: track for track in read_tracks(file)} if "mp4" in container.format.name else {}
    video = _choose_video(container, boxes)
    notes: list[str] = []
    audio, absent = None, None
    tracks = _sounds_of(container, video)
    usable = [track for track in tracks if track.codec_context is not None and not _is_encrypted(track, boxes)]
    if not tracks:
        absent = "no audio track"
    elif not usable:
        absent = "encrypted" if any(_is_encrypted(track, boxes) for track in tracks) else "unknown codec"
    else:
        number = _first_heard(again, usable, heartbeat=heartbeat) if again and len(usable) > 1 else 0
        audio = usable[number]
        if number:
            notes.append(f"sound track {tracks.index(audio) + 1} of {len(tracks)} is used: those before it are silent")
    for stream in filter(None, (video, audio)):  # one thread: worker processes run in parallel
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
    box = boxes.get(video.id)
    return Tracks(video, audio, absent, notes, box and box.aperture)


def _choose_video(container, boxes: dict[int, Mp4Track]) -> av.VideoStream:
    streams = container.streams.video
    moving = [stream for stream in streams if not stream.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        if streams:
            raise Unusable("no video: its only picture is a cover")
        raise Unusable(
            f"no video: {'only sound (--sound-only takes it)' if container.streams.audio else 'no streams in the file'}"
        )
    if "encryption" in container.metadata or "ASF_Protection_Type" in container.metadata:
        raise Unusable(ENCRYPTED)
    usable = [s for s in moving if s.codec_context is not None and not _is_encrypted(s, boxes)]
    if not usable:
        raise Unusable(
            ENCRYPTED if any(_is_encrypted(s, boxes) for s in moving) else "no video: pictures of an unknown codec"
        )
    best = container.streams.best("video")
    return best if best in usable else usable[0]


def _is_encrypted(stream, boxes: dict[int, Mp4Track]) -> bool:
    """True by Matroska's or MP4's headers; common encryption also shows in the packets' side data."""
    box = boxes.get(stream.id)
    return "enc_key_id" in stream.metadata or (box is not None and box.is_protected)


def _sounds_of(container, video: av.VideoStream) -> list[av.AudioStream]:
    """The sound tracks of the pictures' programme, the best one first."""
    best = container.streams.best
    tracks = [track for track in container.streams.audio if best("video", related=track) in (None, video)]
    first = best("audio", related=video)
    return sorted(tracks, key=lambda track: track is not first)


def _first_heard(
    again: Callable[[], av.container.InputContainer], tracks: list, *, heartbeat: Callable[[], None]
) -> int:
    """The number of the first track that is not silent; 0 if all are. Mostly that is known after a packet."""
    numbers = {track.index: number for number, track in enumerate(tracks)}
    floats = {index: av.AudioResampler(format="flt") for index in numbers}
    heard: set[int] = set()
    with again() as container:
        packets = container.demux([container.streams[index] for index in numbers])
        while 0 not in heard:
            try:
                packet = next(packets)
                heartbeat()
                index = packet.stream.index
                if numbers[index] in heard:
                    continue
                frames = [out.to_ndarray() for frame in packet.decode() for out in floats[index].resample(frame)]
            except (StopIteration, IndexError, av.error.EOFError):  # IndexError: see Decoder
                break
            except (OSError, *AV_ERRORS):  # a damaged packet; after a damaged file the next one is the end
                continue
            if any(np.abs(samples).max(initial=0.0) >= QUIETEST for samples in frames):
                heard.add(numbers[index])
    return min(heard, default=0)
