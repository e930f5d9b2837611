"""The log of a training run: a line on screen, metrics.jsonl, curves.png and TensorBoard."""

import json
import time
from pathlib import Path

from preprocess.common.figures import figure_file
from preprocess.common.files import write_aside

PLAIN = (bool, int, float, str)  # types that TensorBoard shows as they are
JUDGED = ("val_top1", "val_loss")  # beside the settings, as of the last epoch
TRAINING = {"color": "0.4", "linestyle": "--"}
PLOT_EVERY = 5.0  # seconds: drawing takes a sixth of one, longer than an epoch of few videos


class Log:
    """The rows of a run's epochs."""

    def __init__(self, run: Path, *, epochs_done: int, settings: dict[str, object]) -> None:
        """Rows of epochs after `epochs_done` are dropped, since those are trained again.

        settings: those that decide the result, by name, for TensorBoard's HPARAMS.
        """
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self.run = run
        self.file = run / "metrics.jsonl"
        lines = self.file.read_text().splitlines() if epochs_done and self.file.exists() else []
        self.rows = [row for row in map(json.loads, lines) if row["epoch"] <= epochs_done]
        self.board = SummaryWriter(str(run), purge_step=epochs_done + 1)
        values = {name: value if isinstance(value, PLAIN) else _text(value) for name, value in settings.items()}
        *begin, self._end = hparams(values, dict.fromkeys(JUDGED))  # add_hparams would make a folder of its own
        for summary in begin:
            self.board.file_writer.add_summary(summary)
        self._plotted, self._stale = time.monotonic(), False

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.board.file_writer.add_summary(self._end)
        self.board.close()
        if self._stale:
            self._plot()

    def add(self, row: dict) -> None:
        """Log one epoch: numbers by name, "epoch" among them."""
        self.rows.append(row)
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_aside(self.file, lambda part: part.write_text(text))
        for key, value in row.items():
            self.board.add_scalar(key, value, row["epoch"])
        self._stale = True
        if time.monotonic() - self._plotted >= PLOT_EVERY:
            self._plot()
        print(
            f"epoch {row['epoch']:3d}  training: loss {row['loss']:.3f}, top-1 {row['train_top1']:.1%}  "
            f"{_validation(row)}{_speed(row)}",
            flush=True,
        )

    def _plot(self) -> None:
        plot_curves(self.rows, self.run / "curves.png")
        self._plotted, self._stale = time.monotonic(), False


def _validation(row: dict) -> str:
    """The epoch's validation as text, if it had one."""
    if "val_loss" not in row:
        return ""
    alone = ", ".join(f"{key[9:]} {value:.1%}" for key, value in row.items() if key.startswith("val_top1_"))
    alone = f" ({alone})" if alone else ""
    return f"validation: loss {row['val_loss']:.3f}, top-1 {row['val_top1']:.1%}{alone}  "


def _text(value: object) -> str:
    """A setting as TensorBoard shows it: several words, a path or nothing."""
    return " ".join(value) if isinstance(value, tuple) else str(value or "")


def _speed(row: dict) -> str:
    """The epoch's speed and the use of the machine, as text."""
    clips, frames = row["clips_per_second"], row["frames_per_second"]
    peak = f", {row['mfu']:.0%} of peak" if "mfu" in row else ""
    waiting, memory = row["waiting_share"], row["memory_gb"]
    return f"{clips:.1f} clips/s ({frames:.0f} frames/s), {waiting:.0%} waiting, {memory:.1f} GB{peak}"


def plot_curves(rows: list[dict], path: Path) -> None:
    """Losses and accuracy over the epochs, of training and validation."""
    with figure_file(path, size=(9, 3.5), dpi=110) as figure:
        _draw_curves(*figure.subplots(1, 2), rows)


def _draw_curves(left, right, rows: list[dict]) -> None:
    epochs, judged = [row["epoch"] for row in rows], [row for row in rows if "val_loss" in row]
    at = [row["epoch"] for row in judged]
    left.plot(epochs, [row["loss"] for row in rows], label="training", **TRAINING)
    left.plot(at, [row["val_loss"] for row in judged], label="validation", lw=2.5)
    left.set(xlabel="epoch", ylabel="loss of the fused answer, nats")
    right.plot(epochs, [100 * row["train_top1"] for row in rows], label="training", **TRAINING)
    for key in [key for key in (judged or rows)[-1] if key.startswith("val_top1")]:
        name = key.removeprefix("val_top1_") if "top1_" in key else ""
        label = f"validation, {name} alone" if name else "validation"
        right.plot(at, [100 * row[key] for row in judged], label=label, lw=1 if name else 2.5)
    right.set(xlabel="epoch", ylabel="top-1, %", ylim=(0, 100))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid(alpha=0.3)
