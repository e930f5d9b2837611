"""Files of kinds that are rare, made here: raw streams, mirrors, HDR by HLG, clean apertures, scrambled broadcasts."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from preprocess.video.limits import Unusable
from tests.support.decoding import decode, open_decoder
from tests.support.videos import drift, write_video

MATRICES = {  # [a b; c d] → the same turn by NumPy
    (1, 0, 0, 1): lambda raw: raw,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda raw: np.rot90(raw, 2),
    (0, 1, -1, 0): lambda raw: np.rot90(raw, 3),  # clockwise, as phones write it
    (0, -1, 1, 0): lambda raw: np.rot90(raw, 1),
    (0, 1, 1, 0): lambda raw: raw.swapaxes(0, 1),
    (0, -1, -1, 0): lambda raw: np.rot90(raw, 2).swapaxes(0, 1),
    (0, 0, 0, 0): lambda raw: raw,
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_picture_is_turned_and_mirrored_as_its_matrix_says(tmp_path, matrix):
    path = write_video(tmp_path / "a.mp4", drift(5, size=(48, 64)))
    upright = decode(path, short_side=48).frames
    data = path.read_bytes()
    place = data.index(struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    a, b, c, d = (65536 * number for number in matrix)
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])
    expected = np.stack([MATRICES[matrix](frame) for frame in upright])
    np.testing.assert_array_equal(decode(path, short_side=48).frames, expected)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.h264", "libx264"), ("a.m2v", "mpeg2video"), ("a.hevc", "libx265"), ("a.m4v", "mpeg4")],
)
def test_a_raw_stream_runs_at_the_rate_in_its_headers(tmp_path, name, codec):
    path = tmp_path / name
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(str(path), "w", format="m4v" if name.endswith("m4v") else None) as file:
        stream = file.add_stream(codec, rate=50, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number, picture in enumerate(drift(50, size=(96, 128))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 50)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert decode(path).decoder.seconds == pytest.approx(1.0, abs=0.041)


def test_hlg_greys_are_those_of_an_sdr_screen_whose_white_is_203_nits(tmp_path):
    """BT.2100: signal → scene light → 1,000 nits display; then BT.1886."""
    signal = np.array([0.2, 0.4, 0.5, 0.6, 0.7, 0.75])
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    nits = 1000 * scene**1.2
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 192, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = 18, 9, 9, 1
        planes = np.full((96, 192), 512, np.uint16)
        planes[:64] = np.repeat(np.round(64 + 876 * signal), 32)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
        frame.pts = 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    greys = decode(path, short_side=64).frames[0][:, 16::32].mean(axis=(0, 2))
    np.testing.assert_allclose(greys, 255 * np.minimum(nits / 203, 1) ** (1 / 2.4), atol=6)


def interlaced(path: Path) -> Path:
    """A bar that moves 4 px a field, with a still texture beneath it, as MPEG-2 with interlaced frames."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "q:v": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 192, 128, "yuv420p", 4_000_000
        for number in range(12):
            picture = np.full((128, 192, 3), 40, np.uint8)
            for field in (0, 1):
                left = 8 + 4 * (2 * number + field)
                picture[field::2, left : left + 24] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def test_only_frames_that_say_so_are_deinterlaced(tmp_path):
    path = interlaced(tmp_path / "a.mpg")
    with av.open(str(path)) as file:
        assert all(frame.interlaced_frame for frame in file.decode(video=0))
    decoded = decode(path, short_side=128)
    assert len(decoded.frames) == 12
    rows = decoded.frames.mean(axis=3)[2:-2, 8:-8]
    assert np.ptp((rows > 128).argmax(axis=2), axis=1).max() <= 1
    assert decoded.decoder.notes
    comb = write_video(tmp_path / "b.mkv", drift(5, size=(48, 64)), codec="ffv1")
    assert not decode(comb).decoder.notes


def test_only_the_clean_aperture_is_kept_in_its_place(tmp_path):
    """96×64 of 128×96, 4 px to the left and 6 px below the middle."""
    path = write_video(tmp_path / "a.mp4", drift(3, size=(96, 128)))
    whole = decode(path, short_side=96).frames
    data = path.read_bytes()
    clap = struct.pack(">I4s8i", 40, b"clap", 96, 1, 64, 1, -4, 1, 6, 1)
    end = data.index(b"avcC") - 4
    end += struct.unpack(">I", data[end : end + 4])[0]
    grown = bytearray(data[:end] + clap + data[end:])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(kind, data.index(b"moov")) - 4
        grown[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + len(clap))
    assert data.index(b"mdat") < data.index(b"moov")  # else the samples' places would move
    path.write_bytes(grown)
    found = decode(path, short_side=64).frames
    assert found.shape[1:3] == (64, 96)
    assert np.abs(found.astype(int) - whole[:, 22:86, 12:108]).max() <= 3


def test_empty_chunks_at_the_end_of_an_avi_mean_that_the_picture_stays(tmp_path):
    """As screen recorders write them: in the index and counted, but without a byte."""
    path = write_video(tmp_path / "a.avi", drift(25, size=(48, 64)), codec="mpeg4")
    data, count = bytearray(path.read_bytes()), 25
    movi, index = data.index(b"movi"), data.index(b"idx1")
    end = movi + struct.unpack_from("<I", data, movi - 4)[0]
    length = struct.unpack_from("<I", data, index + 4)[0]
    for place, more in (
        (movi - 4, 8 * count),
        (index + 4, 16 * count),
        (data.index(b"avih") + 24, count),
        (data.index(b"strh") + 40, count),
    ):
        struct.pack_into("<I", data, place, struct.unpack_from("<I", data, place)[0] + more)
    entries = b"".join(struct.pack("<4sIII", b"00dc", 0, end - movi + 8 * k, 0) for k in range(count))
    behind = index + 8 + length
    data = data[:end] + count * struct.pack("<4sI", b"00dc", 0) + data[end:behind] + entries + data[behind:]
    struct.pack_into("<I", data, 4, len(data) - 8)
    path.write_bytes(data)
    decoder = decode(path).decoder
    assert decoder.seconds == 2.0
    assert not decoder.truncated and not decoder.errors


def test_a_sound_track_of_another_programme_is_no_ones(tmp_path, shared_data):
    """The second programme of a broadcast, with its sound alone, beside a first one without."""
    path = shared_data("faults/two_programs.ts")
    data = path.read_bytes()
    with av.open(str(path)) as file:
        chosen = file.streams.best("video")
        sounds = [s.id for s in file.streams.audio if file.streams.best("audio", related=chosen) is s]
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    kept = [p for p in packets if (p[1] & 0x1F) << 8 | p[2] not in sounds]
    (tmp_path / "a.ts").write_bytes(b"".join(kept))
    decoder = decode(tmp_path / "a.ts").decoder
    assert decoder.audio_absent is not None


@pytest.mark.parametrize("box", [b"encv", b"drmi"])
def test_a_protected_sample_entry_is_called_encrypted(tmp_path, box):
    path = write_video(tmp_path / "a.mp4", drift(5, size=(48, 64)))
    path.write_bytes(path.read_bytes().replace(b"avc1\0\0\0\0\0\0", box + b"\0\0\0\0\0\0"))
    with pytest.raises(Unusable, match=r"^encrypted: "):
        list(open_decoder(path))


def test_a_scrambled_broadcast_is_called_encrypted(tmp_path, shared_data):
    """As a pay channel is recorded: the tables are plain, the payload of the pictures is not."""
    data = bytearray(shared_data("faults/restart.ts").read_bytes()[: 188 * 400])
    with av.open(str(shared_data("faults/restart.ts"))) as file:
        pid = file.streams.video[0].id
    key = np.random.default_rng(0).integers(0, 256, 184, np.uint8).tobytes()
    for k in range(0, len(data), 188):
        if (data[k + 1] & 0x1F) << 8 | data[k + 2] == pid and data[k + 1] & 0x40 == 0:
            data[k + 3] |= 0x80
            begin = k + 4 + (data[k + 4] + 1 if data[k + 3] & 0x20 else 0)
            data[begin : k + 188] = bytes(a ^ b for a, b in zip(data[begin : k + 188], key, strict=False))
        elif (data[k + 1] & 0x1F) << 8 | data[k + 2] == pid:
            data[k + 3] |= 0x80
            data[k + 60 : k + 188] = key[:128]
    (tmp_path / "a.ts").write_bytes(data)
    with pytest.raises(Unusable, match=r"^encrypted: "):
        list(open_decoder(tmp_path / "a.ts"))


def test_a_format_that_is_not_opened_is_named(tmp_path):
    """Magic Lantern's videos continue in other files."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"MLVI" + struct.pack("<I", 52) + b"v2.0\0" + bytes(2000))
    with pytest.raises(Unusable, match=r"^not media: .*mlv"):
        list(open_decoder(path))
