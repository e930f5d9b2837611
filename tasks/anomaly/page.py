"""A page of what was watched: each video's score over time, and a still of each alarm with where it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from preprocess.common.files import write_aside
from preprocess.store.codec import encode_rgb
from tasks.events.event import Event
from tasks.page.stills import picture_url

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>What was unusual</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1rem 1.25rem; }}
h2 {{ font-size: 1rem; margin: 1.4rem 0 .3rem; overflow-wrap: anywhere; }}
svg {{ width: 100%; height: 7rem; display: block; background: color-mix(in srgb, currentColor 5%, transparent); }}
polyline {{ fill: none; stroke: #2a7de1; stroke-width: 1.5; vector-effect: non-scaling-stroke; }}
line {{ stroke: currentColor; stroke-dasharray: 4 4; opacity: .6; vector-effect: non-scaling-stroke; }}
rect {{ fill: #d33; opacity: .2; }}
ol {{ list-style: none; padding: 0; margin: .6rem 0 0; display: flex; flex-wrap: wrap; gap: .6rem; }}
li {{ width: 15rem; font-size: .85rem; font-variant-numeric: tabular-nums; }}
img {{ width: 100%; display: block; }}
</style></head><body><h1>What was unusual</h1>
<p>The line is the score over time, dashed the threshold; red are the alarms. In the pictures red is where it was.</p>
{chapters}
</body></html>
"""
FULL = 4.6  # rarity that is drawn in full colour, the logarithm of 100
WIDTH, HEIGHT = 1000, 100  # of the curve, in its own units


@dataclass(frozen=True)
class Still:
    """The moment of an alarm."""

    time: float  # seconds
    jpeg: np.ndarray  # (N,) uint8


@dataclass(frozen=True)
class Chapter:
    """One video on the page."""

    name: str
    seconds: float
    times: np.ndarray  # (N,)
    scores: np.ndarray  # (N,)
    alarms: Sequence[Event]
    stills: Sequence[Still | None]  # of the first of them


def draw_still(picture: np.ndarray, heat: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) uint8 with (h, w) rarities as red, which is full for what is a hundred times rarer: a JPEG"""
    if heat is not None:
        height, width = picture.shape[:2]
        rows = np.arange(height) * heat.shape[0] // height
        columns = np.arange(width) * heat.shape[1] // width
        strength = np.clip((heat[rows][:, columns] - 1) / FULL, 0, 1)[..., None] * 0.6
        picture = (picture * (1 - strength) + np.array([255, 0, 0]) * strength).astype(np.uint8)
    return encode_rgb(np.ascontiguousarray(picture))


def write_page(path: Path, chapters: Sequence[Chapter], *, threshold: float) -> None:
    """Write the page, one self-contained HTML file."""
    text = PAGE.format(chapters="\n".join(_chapter(one, threshold) for one in chapters))
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"))


def _chapter(one: Chapter, threshold: float) -> str:
    top, seconds = max(2 * threshold, float(one.scores.max(initial=0))), max(one.seconds, 1e-6)
    points = " ".join(
        f"{WIDTH * time / seconds:.1f},{HEIGHT * (1 - score / top):.1f}"
        for time, score in zip(one.times, one.scores, strict=True)
    )
    bars = "".join(
        f'<rect x="{WIDTH * alarm.start / seconds:.1f}" y="0" width="{WIDTH * (alarm.end - alarm.start) / seconds:.1f}"'
        f' height="{HEIGHT}"/>'
        for alarm in one.alarms
    )
    level = HEIGHT * (1 - threshold / top)
    curve = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="score over time">{bars}'
        f'<line x1="0" x2="{WIDTH}" y1="{level:.1f}" y2="{level:.1f}"/><polyline points="{points}"/></svg>'
    )
    cards = "".join(_card(alarm, still) for alarm, still in zip(one.alarms, one.stills, strict=False))
    name = escape(one.name.encode("utf-8", "replace").decode())
    return f"<section><h2>{name}</h2>{curve}<ol>{cards or '<li>nothing unusual</li>'}</ol></section>"


def _card(alarm: Event, still: Still | None) -> str:
    picture = ""
    if still is not None:
        picture = f'<img src="{picture_url(still.jpeg)}" alt="the picture at {still.time:.2f} s">'
    return f"<li>{picture}{alarm.start:.2f}–{alarm.end:.2f} s, {escape(alarm.label)}, {alarm.score:.2f}</li>"
