"""The results of a search, written to files."""

import csv
import shlex
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.training.run import write_json
from preprocess.common.errors import UserError
from preprocess.common.files import only_one, write_aside
from tasks.settings import TuneSettings
from tasks.tuning.settings import command_line, folder_of, trial_settings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SHOWN = 5  # trials in the table
ENOUGH = 10  # finished trials needed to rate the parameters' importance


@dataclass(frozen=True)
class Found:
    """The best trial, the commands to judge it and to train it anew, and the next best trials; best.json."""

    trial: int
    run: str
    val_top1: float
    val_loss: float
    epoch: int
    settings: dict[str, object]
    trials: dict[str, int]  # state → number of trials
    evaluate: str
    train: str
    best: list[dict]  # trial, val_top1 and settings of each


def best_trials(study: "Study") -> list["FrozenTrial"]:
    """The finished trials, the best first; among equals, the one with the smaller loss."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: (-trial.value, trial.user_attrs["val_loss"], trial.number))


def report(settings: TuneSettings, study: "Study") -> Found:
    """Write trials.csv, best.json and the figures. Raises UserError if no trial has finished."""
    with only_one(settings.out / "lock"):
        trials, best = study.get_trials(deepcopy=False), best_trials(study)
        write_aside(settings.out / "trials.csv", lambda part: _write_csv(part, settings.out, trials))
        if not best:
            raise UserError(f"no trial came to its end: {settings.out}/trials.csv and the trials' log.txt say why")
        run = folder_of(settings.out, best[0].number)
        again = trial_settings(settings, best[0].params, run=settings.out / "best")
        states = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
        found = Found(
            trial=best[0].number,
            run=str(run),
            **{name: best[0].user_attrs[name] for name in ("val_top1", "val_loss", "epoch")},
            settings=best[0].params,
            trials={state: sum(trial.state.name == state for trial in trials) for state in states},
            evaluate=shlex.join(["python", "-m", "tasks.evaluate", str(run), "--data", str(settings.data)]),
            train=shlex.join(command_line(again)),
            best=[{"trial": one.number, "val_top1": one.value, "settings": one.params} for one in best[:SHOWN]],
        )
        write_json(settings.out / "best.json", asdict(found))
        plot_search(study, settings.out, matters=len(best) >= ENOUGH)
        return found


def _write_csv(part: Path, out: Path, trials: list["FrozenTrial"]) -> None:
    names, facts = (
        list({name: None for trial in trials for name in trial.params}),
        ("why", "val_top1", "val_loss", "epoch"),
    )
    with open(part, "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["trial", "state", *facts, *names, "run"])
        for trial in trials:
            known = trial.user_attrs | trial.params
            values = [known.get(name, "") for name in (*facts, *names)]
            lines.writerow([trial.number, trial.state.name.lower(), *values, folder_of(out, trial.number)])


def plot_search(study: "Study", out: Path, *, matters: bool) -> None:
    """Plot top-1 over the trials, and over each parameter; if `matters`, also each parameter's importance."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    figures = {"history": plots.plot_optimization_history, "parameters": plots.plot_slice}
    if matters:
        figures["importance"] = plots.plot_param_importances
    with pyplot.rc_context(), warnings.catch_warnings():  # the plots set a style
        warnings.simplefilter("ignore")  # a single trial's axes have no length
        for name, plot in figures.items():
            plot(study, target_name="validation top-1")
            figure = pyplot.gcf()
            for axes in figure.axes:
                axes.tick_params("x", rotation=45)  # names of heads are long
            write_aside(
                out / f"{name}.png", lambda part, f=figure: f.savefig(part, dpi=110, format="png", bbox_inches="tight")
            )
            pyplot.close(figure)
