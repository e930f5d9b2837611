"""One pass over the training videos, and the progress of a run, which checkpoints keep."""

import shlex
import time
from dataclasses import asdict, dataclass, fields

import torch
from torch.utils.data import DataLoader

from fusion.training.bar import EpochBar, Pace
from fusion.training.checkpoint import Checkpoints
from fusion.training.meter import Meter, training_flops
from fusion.training.settings import TrainSettings
from fusion.training.step import Step
from preprocess.common.errors import UserError
from preprocess.common.stopping import Stopping


@dataclass
class State:
    """The progress of a run."""

    epoch: int = 0  # epochs done
    done: int = 0  # steps done of the next epoch
    sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # over the epoch's clips: objective, loss, right answers, clips
    best: tuple[float, float] = (-1.0, 0.0)  # validation top-1, and the negative loss, of the best weights


class Saving:
    """Checkpoints every few minutes, and on demand."""

    def __init__(self, checkpoints: Checkpoints, step: Step, *, every: float, active: bool) -> None:
        self.checkpoints = checkpoints
        self.step = step
        self.every = every  # seconds
        self.active = active  # only the first rank writes
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """True if it is time for a checkpoint."""
        return self.active and time.monotonic() - self._last >= self.every

    def __call__(self, state: State, *, steps: int) -> None:
        """Save the state after `steps` steps in all."""
        if not self.active:
            return
        self.checkpoints.save(steps, asdict(state) | self.step.state_dict())
        self._last = time.monotonic()


def restore(saved: dict, step: Step) -> State:
    """Restore the step's state from a checkpoint; return the run's progress."""
    missing = [field.name for field in fields(State) if field.name not in saved]
    if missing:
        raise UserError(f"the run's checkpoints are of another version of train.py (no {missing[0]}): start a new run")
    step.load_state_dict(saved)
    return State(**{field.name: saved[field.name] for field in fields(State)})


def train_one_epoch(
    loader: DataLoader,
    step: Step,
    state: State,
    settings: TrainSettings,
    *,
    save: Saving,
    stopping: Stopping,
    peak: float | None,
    pace: Pace,
) -> dict:
    """Train the rest of one pass over the training videos; return the values to log.

    Raises KeyboardInterrupt between two steps, after saving, if the run should stop.
    """
    recipe, ranks, batches = settings.recipe, step.ranks, loader.batch_sampler
    step.model.train()
    meter, flops = Meter(step.device), 0.0
    sums = torch.tensor(state.sums, dtype=torch.float64, device=step.device)
    steps = {"steps": batches.total, "done": state.done, "before": state.epoch * batches.total}
    bar = EpochBar(pace, name=f"epoch {state.epoch + 1}/{recipe.epochs}", hidden=not ranks.first, **steps)
    reads = meter.reads(loader)
    for parts in zip(*[reads] * recipe.accumulate, strict=True):
        number = state.epoch * batches.total + state.done
        if peak and not flops:
            first = parts[0].only(step.model.encoders).to(step.device)
            flops = training_flops(step.model, first.inputs(training=False), first.present)
        taken = step(parts, number, recipe=recipe, seed=settings.seed, stop=stopping.asked)
        sums += torch.stack([taken.objective * taken.seen[-1], *taken.seen])
        state.done, meter.clips = state.done + 1, meter.clips + taken.clips
        bar.update(sums[1:])
        stop = step.stop_asked
        if step.due or stop or state.done == batches.total:
            for bad, videos in step.report_skipped():
                paths = ", ".join(loader.dataset.videos[row].path for row in videos)
                here = "its videos" if ranks.size == 1 else f"its videos in rank {ranks.rank}"
                print(f"note: step {bad + 1} has no finite loss and is skipped; {here}: {paths or 'none'}")
        if stop or save.due:
            state.sums = tuple(sums.tolist())
            save(state, steps=number + 1)
        if stop:
            ranks.add_up(torch.zeros(1))  # wait until all is saved: torchrun ends all processes when one ends
            again = f"python train.py --run {shlex.quote(str(save.checkpoints.folder.parent))} --resume"
            raise KeyboardInterrupt(f"after step {number + 1}; go on with: {again}")
    bar.close()
    *sums, clips = sums.tolist()
    objective, loss, top1 = (total / max(1, clips) for total in sums)
    row = {"epoch": state.epoch + 1, "loss": loss, "train_top1": top1, "objective": objective}
    row["lr"] = step.rate((state.epoch + 1) * batches.total - 1)
    return row | meter.row(frames=recipe.clip.pictures, flops=flops, peak=peak)
