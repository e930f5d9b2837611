"""Files that would lead elsewhere, wait for ever or show noise: none is followed, opened or believed.

Each that leads elsewhere lies beside a whole video. A control shows that FFmpeg, left to itself, would play that one.
"""

import gzip
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import cv2
import pytest

from preprocess.extraction.sources import VIDEO_SUFFIXES
from preprocess.video.limits import Unusable
from tests.support.cases import case
from tests.support.decoding import decode, open_decoder
from tests.support.videos import drift, flash, sound, tone, write_video

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nother.ts\n#EXT-X-ENDLIST\n"
LEADING = {  # name → what stands in it; "PATH" is the absolute path of the video beside it
    "concat.mp4": "ffconcat version 1.0\nfile other.mp4\n",
    "hls.m3u8": HLS,
    "hls.mp4": HLS,
    "hls.ts": HLS,
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    "<Representation><BaseURL>PATH</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "smil.rm": '<smil><body><video src="PATH"/></body></smil>',
    "ram.rm": "file://PATH\n",
    "asx.wmv": '<asx version="3.0"><entry><ref href="PATH"/></entry></asx>',
    "pls.avi": "[playlist]\nFile1=PATH\n",
    "list.txt": "#EXTM3U\nother.mp4\n",
}
FOLLOWED_BY_FFMPEG = ["concat.mp4", "hls.m3u8"]
OPEN_ALL = """
import sys
from tests.support.decoding import open_decoder
from preprocess.video.limits import Unusable
for path in sys.argv[1:]:
    try:
        list(open_decoder(path))
    except Unusable as error:
        print(error)
"""


@pytest.fixture
def beside(tmp_path) -> Path:
    """A folder with a whole video."""
    for name in ("other.mp4", "other.ts"):
        write_video(tmp_path / name, flash(10, 3))
    return tmp_path


def write_leading(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(LEADING[name].replace("PATH", str(folder / "other.mp4")))
    return path


def frames_of(path: Path, **settings) -> int:
    """How many frames FFmpeg finds, left to itself."""
    with av.open(str(path), **settings) as file:
        return sum(1 for _ in file.decode(video=0))


def refusal(path: Path | str) -> str:
    with pytest.raises(Unusable) as caught:
        list(open_decoder(path))
    return str(caught.value)


def test_a_text_that_names_another_file_is_not_media(beside):
    for name in LEADING:
        assert refusal(write_leading(beside, name)).startswith("not media: "), name


def test_control_ffmpeg_itself_would_have_followed(beside):
    assert [frames_of(write_leading(beside, name)) for name in FOLLOWED_BY_FFMPEG] == [10, 10]


def test_an_image_sequence_is_not_followed(tmp_path):
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"a{k}.jpg"), drift(1)[0])
    pattern = tmp_path / "a%d.jpg"
    pattern.write_bytes(b"x")
    assert frames_of(pattern) == 5  # as FFmpeg would
    assert refusal(pattern).startswith("not media: ")


def external_reference(path: Path, other: str) -> None:
    """Let a QuickTime file's track hold its pictures in a file beside it. The index must be at the end."""
    entry = struct.pack(">I4sI", 0, b"alis", 0) + bytes(10)  # size, kind, flags; record
    entry += struct.pack(">B27s12xB63s16xHH16x", 0, b"", 0, b"", 1, 1)  # no volume, no name; one level up and down
    name = f"/x/{other}".encode()
    entry += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I", len(entry)) + entry[4:]
    content = bytearray(path.read_bytes())
    own = content.index(b"dref") + 12  # after the name, the flags and the number of entries
    (size,) = struct.unpack_from(">I", content, own)
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = content.rindex(box, 0, own) - 4
        (old,) = struct.unpack_from(">I", content, place)
        struct.pack_into(">I", content, place, old + len(entry) - size)
    content[own : own + size] = entry
    begin = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)


def test_pictures_that_a_quicktime_file_has_in_another_file_are_not_read(tmp_path):
    path = write_video(tmp_path / "a.mov", flash(10, 3), codec="mjpeg")
    shutil.copy(path, tmp_path / "other.mov")
    external_reference(path, "other.mov")
    assert frames_of(path, options={"enable_drefs": "1"}) == 10  # as FFmpeg would if it were asked to
    assert refusal(path).startswith("corrupt: ")


def test_no_other_file_is_opened_as_the_system_sees_it(beside):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    paths = [write_leading(beside, name) for name in LEADING]
    paths.append(write_video(beside / "a.mov", flash(10, 3), codec="mjpeg"))
    shutil.copy(paths[-1], beside / "other.mov")
    external_reference(paths[-1], "other.mov")
    log = beside / "log"
    tracer = ["strace", "-f", "-e", "trace=open,openat,openat2,connect,socket", "-o", log]
    result = subprocess.run([*tracer, sys.executable, "-c", OPEN_ALL, *paths], capture_output=True, text=True)
    if "ptrace" in result.stderr.lower():
        pytest.skip("tracing is not permitted here")
    assert result.stdout.count("not media") == len(LEADING), result.stderr
    calls = log.read_text()
    assert all(path.name in calls for path in paths)
    assert "other." not in calls
    assert "AF_INET" not in calls


def test_an_image_and_an_archive_are_not_media(tmp_path):
    for kind in ("png", "jpg", "bmp", "tiff", "webp"):
        cv2.imwrite(str(tmp_path / f"a.{kind}"), drift(1)[0])
        assert refusal((tmp_path / f"a.{kind}").rename(tmp_path / "a.mp4")).startswith("not media: ")
    with zipfile.ZipFile(tmp_path / "zip.mp4", "w") as locations:
        locations.writestr("a.txt", "x" * 1000)
    (tmp_path / "gz.mp4").write_bytes(gzip.compress(b"x" * 1000))
    assert refusal(tmp_path / "zip.mp4").startswith("not media: ")
    assert refusal(tmp_path / "gz.mp4").startswith("not media: ")


CODECS = {  # of the suffixes that do not take MPEG-4
    ".apng": "apng",
    ".dv": "dvvideo",
    ".flv": "flv",
    ".gif": "gif",
    ".h261": "h261",
    ".y4m": "rawvideo",
    **dict.fromkeys((".3gp", ".h263"), "h263"),
    **dict.fromkeys((".264", ".avc", ".h264"), "libx264"),
    **dict.fromkeys((".265", ".h265", ".hevc"), "libx265"),
    **dict.fromkeys((".av1", ".obu"), "libsvtav1"),
    **dict.fromkeys((".gxf", ".m2v", ".mod", ".mpe", ".mpeg", ".mpg", ".mxf", ".vob", ".wtv"), "mpeg2video"),
    **dict.fromkeys((".m1v", ".mpv"), "mpeg1video"),
    **dict.fromkeys((".mj2", ".mjp2"), "jpeg2000"),
    **dict.fromkeys((".mjpeg", ".mjpg"), "mjpeg"),
    **dict.fromkeys((".ogm", ".ogv", ".ogx", ".ivf", ".webm"), "libvpx"),
    **dict.fromkeys((".rm", ".rmvb"), "rv10"),
    **dict.fromkeys((".asf", ".dvr-ms", ".wmv"), "wmv2"),
}
MUXERS = {  # of the suffixes that do not name their own
    **{".divx": "avi", ".dvr-ms": "asf", ".f4v": "mp4", ".k3g": "3gp", ".mk3d": "matroska", ".rmvb": "rm"},
    **dict.fromkeys((".av1", ".obu"), "obu"),
    **dict.fromkeys((".264", ".avc"), "h264"),
    **dict.fromkeys((".265", ".h265"), "hevc"),
    **dict.fromkeys((".m1v", ".mpv"), "mpeg1video"),
    **dict.fromkeys((".m2t", ".m2ts", ".mts", ".tod", ".tp", ".trp"), "mpegts"),
    **dict.fromkeys((".mj2", ".mjp2", ".qt"), "mov"),
    **dict.fromkeys((".mod", ".mpe"), "mpeg"),
    **dict.fromkeys((".ogm", ".ogx"), "ogg"),
}
SIZES = {".dv": (576, 720), ".gxf": (576, 720), ".h261": (144, 176)}  # height and width; these take no other
TIMELESS = {".gxf", ".h261", ".m1v", ".mpv"}  # the files do not say when their pictures are shown
UNWRITTEN = {".amv", ".nsv"}  # FFmpeg reads them, and writes none, or none without a sound of their own


def test_videos_of_all_suffixes_that_are_listed_are_taken(tmp_path):
    for suffix in VIDEO_SUFFIXES - UNWRITTEN:
        pictures = drift(12, size=SIZES.get(suffix, (96, 128)))
        pixels = {".gif": "rgb8", ".apng": "rgb24"}.get(suffix)
        how = {"codec": CODECS.get(suffix, "mpeg4"), "pixels": pixels, "container": MUXERS.get(suffix)}
        count = len(decode(write_video(tmp_path / f"a{suffix}", pictures, **how)).frames)
        assert abs(count - 12) <= (2 if suffix in TIMELESS else 0), suffix
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_pipe_a_folder_and_a_device_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    for name in ("pipe.mp4", "folder.mp4", "device.mp4", "link.mp4"):
        assert refusal(tmp_path / name).startswith("unreadable: ")


def test_what_cannot_be_read_says_so(tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("gone.mp4", "loop.mp4", "x" * 300 + ".mp4", "nul\0.mp4"):
        assert refusal(str(tmp_path / name)).startswith("unreadable: ")


def test_a_name_that_looks_like_a_protocol_or_pattern_is_a_name(tmp_path, monkeypatch):
    for name in ("concat:x.mp4", "subfile,,start,0,end,9,,:x.mp4", "http:/x.mp4", "-i.mp4", "a%d.gif"):
        with case(name):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            pixels, codec = ("rgb8", "gif") if name.endswith(".gif") else (None, "libx264")
            made = write_video(tmp_path / f"plain{Path(name).suffix}", flash(5, 2), codec=codec, pixels=pixels)
            made.rename(tmp_path / name)
            monkeypatch.chdir(tmp_path)
            assert len(decode(name).frames) == len(decode(tmp_path / name).frames) == 5


KEY = {"encryption_key": "00112233445566778899aabbccddeeff", "encryption_kid": "0123456789abcdef0123456789abcdef"}


def test_encrypted_pictures_are_refused_and_not_decoded_to_noise(tmp_path):
    muxing = {"encryption_scheme": "cenc-aes-ctr", **KEY}
    for name in ("a.mp4", "a.mov"):
        path = write_video(tmp_path / name, drift(10), track=sound(tone(0.4), codec="aac"), muxing=muxing)
        assert refusal(path).startswith("encrypted: ")


def test_encrypted_sound_is_absent_and_the_pictures_stay(tmp_path):
    """Pictures of raw bytes: also when their own encryption is no longer told, each is some picture."""
    muxing = {"encryption_scheme": "cenc-aes-ctr", **KEY}
    track = sound(tone(0.4), codec="aac")
    path = write_video(tmp_path / "a.mov", drift(10), codec="rawvideo", pixels="rgb24", track=track, muxing=muxing)
    content = path.read_bytes()
    for sign, plain in ((b"encv", b"raw "), (b"sinf", b"free"), (b"senc", b"free")):  # the pictures' come first
        assert sign in content
        content = content.replace(sign, plain, 1)
    path.write_bytes(content)
    decoded = decode(path)
    assert len(decoded.frames) == 10
    assert decoded.decoder.audio_absent == "encrypted"


@pytest.mark.parametrize(("kind", "why"), [(b"drmi", "encrypted"), (b"abcd", "no video")])  # FairPlay; nobody's
def test_a_codec_that_nobody_knows_is_said(tmp_path, kind, why):
    path = write_video(tmp_path / "a.mp4", drift(10))
    path.write_bytes(path.read_bytes().replace(b"avc1", kind))
    assert refusal(path).startswith(f"{why}: ")


def element(name: str, data: bytes) -> bytes:
    """An EBML element with a length of eight bytes."""
    return bytes.fromhex(name) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def test_an_encrypted_matroska_track_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(10), codec="mjpeg")
    content = path.read_bytes()
    encryption = element("5035", element("47E1", b"\x05") + element("47E2", bytes(range(16))))
    coding = element("6D80", element("6240", element("5033", b"\x01") + encryption))  # type 1: encryption
    tracks = content.rindex(bytes.fromhex("1654AE6B"))  # the first is where the list of contents names it
    old, at = length(content, tracks + 4)
    entry = at + 6 if content[at] == 0xBF else at  # behind a checksum
    assert content[entry] == 0xAE
    size, begin = length(content, entry + 1)
    new = element("1654AE6B", element("AE", content[begin : begin + size] + coding))
    path.write_bytes(content[:tracks] + new + content[at + old :])
    assert refusal(path).startswith("encrypted: ")


def length(content: bytes, at: int) -> tuple[int, int]:
    """The length that stands at a place of EBML, and where what it is the length of begins."""
    count = 9 - content[at].bit_length()
    return int.from_bytes(content[at : at + count], "big") & ~(1 << 7 * count), at + count
