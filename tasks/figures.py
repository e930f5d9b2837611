"""The ablation as a picture."""

from pathlib import Path

import numpy as np

from preprocess.durable import write_aside

COLOURS = {"trained": "#2b6cb0", "joint": "#90cdf4", "mean": "#c0c0c0"}


def plot_ablation(result: dict, methods: dict[str, str], path: Path) -> None:
    """A group of bars a subset, one bar a method, with the standard deviation over seeds and what is possible."""
    from matplotlib.figure import Figure

    tops = result["top1"]
    names = sorted({name for values in tops.values() for name in values}, key=lambda n: (n.count("+"), _order(n)))
    figure = Figure(figsize=(max(8, 1.4 * len(names)), 4.2), layout="constrained")
    axes = figure.subplots()
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
    known = [row for row, name in enumerate(names) if name in result["ceilings"]]
    if known:
        rows, levels = np.array(known), [100 * result["ceilings"][names[row]] for row in known]
        axes.hlines(levels, rows - 0.45, rows + 0.45, colors="#c53030", linestyles="--", label="best possible")
    axes.axhline(100 * result["chance"], color="grey", lw=0.8, ls=":", label="chance")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="top-1, %", ylim=(0, 109), xlim=(-0.6, len(names) - 0.4))
    axes.set_title(f"{result['which']}; {result['seeds']}", fontsize=9, wrap=True)
    axes.legend(loc="upper left", fontsize=8)
    write_aside(path, lambda part: figure.savefig(part, dpi=130, format="png"))


def _order(name: str) -> tuple[int, ...]:
    from streams import STREAMS

    return tuple(list(STREAMS).index(stream) for stream in name.split("+"))
