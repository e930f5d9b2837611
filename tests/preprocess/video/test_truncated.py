"""Pictures that a file promises and does not hold: they are missed aloud, and nothing is missed in a whole file."""

import av
import pytest

from tests.support.decoding import decode
from tests.support.videos import drift, sound, tone, write_video

FRAMES, SECONDS = 75, 3.0
PLAIN, FRAGMENTS, INDEX_FIRST = {}, {"movflags": "frag_keyframe+empty_moov"}, {"movflags": "faststart"}
WHOLE = {  # what it is → its name, its codecs, B-frames, how it is written
    "mp4": ("a.mp4", "libx264", "aac", 2, PLAIN),
    "mp4, index first": ("a.mp4", "libx264", "aac", 2, INDEX_FIRST),
    "mp4, fragments": ("a.mp4", "libx264", "aac", 2, FRAGMENTS),
    "mkv": ("a.mkv", "libx264", "aac", 2, PLAIN),
    "avi": ("a.avi", "mpeg4", "mp2", 0, PLAIN),
    "flv": ("a.flv", "libx264", "aac", 2, PLAIN),
    "wmv": ("a.wmv", "wmv2", None, 0, PLAIN),
    "mxf": ("a.mxf", "mpeg2video", None, 2, PLAIN),
    "rm": ("a.rm", "rv10", None, 0, PLAIN),
    "ivf": ("a.ivf", "libvpx", None, 0, PLAIN),
    "ts": ("a.ts", "libx264", "aac", 2, PLAIN),
    "mpg": ("a.mpg", "mpeg2video", "mp2", 2, PLAIN),
    "ogv": ("a.ogv", "libvpx", None, 0, PLAIN),
    "gif": ("a.gif", "gif", None, 0, PLAIN),
    "h264": ("a.h264", "libx264", None, 2, PLAIN),
    "mjpeg": ("a.mjpeg", "mjpeg", None, 0, PLAIN),
}
KNOWING = ["mp4, index first", "mkv", "avi", "flv", "wmv", "mxf", "rm", "ivf"]
# A transport or program stream, an Ogg file and a GIF are made to be played from a part, so none has a length in its
# head, and a fragmented MP4's is written before the fragments are
IGNORANT = ["ts", "mpg", "ogv", "gif", "mp4, fragments"]
RATES = {"mp2": 44_100}


@pytest.fixture
def make(tmp_path):
    """A function that writes one of WHOLE, with as many seconds of sound as asked for."""

    def write(kind: str, *, heard: float = SECONDS, name: str | None = None):
        usual, codec, heard_as, b_frames, muxing = WHOLE[kind]
        rate = RATES.get(heard_as, 16_000)
        track = sound(tone(heard, rate=rate), rate=rate, codec=heard_as) if heard_as else None
        pictures = drift(FRAMES, size=(96, 128))
        pixels = {"gif": "rgb8"}.get(codec)
        return write_video(
            tmp_path / (name or usual),
            pictures,
            track=track,
            codec=codec,
            b_frames=b_frames,
            muxing=muxing,
            pixels=pixels,
        )

    return write


def cut(path, share: float):
    """Keep the first `share` of a file's bytes."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def blank(path, begin: float, end: float):
    """Overwrite a share of a file's bytes with zeros."""
    size = path.stat().st_size
    clear(path, [(int(size * begin), int(size * end) - int(size * begin))])
    return path


def places(path) -> list[tuple[int, int]]:
    """Where the packets of pictures lie, and of how many bytes each is."""
    with av.open(str(path)) as file:
        return [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]


def clear(path, stretches: list[tuple[int, int]]) -> None:
    """Overwrite packets with zeros."""
    content = bytearray(path.read_bytes())
    for position, size in stretches:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "heard"),
    [*((kind, SECONDS) for kind in WHOLE), *((kind, heard) for kind in ("mp4", "mkv", "flv") for heard in (1.0, 5.0))],
)
def test_a_whole_file_is_never_marked_however_long_its_sound_is(make, kind, heard):
    decoder = decode(make(kind, heard=heard)).decoder
    assert not decoder.truncated and not decoder.errors
    assert decoder.seconds == pytest.approx(SECONDS)
    if kind != "h264":  # has neither timestamps nor a header
        assert decoder.expected == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize(
    ("name", "first"),
    [("a.mp4", 0.5), ("a.mkv", 20.0), ("a.flv", 20.0), ("a.avi", 0.0)],  # AVI has no times of its own
)
def test_a_whole_file_with_uneven_times_and_a_late_start_is_not_marked(tmp_path, name, first):
    times = [first + time for time in (0.0, 0.04, 0.12, 0.36, 0.4, 0.72, 1.5, 3.9, 4.0)]
    decoder = decode(write_video(tmp_path / name, drift(9), times=times)).decoder
    assert not decoder.truncated


@pytest.mark.slow
def test_no_clip_of_ucf101_is_marked(shared_data):
    clips = sorted(shared_data("ucf7").glob("*/*.mp4"))[::60]
    assert clips
    for clip in clips:
        decoder = decode(clip).decoder
        assert not decoder.truncated and decoder.expected == pytest.approx(decoder.seconds, abs=0.05), clip


@pytest.mark.parametrize(
    ("kind", "share"), [*((kind, 0.6) for kind in KNOWING), ("mkv", 0.3), ("mkv", 0.9), ("avi", 0.9), ("rm", 0.9)]
)
def test_a_cut_file_says_how_long_it_was(make, kind, share):
    decoder = decode(cut(make(kind), share)).decoder
    assert decoder.truncated == (SECONDS - decoder.seconds > 0.22)
    assert decoder.truncated or share == 0.9  # some have an index at their end
    if decoder.truncated:
        assert decoder.expected == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize("kind", IGNORANT)
def test_some_containers_cannot_know_that_they_were_cut(make, kind):
    path = make(kind)
    if kind == "mp4, fragments":  # which FFmpeg does not open if the cut goes through an index
        path.write_bytes(path.read_bytes()[: places(path)[45][0]])
    decoder = decode(cut(path, 0.5 if kind != "mp4, fragments" else 1)).decoder
    assert decoder.seconds < 2.9
    assert decoder.expected == pytest.approx(decoder.seconds, abs=0.2)


def test_the_end_of_an_ogg_file_says_how_long_it_is_where_its_middle_is_damaged(tmp_path):
    track = sound(tone(SECONDS, rate=48_000), rate=48_000, codec="libopus")
    path = write_video(tmp_path / "a.ogv", drift(FRAMES, size=(96, 128)), codec="libvpx", track=track)
    whole, short = path.read_bytes(), 0
    for begin in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75):  # what FFmpeg makes of it depends on whose page it hits
        path.write_bytes(whole)
        decoder = decode(blank(path, begin, begin + 0.01)).decoder
        assert decoder.expected == pytest.approx(SECONDS, abs=0.05)
        assert decoder.truncated == (decoder.seconds < 2.7)
        short += decoder.truncated
    assert short


@pytest.mark.parametrize(("heard", "first"), [(0.0, 2.0), (1.0, 0.0), (9.0, 2.0)])
def test_a_whole_ogg_file_is_not_marked_however_long_its_sound_is(tmp_path, heard, first):
    track = sound(tone(heard, rate=48_000), rate=48_000, codec="libopus", start=first) if heard else None
    times = [first + k / 25 for k in range(FRAMES)]
    decoder = decode(write_video(tmp_path / "a.ogv", drift(FRAMES), codec="libvpx", times=times, track=track)).decoder
    assert not decoder.truncated and decoder.seconds == pytest.approx(SECONDS)


def test_of_a_wmv_file_that_is_all_but_gone_the_head_still_counts(make):
    """FFmpeg passes its head's duration over, and guesses from the bit rate."""
    path = make("wmv")
    whole = path.read_bytes()
    for size in (1300, 3000):
        path.write_bytes(whole[:size])
        decoder = decode(path).decoder
        assert decoder.truncated
        assert decoder.expected == pytest.approx(SECONDS, abs=0.1)


def test_pictures_that_end_before_the_sound_are_missed_where_there_is_damage(make):
    """Of a whole FLV file nobody knows whether its pictures were meant to last as long as its sound."""
    path = make("flv")
    content = bytearray(path.read_bytes())
    tags, at = [], 13  # of pictures; behind the file's head
    while at < len(content):
        if content[at] == 9:
            tags.append(at)
        at += 11 + int.from_bytes(content[at + 1 : at + 4], "big") + 4
    for tag in tags[30:]:
        content[tag] = 18  # as notes, which nobody shows
    path.write_bytes(content)
    assert not decode(path).decoder.truncated
    content[tags[5] + 16 : tags[5] + 40] = b"\xff" * 24  # one picture is damaged
    path.write_bytes(content)
    decoder = decode(path).decoder
    assert decoder.errors and decoder.truncated
    assert decoder.expected == pytest.approx(SECONDS, abs=0.1)


def test_a_file_that_can_be_read_no_further_is_damaged_and_truncated(make):
    decoder = decode(cut(make("rm"), 0.6)).decoder  # the demuxer fails where a packet is not whole
    assert decoder.errors == 1 and decoder.truncated


@pytest.mark.parametrize("kind", ["mkv", "avi", "flv", "mp4, index first", "ivf"])
def test_zeros_at_the_end_are_missed(make, kind):
    decoder = decode(blank(make(kind), 0.6, 1.0)).decoder
    assert decoder.truncated
    assert decoder.expected == pytest.approx(SECONDS, abs=0.05)


def test_zeros_at_the_beginning_of_the_pictures_are_missed(make):
    path = make("mp4, index first")
    clear(path, places(path)[:30])
    decoder = decode(path).decoder
    assert decoder.truncated and decoder.errors
    assert decoder.seconds < 2.2
    assert decoder.expected == pytest.approx(SECONDS, abs=0.05)


def test_packets_at_the_end_that_give_no_frames_are_missed_without_any_header(make):
    path = make("mp4, fragments")
    clear(path, places(path)[-24:])
    decoder = decode(path).decoder
    assert decoder.errors
    assert decoder.truncated and decoder.expected == pytest.approx(SECONDS, abs=0.05)
