"""A page of an explanation: the video, its streams with heat at the cursor, and what counted when."""

from pathlib import Path

import numpy as np

from preprocess.common.files import write_aside
from preprocess.store.codec import encode_rgb
from tasks.explain.drawing import Drawn, draw_stream, on_the_clock
from tasks.explain.explain import Explanation, as_object
from tasks.page.page import EMBEDDED, address, page_html
from tasks.page.stills import STILLS, picture_url, sheet

DETAIL = 3  # pixels of a page's picture for one of the log-mel
CLASSES = 8  # that are listed


def write_page(path: Path, found: Explanation, *, file: Path | None = None, embed_below: float = EMBEDDED) -> None:
    """Write the page.

    Args:
        file: the video file, to be played; embedded if it is small, else linked by its path from the page.
        embed_below: bytes from which a file is linked.
    """
    data = as_object(found) | {
        "classes": list(found.classes.items())[:CLASSES],
        "streams": {name: _stream_data(draw_stream(found, name), found.seconds) for name in found.shares},
        "source": file and address(file, path, embed_below),
    }
    text = page_html(data, title=f"{found.label}: {Path(found.video).name}", room="tasks.explain")
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"))


def _stream_data(drawn: Drawn, seconds: float) -> dict:
    if drawn.plain.ndim == 3:  # bands: one picture of all of the video
        plain, heat = (_jpeg(image) for image in on_the_clock(drawn, seconds))
        return {"times": None, "plain": plain, "heat": heat}
    shown = slice(None, None, -(-len(drawn.seconds) // STILLS))
    plain, heat = (sheet([_bytes(picture) for picture in steps[shown]]).data() for steps in (drawn.plain, drawn.heat))
    return {"times": drawn.seconds[shown].round(3).tolist(), "plain": plain, "heat": heat}


def _jpeg(image: np.ndarray) -> str:
    return picture_url(encode_rgb(np.ascontiguousarray(_bytes(image).repeat(DETAIL, axis=0))))


def _bytes(picture: np.ndarray) -> np.ndarray:
    """0…1 → uint8"""
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)
