"""What a search finds: told while it goes on, and written to files."""

import csv
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion.training.run import write_json
from preprocess.common.errors import UserError
from preprocess.common.files import only_one, write_aside
from tasks.search.settings import TuneSettings, command_line, folder_of, trial_settings
from tasks.search.space import Choice, Space
from tasks.search.trials import ENDED, is_free

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SHOWN = 5  # trials in the table
ENOUGH = 10  # trials that are done before it is said which parameter matters
DONE, BEHIND = "#2b6cb0", "#c0c0c0"  # colours of trials


class Watch:
    """Tells of the trials of all processes: a bar, and a line for each that has ended."""

    def __init__(self, study: "Study", bar) -> None:
        self.study = study
        self.bar = bar
        self._out, self._live = sys.stdout, sys.stderr.isatty()  # which a trial's log stands in for while it runs
        self._seen: set[int] = set()
        for trial in self._ended():
            self._seen.add(trial.number)
            bar.update(trial.state.name in ENDED)

    def _ended(self) -> list["FrozenTrial"]:
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished() and trial.number not in self._seen]

    def __call__(self, doing: str = "") -> None:
        for trial in self._ended():
            self._seen.add(trial.number)
            values = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
            why = trial.user_attrs.get("why")
            line = f"trial {trial.number:03d}  top-1 {_top1(trial)}{f' ({why})' if why else ''}  {values}"
            self.bar.write(line, file=self._out)
            self.bar.update(trial.state.name in ENDED)
        best = [f"best {_top1(trial)}" for trial in best_trials(self.study)[:1]]
        self.bar.set_postfix_str(", ".join(filter(None, [doing, *best])), refresh=self._live)


def best_trials(study: "Study") -> list["FrozenTrial"]:
    """Those that came to their end, the best first; among equals, the one with the smaller loss."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: (-trial.value, trial.user_attrs["val_loss"], trial.number))


def report(settings: TuneSettings, space: Space, study: "Study") -> dict:
    """Write trials.csv, tuning.png and best.json, which is returned.

    Raises UserError if no trial came to its end.
    """
    with only_one(settings.out / "lock"):
        trials = study.get_trials(deepcopy=False)
        running = [one.number for one in trials if one.state.name == "RUNNING"]
        elsewhere = [number for number in running if not is_free(settings.out, number)]
        write_aside(settings.out / "trials.csv", lambda part: _write_csv(part, settings.out, trials, space))
        best = best_trials(study)
        if not best:
            raise UserError(f"no trial came to its end: {settings.out}/trials.csv and the trials' log.txt say why")
        plot_search(study, space, settings.out / "tuning.png")
        run = folder_of(settings.out, best[0].number)
        again = trial_settings(settings, best[0].params, run=settings.out / "best")
        judge = ["python", "-m", "tasks.evaluate", str(run), "--data", str(settings.data)]
        result = {
            "trial": best[0].number,
            "run": str(run),
            **{name: best[0].user_attrs[name] for name in ("val_top1", "val_loss", "epoch")},
            "settings": {name: best[0].params[name] for name in space},
            "trials": {state: sum(t.state.name == state for t in trials) for state in ("COMPLETE", "PRUNED", "FAIL")},
            "running_elsewhere": elsewhere,
            "evaluate": shlex.join(judge),
            "train": shlex.join(command_line(again)),
            "best": [{"trial": t.number, "val_top1": t.value, "settings": t.params} for t in best[:SHOWN]],
        }
        write_json(settings.out / "best.json", result)
        return result


def _write_csv(part: Path, out: Path, trials: list["FrozenTrial"], space: Space) -> None:
    with open(part, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["trial", "state", "why", "val_top1", "val_loss", "epoch", *space, "run"])
        for trial in trials:
            facts = [trial.user_attrs.get(name, "") for name in ("why", "val_top1", "val_loss", "epoch")]
            values = [trial.params.get(name, "") for name in space]
            lines.writerow([trial.number, trial.state.name.lower(), *facts, *values, folder_of(out, trial.number)])


def plot_search(study: "Study", space: Space, path: Path) -> None:
    """Top-1 over the trials, what each parameter matters, and top-1 over each parameter."""
    from matplotlib.figure import Figure

    trials = [trial for trial in study.get_trials(deepcopy=False) if "val_top1" in trial.user_attrs]
    kinds = {
        "given up": (BEHIND, [trial for trial in trials if trial.state.name == "PRUNED"]),
        "to the end": (DONE, [trial for trial in trials if trial.state.name == "COMPLETE"]),
    }
    done = kinds["to the end"][1]
    rows = 1 + -(-len(space) // 4)
    figure = Figure(figsize=(13, 3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 4)
    history, matters = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3])
    slices = {name: figure.add_subplot(grid[1 + k // 4, k % 4]) for k, name in enumerate(space)}
    for label, (colour, some) in kinds.items():
        tops = [100 * trial.user_attrs["val_top1"] for trial in some]
        history.scatter([trial.number for trial in some], tops, color=colour, label=label, s=22)
        for name, axes in slices.items():
            values = [trial.params[name] for trial in some]
            if isinstance(space[name], Choice):
                values = [space[name].ends.index(value) for value in values]
            axes.scatter(values, tops, color=colour, s=18)
    best = np.maximum.accumulate([100 * trial.value for trial in done])
    history.step([trial.number for trial in done], best, where="post", color=DONE, lw=1, label="best so far")
    history.set(xlabel="trial", ylabel="validation top-1, %")
    history.xaxis.get_major_locator().set_params(integer=True)
    history.legend(fontsize=8)
    for name, axes in slices.items():
        axes.set(xlabel=name.replace("_", " "))
        if isinstance(space[name], Choice):
            axes.set_xticks(range(len(space[name].ends)), map(str, space[name].ends))
            axes.set_xlim(-0.5, len(space[name].ends) - 0.5)
        else:
            axes.set_xlim(*space[name].ends)
            axes.set_xscale("log" if space[name].log else "linear")
    for axes in (history, *slices.values()):
        axes.grid(alpha=0.3)
    shares = importances(study, space)
    if shares:
        names = sorted(shares, key=shares.get)
        matters.barh([name.replace("_", " ") for name in names], [shares[name] for name in names], color=DONE)
        matters.set(xlabel="importance")
    else:
        matters.set_axis_off()
        matters.text(0.5, 0.5, f"importance of the parameters:\nfrom {ENOUGH} trials to the end on", ha="center")
    write_aside(path, lambda part: figure.savefig(part, dpi=110, format="png"))


def importances(study: "Study", space: Space) -> dict[str, float]:
    """How much each parameter has to do with a trial being among the best (PED-ANOVA, arXiv 2304.10255); they add up
    to 1. Empty if too few trials came to their end."""
    import optuna

    if len(best_trials(study)) < ENOUGH:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(space))


def table(result: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows for people, from what `report` returns: a row for each of the best trials."""
    names = list(result["settings"])
    rows = [
        [f"{one['trial']:03d}", f"{100 * one['val_top1']:.1f}", *(_short(one["settings"][name]) for name in names)]
        for one in result["best"]
    ]
    return ["trial", "top-1", *names], rows


def _top1(trial: "FrozenTrial") -> str:
    return f"{100 * trial.user_attrs['val_top1']:.1f}" if "val_top1" in trial.user_attrs else "–"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
