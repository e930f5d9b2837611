"""A picture of an explanation: every stream with heat, and what counted when, on one time axis."""

from pathlib import Path

import numpy as np

from preprocess.common.figures import as_drawn, figure_file
from tasks.explain.drawing import Drawn, draw_stream, nearest, on_the_clock
from tasks.explain.explain import Explanation

COLUMNS = 8  # pictures of a stream
WIDTH = 13.0  # inches
CURVE = 1.5  # inches, a row of curves
LONGEST = 60  # letters of a name


def draw(found: Explanation, path: Path) -> None:
    """Write the picture.

    Raises UserError for a suffix that stands for no format.
    """
    streams = {name: draw_stream(found, name) for name in found.shares}
    heights = [WIDTH / COLUMNS if one.plain.ndim == 4 else 2.0 for one in streams.values()]
    curves = {
        "share of each clip, points": None,
        "lost without it, points": found.occlusion,
        "sum of the map, nepers": found.relevance,
    }
    size = (WIDTH, sum(heights) + CURVE * len(curves) + 1.0)
    with figure_file(path, size=size, dpi=100, names=found.video + found.label) as figure:
        figure.suptitle(_title(found))
        rows = [*heights, *[CURVE] * len(curves)]
        axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows)
        for place, (name, one) in zip(axes, streams.items(), strict=False):
            (_strip if one.plain.ndim == 4 else _bands)(place, one, found.seconds)
            place.set(title=f"{name}: red speaks for {as_drawn(found.label, longest=LONGEST)}, blue against it")
        for number, (label, values) in enumerate(curves.items()):
            place = axes[len(streams) + number]
            for at, name in enumerate(found.shares):
                if values is None:
                    middles = np.mean(found.times, axis=1)
                    place.plot(middles, 100 * np.array(found.shares_over_time[name]), "o-", color=f"C{at}", label=name)
                else:
                    scale = 100 if values is found.occlusion else 1
                    place.stairs(scale * np.array(values[name]), found.edges, color=f"C{at}", label=name, linewidth=1.5)
            place.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            place.set(ylabel=label.replace(", ", ",\n"))
        axes[len(streams)].legend(ncols=len(streams), fontsize="small")
        axes[-1].set(xlabel="seconds", xlim=(0, found.seconds))


def _title(found: Explanation) -> str:
    parts = " + ".join(f"{name} {100 * share:.1f}" for name, share in found.shares.items())
    name, label = as_drawn(found.video, longest=LONGEST), as_drawn(found.label, longest=LONGEST)
    chance = f"{100 * found.chance:.1f} of chance"
    return f"{name}\n{label} {100 * found.probability:.1f} % = {chance} + {parts} (Shapley values)"


def _strip(axes, drawn: Drawn, seconds: float) -> None:
    """Pictures side by side, each over the interval of time that it stands for; none where no clip is."""
    step = seconds / COLUMNS
    for column in range(COLUMNS):
        middle = (column + 0.5) * step
        at = nearest(drawn, middle, reach=max(step / 2, drawn.step))
        if at is not None:
            extent = (middle - 0.48 * step, middle + 0.48 * step, 0, 1)
            axes.imshow(drawn.heat[at].clip(0, 1), extent=extent, aspect="auto")
    axes.set(ylim=(0, 1), yticks=[], facecolor="0.6")


def _bands(axes, drawn: Drawn, seconds: float) -> None:
    _, heat = on_the_clock(drawn, seconds)
    axes.imshow(heat.clip(0, 1), extent=(0, seconds, 0, heat.shape[0]), aspect="auto")
    axes.set(ylabel="mel band")
