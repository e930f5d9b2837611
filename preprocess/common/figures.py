"""Figures as files. Names in them are drawn letter by letter, in any script for which the machine has a font."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.common.errors import UserError, one_line
from preprocess.common.files import write_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}  # suffix → as Matplotlib calls it
FAMILY = "DejaVu Sans"  # comes with Matplotlib


def format_of(path: Path) -> str:
    """The format that a figure's suffix stands for. Raises UserError for another suffix."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UserError(f"{path} names no picture that can be written: end it with {', '.join(FORMATS)}") from None


@contextmanager
def figure_file(path: Path, *, size: tuple[float, float], dpi: int, names: str = "") -> Iterator["Figure"]:
    """A figure to draw on; it is written to `path` at the end, and its folder made, unless there was an error.

    size: width and height in inches. names: text that may hold any letters, for which fonts are looked up.

    Raises UserError for a suffix that stands for no format.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    form = format_of(path)
    # a dollar begins no formula; texts take these settings when they are made, ticks while they are drawn
    settings = {"text.parse_math": False, "text.usetex": False, "font.family": families(names)}
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # no font has this letter: an empty box stands for it
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, lambda part: figure.savefig(part, dpi=dpi, format=form))


def as_drawn(text: str, *, longest: int | None = None) -> str:
    """A name as one line that can be drawn: it may hold line breaks, or bytes that are not UTF-8, or be too long."""
    text = one_line(text.encode("utf-8", "backslashreplace").decode())
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def families(text: str) -> list[str]:
    """The usual font, and of those installed as many others as it takes for the letters that it lacks."""
    from matplotlib import font_manager

    def lacking(family: str, letters: set[int]) -> set[int]:
        try:
            font = font_manager.get_font(font_manager.findfont(family, fallback_to_default=False))
            return letters - font.get_charmap().keys()
        except (OSError, RuntimeError, ValueError):  # not there any more, or of a kind that cannot be drawn
            return letters

    found, letters = [FAMILY], {ord(letter) for letter in text if letter.isprintable()}
    left = lacking(FAMILY, letters)
    for family in _installed() if left else ():
        if len(rest := lacking(family, left)) < len(left):
            found.append(family)
            left = rest
        if not left:
            break
    return found


def _installed() -> list[str]:
    """Installed families, sans-serif ones first; not those of Matplotlib, which are for formulas or hold only boxes.

    Only those of a regular weight: findfont has words for the terminal about any other.
    """
    import matplotlib
    from matplotlib import font_manager

    own = matplotlib.get_data_path()
    names = {
        font.name
        for font in font_manager.fontManager.ttflist
        if not str(font.fname).startswith(own) and font.style == "normal" and font.weight == 400
    }
    boxes = {name for name in names if "lastresort" in name.lower().replace(" ", "")}
    return sorted(names - boxes, key=lambda name: ("Sans" not in name, name))
