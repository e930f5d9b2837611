"""The ablation as a picture."""

from pathlib import Path

import numpy as np

from preprocess.common.figures import as_drawn, figure_file
from tasks.ablation.findings import Ablation, Difference

COLOURS = {"trained": "#2b6cb0", "joint": "#90cdf4", "mean": "#c0c0c0", "weighted": "#909090", "stacked": "#606060"}


def plot_ablation(result: Ablation, methods: dict[str, str], path: Path) -> None:
    """Top-1 of each subset and method; below it, where there is fusion, how far it is ahead of each control."""
    names = sorted({name for found in result.top1.values() for name in found}, key=_order)
    rows = result.differences
    heights = [4.2, 0.9 + 0.3 * len(rows)] if rows else [4.2]
    size = max(8, 1.6 * len(names)), sum(heights)
    with figure_file(path, size=size, dpi=130, names=result.which) as figure:
        top, *below = np.atleast_1d(figure.subplots(len(heights), height_ratios=heights))
        _draw_top1(top, result, methods, names)
        for axes in below:
            _draw_differences(axes, rows)


def _draw_top1(axes, result: Ablation, methods: dict[str, str], names: list[str]) -> None:
    """A group of bars a subset, one bar a method, with the standard deviation over seeds and what is possible."""
    tops = result.top1
    shown = [method for method in methods if tops[method]]
    width = 0.8 / len(shown)
    for place, method in enumerate(shown):
        here = [row for row, name in enumerate(names) if name in tops[method]]
        values = [100 * np.array(tops[method][names[row]]) for row in here]
        centres = np.array(here) + (place - (len(shown) - 1) / 2) * width
        heights = [value.mean() for value in values]
        errors = [value.std(ddof=1) if len(value) > 1 else 0 for value in values]
        bars = {"yerr": errors, "capsize": 3} if any(errors) else {}
        axes.bar(centres, heights, width, color=COLOURS[method], label=methods[method], **bars)
        for centre, height, error in zip(centres, heights, errors, strict=True):
            axes.text(centre, height + error + 1, f"{height:.0f}", ha="center", fontsize=8)
    known = [row for row, name in enumerate(names) if name in result.ceilings]
    if known:
        rows, levels = np.array(known), [100 * result.ceilings[names[row]] for row in known]
        axes.hlines(levels, rows - 0.45, rows + 0.45, colors="#c53030", linestyles="--", label="best possible")
    axes.axhline(100 * result.chance, color="grey", lw=0.8, ls=":", label="chance")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="top-1, %", ylim=(0, 109), xlim=(-0.6, len(names) - 0.4))
    axes.set_title(f"{as_drawn(result.which)}; {result.seeds}", fontsize=9, wrap=True)
    axes.legend(loc="upper left", fontsize=8)


def _draw_differences(axes, rows: list[Difference]) -> None:
    """A line a control, from the lower to the upper end of its interval, and a dot for each seed."""
    for place, row in enumerate(rows):
        if row.low is not None:
            axes.hlines(place, 100 * row.low, 100 * row.high, colors=COLOURS["trained"])
        axes.plot(100 * np.array(row.points), [place] * len(row.points), ".", color=COLOURS["joint"])
        axes.plot(100 * row.mean, place, "o", color=COLOURS["trained"])
    axes.axvline(0, color="grey", lw=0.8, ls=":")
    axes.set_yticks(range(len(rows)), [f"{row.fused} less {row.control}" for row in rows], fontsize=8)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="points of top-1, 95 % interval; small dots are seeds")


def _order(name: str) -> tuple:
    """Sort key: single streams first, each in its streams' order."""
    from streams.registry import place_of

    streams = name.split("+")
    return len(streams), [place_of(stream) for stream in streams]
