"""Files of odd kinds, each made here, and what must become of each: written down from what it is, before any run."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from preprocess.video.limits import Unusable
from tests.support.decoding import decode, open_decoder
from tests.support.videos import drift, sound, tone, write_video

SIZE = (48, 64)


@dataclass(frozen=True)
class Used:
    """What is true of a file that can be used."""

    seconds: float
    size: tuple[int, int] = (32, 43)  # of its frames with square pixels, upright and the shorter side 32 pixels
    sound: float | str = "no audio track"  # seconds of it within the pictures, or why there is none


def video(count: int = 25, name: str = "a.mp4", *, size: tuple[int, int] = SIZE, heard: float = 0.0, **settings):
    """A maker of an ordinary video but for `settings`."""

    def make(folder: Path) -> Path:
        track = sound(tone(heard), codec="aac" if name.endswith(("mp4", "flv")) else "pcm_s16le") if heard else None
        return write_video(folder / name, drift(count, size=size), track=track, **settings)

    return make


def content(data: bytes | Callable[[], bytes], name: str = "a.mp4"):
    """A maker of a file with these bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return folder / name

    return make


def changed(make: Callable[[Path], Path], change: Callable[[bytes], bytes]):
    """A maker of another's file, with its bytes changed."""

    def make_changed(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make_changed


def streams(name: str, *kinds: str, options: dict[str, str] | None = None, pixels: str | None = None):
    """A maker of a file with a second of each kind of stream: a video or sound codec, or "data"."""

    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as file:
            tracks = []
            for k, kind in enumerate(kinds):
                if kind == "data":
                    tracks.append(file.add_data_stream("bin_data"))
                elif kind in ("aac", "pcm_s16le", "mp2"):
                    tracks.append(file.add_stream(kind, rate=16_000, layout="mono"))
                else:
                    track = file.add_stream(kind, rate=25, options=options or {})
                    track.height, track.width = SIZE[0] * (k + 1), SIZE[1] * (k + 1)  # the first is the smallest
                    track.pix_fmt = pixels or ("yuvj420p" if track.codec_context.name == "mjpeg" else "yuv420p")
                    tracks.append(track)
            file.start_encoding()
            packets = [packet for track, kind in zip(tracks, kinds, strict=True) for packet in _packets(track, kind)]
            for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
                file.mux(packet)
        return folder / name

    return make


def _packets(track, kind: str) -> list[av.Packet]:
    if kind == "data":
        packet = av.Packet(b"data" * 20)
        packet.stream, packet.pts, packet.dts, packet.time_base = track, 0, 0, Fraction(1, 1000)
        return [packet]
    packets = []
    if isinstance(track, av.AudioStream):
        for begin in range(0, 16_000 - 1023, 1024):
            form, data = track.codec_context.format.name, tone(1.0)[None, begin : begin + 1024]
            data = np.rint(data * 32767).astype(np.int16) if form == "s16" else data
            frame = av.AudioFrame.from_ndarray(data, format=form, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, begin, Fraction(1, 16_000)
            packets += track.encode(frame)
    else:
        for k, picture in enumerate(drift(25, size=(track.height, track.width))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            packets += track.encode(frame)
    return [packet for packet in [*packets, *track.encode()] if packet.size]


NOISE = np.random.default_rng(0).bytes(3000)
EARLY = [k / 25 - 0.4 for k in range(25)]
AS_IT_IS = {"avoid_negative_ts": "disabled"}
KINDS = {
    "nothing at all": (content(b""), "corrupt"),
    "media and no index": (changed(video(), lambda data: data[: data.index(b"moov") - 4]), "corrupt"),
    "sound alone": (video(0, heard=1.0), "no video"),
    "interlaced": (streams("a.mpg", "mpeg2video", options={"flags": "+ilme+ildct"}), Used(1.0)),
    "4:2:2, 10 bits": (video(name="a.mkv", codec="ffv1", pixels="yuv422p10le"), Used(1.0)),
    "grey, 16 bits": (video(name="a.mkv", codec="ffv1", pixels="gray16le"), Used(1.0)),
    "PNG with transparency": (video(name="a.mov", codec="png", pixels="rgba"), Used(1.0)),
    "1×1": (video(name="a.mkv", codec="ffv1", size=(1, 1)), Used(1.0, (32, 32))),
    "3×5": (video(name="a.mkv", codec="ffv1", size=(5, 3)), Used(1.0, (53, 32))),
    "a strip": (video(name="a.mkv", codec="ffv1", size=(8, 240)), "no video"),
    "a frame in ten seconds": (video(3, times=[0, 10, 20]), Used(20.04)),  # the file says how long the last one stays
    "240 frames a second": (video(240, times=[k / 240 for k in range(240)]), Used(1.0)),
    "a start before zero": (video(name="a.mkv", codec="mjpeg", times=EARLY, muxing=AS_IT_IS), Used(1.0)),
    "a start that an edit list leaves out": (video(times=EARLY), Used(0.6)),
    "a clock that wraps": (video(50, "a.ts", times=[2**33 / 90_000 - 1 + k / 25 for k in range(50)]), Used(2.0)),
    "two videos": (streams("a.mkv", "mjpeg", "mjpeg"), Used(1.0)),
    "two sounds": (streams("a.mkv", "mjpeg", "aac", "pcm_s16le"), Used(1.0, sound=1.0)),
    "data beside it": (streams("a.ts", "mpeg2video", "data"), Used(1.0)),
    "a PDF": (content(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + NOISE), "not media"),
    "a program": (content(b"MZ\x90\0\3\0\0\0" + NOISE), "corrupt"),
    "noise before it": (changed(video(), lambda data: NOISE + data), "corrupt"),
    "noise behind it": (changed(video(heard=1.0), lambda data: data + NOISE), Used(1.0, sound=1.0)),
    "noise behind a Matroska file": (changed(video(name="a.mkv", codec="mjpeg"), lambda data: data + NOISE), Used(1.0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_an_odd_kind_becomes_what_it_is(tmp_path, kind):
    make, expected = KINDS[kind]
    path = make(tmp_path)
    if isinstance(expected, str):
        with pytest.raises(Unusable) as caught:
            list(open_decoder(path))
        assert str(caught.value).partition(":")[0] == expected
        return
    decoded = decode(path)
    decoder = decoded.decoder
    assert not decoder.truncated
    assert decoder.seconds == pytest.approx(expected.seconds, abs=0.05)
    assert decoded.frames.shape[1:3] == expected.size
    if isinstance(expected.sound, str):
        assert decoder.audio_absent == expected.sound
    else:
        assert decoder.audio_absent is None
        assert decoder.sound.covered == pytest.approx((0.0, expected.sound), abs=0.09)  # AAC's last packet is padded
    assert decoded.frames.std() > 1 or kind == "1×1"
