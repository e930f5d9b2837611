"""Pictures of a stored video for a page: frames, flow and log-mel, each all in one JPEG."""

import base64
from dataclasses import dataclass

import numpy as np

from preprocess.show import FULL_COLOUR, flow_to_rgb
from preprocess.store import Store
from preprocess.store.codec import dequantise_flow, encode_rgb
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import Video
from preprocess.store.kinds import KINDS

STILLS = 180  # of each kind
EVERY = 0.5  # seconds from one to the next, at least
WIDTH = 160  # pixels of one
MEL_WIDTH = 6000  # pixels of the spectrogram at most
LOUD = 2.0  # natural log of mel power that is drawn brightest


@dataclass(frozen=True)
class Sheet:
    """Stills side by side and one below the other."""

    url: str  # a data: address of a JPEG
    columns: int
    width: int  # of one still
    height: int

    def data(self) -> dict:
        return vars(self)


def still_times(video: Video) -> np.ndarray:
    """(S,) the seconds of the stills, in the middles of equal parts of the video."""
    count = max(1, min(STILLS, int(video.seconds / EVERY)))
    return (np.arange(count) + 0.5) * video.seconds / count


def frame_sheet(store: Store, video: Video, times: np.ndarray) -> Sheet:
    """Frames at these times."""
    return sheet([store.frames(video, "rgb", [_step(video, "rgb", time, store.fps)])[0] for time in times])


def flow_sheet(store: Store, video: Video, times: np.ndarray) -> Sheet | None:
    """Flow at these times: the hue is the direction, full colour the speed FULL_COLOUR; None without flow."""
    if not video.streams["flow"]:
        return None

    def drawn(time: float) -> np.ndarray:
        code = store.frames(video, "flow", [_step(video, "flow", time, store.fps)])[0]
        colours = flow_to_rgb(np.moveaxis(dequantise_flow(code), 0, -1), full=FULL_COLOUR)
        return (255 * colours).round().astype(np.uint8)

    return sheet([drawn(time) for time in times])


def mel_strip(store: Store, video: Video) -> str | None:
    """The log-mel spectrogram of the whole video, low bands below, as a data: address; None without sound."""
    if not video.streams["audio"]:
        return None
    from matplotlib import colormaps

    total = round(video.seconds * MEL_RATE)
    step = max(1, -(-total // MEL_WIDTH))
    columns = [
        store.mel(video, begin, min(total, begin + step)).astype(np.float32).mean(axis=0)
        for begin in range(0, total, step)
    ]
    scaled = (np.stack(columns, axis=1)[::-1] - SILENCE) / (LOUD - SILENCE)
    return picture_url(encode_rgb((255 * colormaps["magma"](scaled.clip(0, 1))[..., :3]).round().astype(np.uint8)))


def _step(video: Video, stream: str, time: float, fps: float) -> int:
    return min(int(time * fps), KINDS[stream].number(video.frames) - 1)


def sheet(pictures: list[np.ndarray]) -> Sheet:
    """Pictures, (H, W, 3) uint8 of one shape, small and in rows."""
    import cv2

    height = max(1, round(WIDTH * pictures[0].shape[0] / pictures[0].shape[1]))
    small = [cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    columns = int(np.ceil(np.sqrt(len(small))))
    small += [np.zeros_like(small[0])] * (-len(small) % columns)
    rows = [np.concatenate(small[begin : begin + columns], axis=1) for begin in range(0, len(small), columns)]
    return Sheet(picture_url(encode_rgb(np.ascontiguousarray(np.concatenate(rows)))), columns, WIDTH, height)


def picture_url(jpeg: np.ndarray) -> str:
    """The bytes of a JPEG as a data: address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
