"""Opening a file as a video: only regular files of real media formats, none that refer to other files."""

import os
import re
import stat

import av

from preprocess.video.limits import Unusable
from preprocess.video.mp4 import read_tracks

AV_ERRORS = (av.error.FFmpegError, ValueError)  # PyAV raises ValueError for impossible parameters

# FFmpeg detects a format by content, so it would follow a list of other files or addresses (HLS, concat, SDP, an image
# sequence) named .mp4. These formats contain their media; audio formats are among them so that a file with sound alone
# is reported as such
MEDIA_FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpegtsraw", "mpeg", "flv", "live_flv", "kux", "asf", "asf_o", "ogg", "gif"),
    *("apng", "mxf", "gxf", "rm", "ivr", "nut", "nuv", "nsv", "wtv", "pva", "ty", "dhav", "ivf", "obu", "dv", "lxf"),
    *("yuv4mpegpipe", "h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "mjpeg", "mjpeg_2000", "mpjpeg", "m4v"),
    *("mpegvideo", "ipu", "vc1", "vc1test", "cavsvideo", "avs2", "avs3", "dirac", "dnxhd", "cine", "r3d", "xmv", "swf"),
    *("mp3", "wav", "w64", "flac", "aac", "ac3", "eac3", "dts", "amr", "aiff", "au", "caf"),
    # of games and early computers
    *("4xm", "anm", "argo_brp", "avs", "bethsoftvid", "bfi", "bink", "bmv", "c93", "cdg", "cdxl", "dfa", "dsicin"),
    *("dxa", "ea", "film_cpk", "filmstrip", "flic", "gdv", "hnm", "idcin", "iff", "ifv", "ipmovie", "iv8", "jv"),
    *("lmlm4", "lvf", "mm", "mods", "moflex", "mtv", "mv", "mvi", "mxg", "nc", "paf", "pmp", "psxstr", "rl2", "roq"),
    *("rpl", "sdr2", "ser", "sga", "siff", "simbiosis_imx", "smjpeg", "smk", "smush", "thp", "tiertexseq", "tmv"),
    *("txd", "usm", "vividas", "vivo", "vmd", "wc3movie", "wsvqa", "yop"),
)
CLOSED = {"format_whitelist": ",".join(MEDIA_FORMATS), "protocol_whitelist": "file"}
JPEG = b"\xff\xd8\xff"
OTHER_FILES = {  # first bytes → kind of file
    b"#EXTM3U": "a playlist",
    b"ffconcat": "a playlist",
    b"[playlist]": "a playlist",
    b"v=0": "a session description",
    b"\x89PNG": "an image",
    JPEG: "an image",
    b"BM": "an image",
    b"II*\0": "an image",
    b"MM\0*": "an image",
    b"PK\x03\x04": "an archive",
    b"\x1f\x8b": "an archive",
    b"7z\xbc\xaf": "an archive",
    b"Rar!": "an archive",
    b"\xfd7zXZ": "an archive",
    b"%PDF": "a document",
    b"\x89HDF": "an HDF5 file",
}
ENCRYPTED = "encrypted: its pictures cannot be read without a key"
ALIGNMENT = 1 << 22  # pixels; FFmpeg rounds lines up to 64 pixels, and a frame may have 65,536 lines


def open_media(file: str, *, max_pixels: int) -> av.container.InputContainer:
    """Open `file`; no other file is opened, whatever its content.

    A frame of much more than `max_pixels` is not decoded while FFmpeg detects the streams; but in FLV and MPEG program
    streams, whose streams appear only then, the limit is FFmpeg's 268 million pixels.
    Raises Unusable; MemoryError if there is not enough memory.
    """
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe waits for a writer
            raise Unusable("unreadable: not a regular file")
        if not status.st_size:
            raise Unusable("corrupt: an empty file")
        with open(file, "rb") as stream:
            head = stream.read(1024)
    except FileNotFoundError as error:
        raise Unusable("unreadable: no such file") from error
    except PermissionError as error:
        raise Unusable("unreadable: no permission to read it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unusable(f"unreadable: {_message(error)}") from error
    options = CLOSED | {"max_pixels": str(codec_pixels(max_pixels))}
    # a stream of JPEGs begins like a single JPEG; only the name distinguishes them
    form = "mjpeg" if head.startswith(JPEG) and file.lower().endswith((".mjpeg", ".mjpg")) else None
    try:
        # FFmpeg takes the text before a colon for a protocol, but not after a slash
        return av.open(os.path.abspath(file), format=form, options=options, metadata_errors="replace")
    except MemoryError:  # also raised by FFmpeg, as one of AV_ERRORS
        raise
    except (OSError, *AV_ERRORS) as error:
        raise Unusable(_why_not_opened(file, head, error)) from error


def _why_not_opened(file: str, head: bytes, error: Exception) -> str:
    if other := _other_file(head):
        return f"not media: {other}"
    if any(track.is_protected for track in read_tracks(file) if track.kind == b"vide"):
        return ENCRYPTED
    if isinstance(error, av.error.ArgumentError) and (form := _refused_format(file)):
        return f"not media: a file of FFmpeg's format {form}, which is not among those that are opened"
    return f"corrupt: cannot be opened ({_message(error)})"


def _refused_format(file: str) -> str | None:
    """The format that FFmpeg found in a file, but may not open; its log alone tells."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            av.open(os.path.abspath(file), options=CLOSED).close()
    except (OSError, *AV_ERRORS):
        pass
    finally:
        av.logging.set_level(level)
    return next((name for _, name, text in messages if text.startswith("Format not on whitelist")), None)


def codec_pixels(max_pixels: int) -> int:
    """The limit to give FFmpeg for a decoder whose frames may have `max_pixels`."""
    return min(max_pixels + ALIGNMENT, 2**31 - 1)


def is_scrambled(file: str, pid: int) -> bool:
    """True if most packets of a stream in an MPEG transport stream are scrambled (ISO/IEC 13818-1, 2.4.3.3)."""
    with open(file, "rb") as stream:
        data = stream.read(1 << 21)
    found = []
    for size in (188, 192, 204):
        begin = next((k for k in range(size) if data[k::size][:20] == b"\x47" * 20), None)
        if begin is not None:
            heads = (data[k : k + 4] for k in range(begin, len(data) - 3, size))
            found = [head[3] >> 6 > 0 for head in heads if (head[1] & 0x1F) << 8 | head[2] == pid]
            break
    return 2 * sum(found) > len(found)


def _other_file(head: bytes) -> str | None:
    """The kind of a file that no demuxer takes, if its first bytes show it."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    for magic, what in OTHER_FILES.items():
        if head.startswith(magic):
            return what
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "an image"
    return None if re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head) else "a text"


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
