"""The confusion matrix, as a figure and as CSV."""

from collections.abc import Sequence
from pathlib import Path

import torch

from preprocess.common.figures import as_drawn, figure_file
from tasks.probabilities import write_csv

COUNTED = 20  # classes up to which each cell shows its count; with more, the largest confusions are listed
PAIRS = 15  # confusions in that list
LARGEST_CELL, LARGEST_MATRIX = 0.4, 16.0  # inches
SMALLEST_LETTERS = 5.0  # points: with more classes than that, none is named beside the matrix
LONGEST = 32  # letters of a name


def write_confusion(counts: torch.Tensor, classes: Sequence[str], path: Path) -> None:
    """counts: (K, K), truth by answer; a line a true class, a column an answer."""
    rows = [[name, *row] for name, row in zip(classes, counts.tolist(), strict=True)]
    write_csv(path, [["truth", *classes], *rows])


def largest_confusions(counts: torch.Tensor, most: int) -> list[tuple[int, int, int, int]]:
    """counts: (K, K) → truth, answer, videos so answered, and all videos of the truth; the most videos first, among
    equals the largest share of the class.
    """
    of = counts.sum(dim=1).tolist()
    pairs = [(row, column) for row, column in counts.nonzero().tolist() if row != column]
    pairs.sort(key=lambda pair: (-int(counts[pair]), of[pair[0]], pair))
    return [(row, column, int(counts[row, column]), of[row]) for row, column in pairs[:most]]


def plot_confusion(counts: torch.Tensor, classes: Sequence[str], path: Path, *, title: str) -> None:
    """counts: (K, K), truth by answer; drawn as shares of each true class, with many classes beside the largest
    confusions.
    """
    names = [as_drawn(name, longest=LONGEST) for name in classes]
    pairs = largest_confusions(counts, PAIRS) if len(classes) > COUNTED else []
    cell = min(LARGEST_CELL, LARGEST_MATRIX / len(classes))
    size = 3 + cell * len(classes)
    scale = max(1.0, size / 13)  # of the list: as large letters as the picture is large
    beside = 7 * scale if pairs else 0.0  # inches
    with figure_file(path, size=(size + 1 + beside, size), dpi=120, names=title + "".join(names)) as figure:
        left, *right = figure.subfigures(1, 2, width_ratios=[size + 1, beside]) if pairs else [figure]
        axes = left.subplots()
        axes.set_title(title)
        _draw_matrix(axes, counts, names, letters=min(10.0, 0.75 * 72 * cell))
        for part in right:
            _draw_pairs(part.subplots(), pairs, names, letters=10 * scale)


def _draw_matrix(axes, counts: torch.Tensor, names: Sequence[str], *, letters: float) -> None:
    """`letters` is the height, in points, of the names for which there is room."""
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    image = axes.imshow(100 * shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    if letters >= SMALLEST_LETTERS:
        few = len(names) <= COUNTED
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if few else {"rotation": 90}
        axes.set_xticks(range(len(names)), names, fontsize=letters, **turned)
        axes.set_yticks(range(len(names)), names, fontsize=letters)
    if len(names) <= COUNTED:
        for row, column in (counts > 0).nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="answer", ylabel="truth")
    axes.figure.colorbar(image, ax=axes, label="% of the class", shrink=0.8)


def _draw_pairs(axes, pairs: Sequence[tuple[int, int, int, int]], names: Sequence[str], *, letters: float) -> None:
    """A bar a confusion, the largest above."""
    shares = [100 * count / of for _, _, count, of in pairs]
    axes.barh(range(len(pairs)), shares, height=0.4, color="#2b6cb0")
    for place, (share, (truth, answer, count, of)) in enumerate(zip(shares, pairs, strict=True)):
        axes.text(0, place - 0.26, f"{names[truth]} → {names[answer]}", va="bottom", fontsize=letters)
        axes.text(share, place, f" {count} of {of}", va="center", fontsize=letters)
    axes.set(xlim=(0, 1.15 * max(shares)), ylim=(len(pairs) - 0.4, -0.8), yticks=[], xlabel="% of the class")
    axes.set_title("largest confusions: truth → answer", fontsize=1.2 * letters)
    axes.spines[["top", "right"]].set_visible(False)
