"""Opening a camera or an address on the network: what it sends is taken, and no file of this machine is."""

import os
import re

import av

from preprocess.video.container import AV_ERRORS, codec_pixels
from preprocess.video.limits import Unusable

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Addresses that FFmpeg may be given, and those that they may lead to: never file, so that a list of addresses from the
# network cannot name a file of this machine; nor concat, subfile, data and the like, which are made to join and nest
SENT = ("rtsp", "rtsps", "rtp", "srtp", "rtmp", "rtmps", "rtmpt", "udp", "tcp", "srt", "http", "https")
UNDERNEATH = ("tls", "crypto", "httpproxy")
FORMATS = (
    *("rtsp", "rtp", "sdp", "hls", "mpegts", "flv", "live_flv", "mov", "matroska", "mpjpeg", "mjpeg", "nut", "ogg"),
    *("h264", "hevc", "av1", "obu", "mpeg", "mpegvideo", "m4v", "mp3", "aac", "ac3", "eac3", "wav", "webvtt"),
)
OPTIONS = {
    "format_whitelist": ",".join(FORMATS),
    "protocol_whitelist": ",".join((*SENT, *UNDERNEATH)),
    "rtsp_flags": "prefer_tcp",  # a lost packet of UDP costs pictures up to the next key frame
    "analyzeduration": "2000000",  # µs: FFmpeg reads so much at most before the first picture
}


def is_address(source: str) -> bool:
    """True for rtsp://…, http://… and the like."""
    return ADDRESS.match(source) is not None


def open_address(address: str, *, max_pixels: int, patience: float) -> av.container.InputContainer:
    """Open an address; waiting for it, or for more from it, ends after `patience` seconds.

    Raises Unusable.
    """
    scheme = address.partition(":")[0].lower()
    if scheme not in SENT:
        raise Unusable(f"addresses of the kind {scheme}:// are not opened: known are {', '.join(SENT)}")
    return _open(address, options=OPTIONS | {"max_pixels": str(codec_pixels(max_pixels))}, patience=patience)


def open_camera(number: str, *, max_pixels: int, patience: float) -> av.container.InputContainer:
    """Open camera `number` of this machine (Video4Linux).

    Raises Unusable.
    """
    device = f"/dev/video{int(number)}"
    if not os.path.exists(device):
        raise Unusable(f"there is no {device}")
    return _open(device, form="v4l2", options={"max_pixels": str(codec_pixels(max_pixels))}, patience=patience)


def _open(
    name: str, *, options: dict[str, str], patience: float, form: str | None = None
) -> av.container.InputContainer:
    try:
        return av.open(name, format=form, options=options, timeout=patience, metadata_errors="replace")
    except MemoryError:
        raise
    except av.error.ExitError as error:  # FFmpeg's word for a wait that was ended
        raise Unusable(f"nothing came within {patience:g} s") from error
    except (OSError, *AV_ERRORS) as error:
        raise Unusable(getattr(error, "strerror", None) or str(error)) from error
