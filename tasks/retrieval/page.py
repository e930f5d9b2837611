"""A page of stills: what was found for each query, the likest first. One self-contained HTML file."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from preprocess.common.files import write_aside
from tasks.retrieval.index import Index
from tasks.retrieval.ranking import Match

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>What was found</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1rem 1.25rem; }}
h2 {{ font-size: 1rem; margin: 1.4rem 0 .5rem; overflow-wrap: anywhere; }}
ol {{ list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .6rem; }}
li {{ width: 8.2rem; font-size: .8rem; overflow-wrap: anywhere; }}
img, .none {{ width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: #000; display: block; }}
b {{ font-variant-numeric: tabular-nums; }}
</style></head><body><h1>What was found</h1>
{sections}
</body></html>
"""


def write_found(path: Path, index: Index, found: Sequence[tuple[str, Sequence[Match]]]) -> None:
    """Write the page: a row of stills for each query's name."""
    sections = "\n".join(_section(index, name, matches) for name, matches in found)
    text = PAGE.format(sections=sections)
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"))


def _section(index: Index, name: str, matches: Sequence[Match]) -> str:
    cards = "".join(_card(index, match) for match in matches)
    return f"<section><h2>{_text(name)}</h2><ol>{cards}</ol></section>"


def _card(index: Index, match: Match) -> str:
    still = index.still(match.row)
    address = "data:image/jpeg;base64," + base64.b64encode(still).decode()
    picture = f'<img src="{address}" alt="">' if still else '<div class="none"></div>'
    when = f"{match.time[0]:.1f}–{match.time[1]:.1f} s"
    return f"<li>{picture}<b>{match.score:.3f}</b> {_text(match.video.path)}<br>{when}</li>"


def _text(name: str) -> str:
    return escape(name.encode("utf-8", "replace").decode())
