"""The trials of a search, shared through its folder by processes on one or several machines."""

import gc
import json
import os
import shutil
import warnings
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.common.files import only_one
from tasks.settings import TuneSettings
from tasks.tuning.settings import folder_of, recipe_options, same_search, trial_settings
from tasks.tuning.space import Space
from train import train

if TYPE_CHECKING:
    from optuna import Study, Trial

STARTS = 3  # attempts at a trial whose process dies: the trial may be the cause
STARTUP = 5  # trials finished before any is given up
ENDED = ("COMPLETE", "PRUNED")  # states of the trials that count; the others failed, or are running
NOT_FINITE = "no finite loss"  # part of fusion.training.step's message for a run that diverged


def load_optuna() -> ModuleType:
    """The module optuna, set to log only errors. Raises UserError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("tasks.tune needs Optuna: pip install 'tristream[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


def open_study(settings: TuneSettings, space: Space) -> "Study":
    """The study in the folder, created if missing: a file to which every process appends its results.

    Raises UserError if it is another search.
    """
    optuna = load_optuna()
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    settings.out.mkdir(parents=True, exist_ok=True)
    file = settings.out.resolve() / "journal.log"
    lock = JournalFileOpenLock(str(file))  # a machine that dies holding it blocks the others for 30 seconds
    with only_one(settings.out / "lock"):
        lock.acquire()
        try:
            _mend(file)
        finally:
            lock.release()
        study = optuna.create_study(
            study_name="tune",
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=lock)),
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP, max(1, settings.recipe.epochs // 4)),
        )
        same_search(settings, space, study)
    return study


def _mend(file: Path) -> None:
    """Remove an incomplete last line, left by a full disk or a power failure: lines after it could not be read."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


def work(settings: TuneSettings, space: Space, study: "Study") -> None:
    """Do trials, one after the other, while there are any that no other process does."""
    while claimed := claim(settings, space, study):
        trial, held = claimed
        with held:
            do_trial(settings, study, trial)
        why = trial.user_attrs.get("why")
        values = ", ".join(f"{name} {spell(value)}" for name, value in trial.params.items())
        top1 = f"{100 * trial.user_attrs['val_top1']:.1f}" if "val_top1" in trial.user_attrs else "–"
        print(f"trial {trial.number:03d}  top-1 {top1}{f' ({why})' if why else ''}  {values}", flush=True)
        if torch.cuda.is_available():  # other processes may need the memory
            gc.collect()
            torch.cuda.empty_cache()


def claim(settings: TuneSettings, space: Space, study: "Study") -> tuple["Trial", ExitStack] | None:
    """A trial to do, locked for this process: one whose process has died, or a new one. None if there is none left.

    A process holds the lock of its trial, which the system releases when it ends, however it ends: unlike with Optuna's
    heartbeats, the next process need not wait, and the trial goes on from its checkpoint. One process at a time claims:
    two never do the same trial, there are never too many, and each is chosen with knowledge of the running ones.
    """
    import optuna

    with only_one(settings.out / "lock"):
        trials = study.get_trials(deepcopy=False)
        count = sum(trial.state.name in ENDED for trial in trials)
        abandoned = []
        for one in (one for one in trials if one.state.name == "RUNNING"):
            if not _is_free(settings.out, one.number):
                count += 1
            elif one.user_attrs.get("starts", 0) >= STARTS or one.params.keys() != space.keys():
                _end(study, optuna.trial.Trial(study, one._trial_id), "FAIL", "its process died")
            else:
                abandoned.append(one)
        if count >= settings.trials:
            return None
        # by trial, not by process: a resumed search draws the same values
        seed = int(np.random.SeedSequence([settings.seed, len(trials)]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        if abandoned:
            trial = optuna.trial.Trial(study, abandoned[0]._trial_id)
        else:
            if all(one.state.name == "FAIL" for one in trials):
                start = recipe_options(settings.recipe)
                study.enqueue_trial({name: start[name] for name in space})
            trial = study.ask(space)
        trial.set_user_attr("starts", trial.user_attrs.get("starts", 0) + 1)
        held = ExitStack()
        held.enter_context(_lock(settings.out, trial.number))
        return trial, held


def _lock(out: Path, number: int):
    folder = folder_of(out, number)
    folder.mkdir(parents=True, exist_ok=True)
    return only_one(folder / "trial.lock", busy=f"{folder} is being trained by another process")


def _is_free(out: Path, number: int) -> bool:
    try:
        with _lock(out, number):
            return True
    except UserError:
        return False


def do_trial(settings: TuneSettings, study: "Study", trial: "Trial") -> None:
    """Train one run, or resume it, and record the result.

    If interrupted, the trial stays open. Raises UserError, or another error, if the fault is not the trial's.
    """
    path, epochs = folder_of(settings.out, trial.number), settings.recipe.epochs
    wanted = trial_settings(settings, trial.params, run=path)
    if any(Checkpoints(path, keep=1).files()):
        wanted = TrainSettings(data=settings.data, run=path, resume=True, machine=settings.machine)
    why = ""

    def on_epoch(row: dict) -> bool:
        nonlocal why
        if "val_top1" not in row:
            return False
        trial.report(row["val_top1"], row["epoch"])
        if not settings.full and row["epoch"] < epochs and trial.should_prune():
            why = f"behind after epoch {row['epoch']}"
        return bool(why)

    log = open(path / "log.txt", "a", buffering=1, errors="backslashreplace")
    with log, redirect_stdout(log), redirect_stderr(log):
        try:
            train(wanted, on_epoch)
        except KeyboardInterrupt:
            trial.set_user_attr("starts", trial.user_attrs["starts"] - 1)  # its process did not die
            raise
        except torch.OutOfMemoryError:
            why = "out of memory"
        except Exception as error:
            if NOT_FINITE not in str(error):
                _end(study, trial, "FAIL", str(error))
                raise
            why = NOT_FINITE
    metrics = path / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    rows = [row for row in rows if "val_top1" in row]
    if rows:
        best = max(rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
        for name in ("val_top1", "val_loss", "epoch"):
            trial.set_user_attr(name, best[name])
    if why:
        _end(study, trial, "PRUNED", why)
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    else:
        study.tell(trial, best["val_top1"])


def _end(study: "Study", trial: "Trial", state: str, why: str) -> None:
    from optuna.trial import TrialState

    trial.set_user_attr("why", why)
    study.tell(trial, state=TrialState[state])


def spell(value: object) -> str:
    """A value as text for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
