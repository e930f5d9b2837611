"""The tables of an ablation: on screen, and as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from preprocess.common.console import markdown_table
from preprocess.common.errors import one_line
from tasks.ablation.findings import METHODS, Ablation
from tasks.audit import audit_table, signed_points, warnings

COLUMNS = ("what", "streams", "method", "seeds", "mean", "std", "low", "high", "ceiling", "of_each_seed")
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
}
PLAIN = {chr(code) for code in (*range(32, 127), *range(0xC0, 0x100))} - set("ÐÞðþ×÷")


@dataclass(frozen=True)
class Table:
    """A table for people."""

    caption: str
    head: list[str]
    rows: list[list[str]]


def tables(result: Ablation) -> list[Table]:
    """Top-1, what missing streams cost, what each is worth, the differences, the audit: where there is what to say."""
    found = [_top1_table(result), _missing_table(result), _value_table(result), _difference_table(result)]
    audited = "The split: " + ("; ".join(warnings(result.audit)) or "nothing to warn of")
    return [table for table in found if table.rows] + [Table(f"{audited}.", *audit_table(result.audit))]


def markdown(shown: Sequence[Table]) -> str:
    """The tables as Markdown, each above its caption."""
    texts = []
    for table in shown:
        head, *rows = (_cells(line, _markdown_cell) for line in (table.head, *table.rows))
        texts.append(markdown_table(head, rows) + f"\n{one_line(table.caption)}\n")
    return "\n".join(texts)


def latex(shown: Sequence[Table]) -> str:
    r"""The tables as LaTeX: \usepackage{booktabs} and \input{table}."""
    blocks = [r"% \usepackage{booktabs} in the preamble, then \input this file"]
    for table in shown:
        lines = [_cells(line, escape) for line in (table.head, *table.rows)]
        head, *rows = (" & ".join(line) + r" \\" for line in lines)
        blocks += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(table.caption)}}}",
            rf"\begin{{tabular}}{{{''.join(map(_alignment, zip(*table.rows, strict=True)))}}}",
            *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Any text as LaTeX. A character that pdflatex cannot set in every font becomes a question mark."""
    return "".join(LATEX.get(sign) or (sign if sign in PLAIN else "?") for sign in one_line(text))


def csv_text(result: Ablation) -> str:
    """One line a number, between 0 and 1, with the values of the seeds that it is the mean of."""
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(COLUMNS)

    def add(what: str, streams: str, method: str, values: list[float], *, interval=("", ""), ceiling="") -> None:
        numbers = [len(values), *mean_and_deviation(values), *interval, ceiling, " ".join(map(str, values))]
        lines.writerow([what, streams, method, *("" if number is None else number for number in numbers)])

    for method, tops in result.top1.items():
        for name, values in tops.items():
            add("top1", name, method, values, ceiling=result.ceilings.get(name, ""))
    for row in result.missing:
        add("top1, missing from half", row.missing, "joint", row.half)
    for method, shares in result.shapley.items():
        for stream, values in shares.items():
            add("shapley", stream, method, values)
    for row in result.differences:
        add("difference", row.fused, row.control, row.points, interval=(row.low, row.high))
    add("prior", "", "", [result.audit.prior])
    for kind, found in result.audit.shortcuts.items():
        add("shortcut", "", kind, [found.top1])
    return text.getvalue()


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over the seeds; 0 for one seed."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


def _top1_table(result: Ablation) -> Table:
    tops, ceilings = result.top1, result.ceilings
    names = dict.fromkeys(name for method in METHODS for name in tops[method])
    names = sorted(names, key=lambda name: name.count("+"))  # single streams first, however few were chosen
    rows = [
        [name, *(_cell(tops[method].get(name)) for method in METHODS)]
        + ([f"{100 * ceilings[name]:.1f}" if name in ceilings else "–"] if ceilings else [])
        for name in names
    ]
    caption = f"Top-1 in % on {result.which}; {result.seeds}."
    if best := result.best_single:
        empty = [""] * (len(METHODS) - 1 + bool(ceilings))
        rows.append([f"best single: {best}", _cell(tops["trained"][best]), *empty])
        caption += f" The best single stream is chosen on {result.chosen_on}."
    if tops["weighted"]:
        caption += f" Weights and stacking are fitted on {result.fitted_on}."
    return Table(caption, ["streams", *METHODS.values(), *(["ceiling"] if ceilings else [])], rows)


def _missing_table(result: Ablation) -> Table:
    rows = [[row.missing, *map(_cell, (row.none, row.half, row.all, row.trained))] for row in result.missing]
    caption = (
        f"The model of all streams where one is missing from no video, from half of them or from all, and beside it "
        f"the model trained on the others alone; top-1 in %, {result.seeds}."
    )
    return Table(caption, ["missing", "from none", "from half", "from all", "trained without it"], rows)


def _value_table(result: Ablation) -> Table:
    methods = result.shapley
    streams = list(next(iter(methods.values()), {}))
    rows = [[stream, *(_cell(shares[stream]) for shares in methods.values())] for stream in streams]
    caption = (
        f"What each stream is worth: Shapley values of top-1, in points; {result.seeds}. They add up to the top-1 "
        f"of all streams less the {100 * result.empty:.1f} % of the most frequent training class."
    )
    return Table(caption, ["streams", *(METHODS[method] for method in methods)], rows)


def _difference_table(result: Ablation) -> Table:
    rows = []
    for row in result.differences:
        mean, deviation = mean_and_deviation(row.points)
        points = signed_points(mean) + (f" ± {100 * deviation:.1f}" if len(row.points) > 1 else "")
        interval = "–" if row.low is None else f"{signed_points(row.low)} to {signed_points(row.high)}"
        rows.append([row.fused, row.control, points, interval])
    caption = (
        f"Fused less each control, in points of top-1; {result.seeds}. The interval is for other videos: a paired "
        f"bootstrap by {result.bootstrap_by}, all seeds together."
    )
    return Table(caption, ["fused", "less", "points", "95 % interval"], rows)


def _cell(values: list[float] | None) -> str:
    if not values:
        return "–"
    mean, deviation = mean_and_deviation(values)
    text = f"{round(100 * mean, 1) + 0.0:.1f}".replace("-", "−")  # a Shapley value may be negative
    return text if len(values) == 1 else f"{text} ± {100 * deviation:.1f}"


def _alignment(column: Sequence[str]) -> str:
    """The alignment of a column: numbers to the right."""
    return "r" if all(cell == "" or cell[0].isdigit() or cell[0] in "+−–" for cell in column) else "l"


def _cells(line: Sequence[str], change: Callable[[str], str]) -> list[str]:
    return [change(cell) for cell in line]


def _markdown_cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
