"""Which settings suit these videos? Search them: many short runs, most of them given up early, the best one kept.

    python -m tasks.tune --data out.h5 --trials 30 --out tuning            # one run after the other
    python -m tasks.tune --data out.h5 --trials 30 --out tuning --parallel 4   # four at once, a GPU each
    python -m tasks.tune --data out.h5 --trials 60 --out tuning            # later: 30 more
    python -m tasks.tune --search lr=1e-4:1e-3 dropout batch=16,32         # other parameters, other ranges

The first trial has the settings that are given; the others are chosen by what the earlier ones found (TPE, by Optuna).
A trial that is behind the median of the earlier ones after a quarter of its epochs is given up. What counts is top-1 on
the validation videos, the same for all trials; test videos are never looked at. The best of many trials is better there
than it will be elsewhere: judge it on test videos, once, with python -m tasks.evaluate.

Every trial is a run of train.py in OUT/trials. Interrupted or killed, the same command goes on, within the trial too.
The same command may work in several terminals, or on several machines that share the folder, at the same time.
"""

import csv
import gc
import json
import multiprocessing
import multiprocessing.connection
import os
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import tyro

from fusion.checkpoint import Checkpoints, write_json
from fusion.heads import HEADS
from fusion.model import ModelSettings
from fusion.settings import NESTED, Machine, Recipe, TrainSettings, check
from preprocess.command import available_cores, parse_command, run_command
from preprocess.durable import write_aside
from preprocess.errors import UserError, at_least
from preprocess.lock import only_one
from preprocess.progress import progress
from preprocess.store import Store
from preprocess.table import print_table
from streams import parse_streams
from streams.split import split_videos
from train import train

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STARTS = 3  # how often a trial is begun whose process dies: it may be the trial that kills it
STARTUP = 5  # trials that are done before any is given up
SHOWN = 5  # trials in the table
ENDED = ("COMPLETE", "PRUNED")  # states of the trials that count; the others failed, or run
ENOUGH = 10  # trials that are done before it is said which parameter matters
NOT_FINITE = "no finite loss"  # what fusion.step says of a run that diverged
DONE, BEHIND = "#2b6cb0", "#c0c0c0"  # colours of trials


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: "Trial", name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"

    @property
    def ends(self) -> tuple[float, ...]:
        return self.low, self.high

    def parse(self, text: str) -> "Range":
        low, high = map(float, text.split(":"))
        if not low < high < float("inf") or (self.log and low <= 0):
            raise ValueError
        return Range(low, high, self.log)


@dataclass(frozen=True)
class Choice:
    """Some values."""

    ends: tuple

    def suggest(self, trial: "Trial", name: str) -> object:
        return trial.suggest_categorical(name, self.ends)

    def __contains__(self, value: object) -> bool:
        return value in self.ends

    def __str__(self) -> str:
        return ",".join(map(str, self.ends))

    def parse(self, text: str) -> "Choice":
        values = tuple(map(type(self.ends[0]), text.split(",")))
        if len({*values}) < len(values) or (isinstance(values[0], str) and not {*values} <= {*self.ends}):
            raise ValueError
        return Choice(values)


Space = dict[str, Range | Choice]

KNOWN: Space = {
    "lr": Range(1e-4, 1e-2, log=True),
    "weight_decay": Range(1e-3, 0.3, log=True),
    "dropout": Range(0.0, 0.6),
    "stream_dropout": Range(0.0, 0.5),
    "label_smoothing": Range(0.0, 0.2),
    "auxiliary": Range(0.0, 1.0),
    "head": Choice(tuple(HEADS)),
    "batch": Choice((16, 32, 64)),
    "width": Choice((16, 32, 64)),
    "feature": Choice((64, 128, 256)),
}
USUAL = ("lr", "weight_decay", "dropout", "stream_dropout", "label_smoothing", "auxiliary", "head")


@dataclass(frozen=True)
class TuneSettings:
    """The command line of tasks.tune. Options of train.py hold for all trials, or, if searched, for the first one."""

    data: Path = Path("out.h5")
    """store to train on"""
    streams: str = "rgb,flow,audio"
    """which streams to train, separated by commas"""
    trials: int = 30
    """trials in all, those of earlier commands among them"""
    out: Path = Path("tuning")
    """folder for the trials, trials.csv, best.json and tuning.png"""
    search: tuple[str, ...] = USUAL
    """what is searched; also batch, width, feature. Other values: lr=1e-4:1e-3 (from:to), batch=16,32 (one of these)"""
    parallel: int = 1
    """trials at once, each in its own process; with several GPUs they take turns"""
    full: bool = False
    """let every trial come to its end, also one that is behind"""
    seed: int = 0
    """of the search and of each trial's weights and clips"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


def tune(settings: TuneSettings) -> dict:
    """Do the trials that are left, write and return what was found.

    Raises UserError for input that cannot be searched on, and KeyboardInterrupt, which says how to go on.
    """
    space = prepare(settings)
    study = open_study(settings)
    with progress(total=settings.trials, unit="trial", name="tune") as bar:
        watch = Watch(study, bar)
        try:
            if settings.parallel > 1:
                work_in_parallel(settings, watch)
            else:
                work(settings, space, study, watch)
        except KeyboardInterrupt as stop:
            bar.close()
            done = sum(trial.state.name in ENDED for trial in study.get_trials(deepcopy=False))
            if any(best_trials(study)):
                report(settings, space, study)
            raise KeyboardInterrupt(f"{done} of {settings.trials} trials are done; the same command goes on") from stop
        watch()
    return report(settings, space, study)


def prepare(settings: TuneSettings) -> Space:
    """Check everything, and that the folder's search, if it holds one, is this one; return what is searched.

    Raises UserError for anything that is wrong.
    """
    _optuna()
    at_least(1, trials=settings.trials, parallel=settings.parallel)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("tasks.tune is not for torchrun: start it with python, and --parallel N for N trials at once")
    streams, store = parse_streams(settings.streams), Store(settings.data)
    split_videos(store.videos, seed=settings.recipe.split_seed, name=str(store.path))
    space = parse_space(settings.search)
    if len(streams) == 1:
        space.pop("stream_dropout", None)  # the last stream is never hidden
    if not space:
        raise UserError(f"--search names nothing to search: choose from {', '.join(KNOWN)}")
    start = options(settings.recipe)
    for name, known in space.items():
        option = name.replace("_", "-")
        if start[name] not in known:
            raise UserError(
                f"--{option} {start[name]}, where the search starts, is not in {name}={known}: give another "
                f"--{option}, or another --search {name}=…"
            )
        for value in known.ends:
            check(trial_settings(settings, {name: value}, run=None))
    search = {
        "streams": ",".join(streams),
        "seed": settings.seed,
        **json.loads(json.dumps(start)),
        "search": " ".join(f"{name}={known}" for name, known in space.items()),
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    with only_one(settings.out / "lock"):
        _same_search(settings.out / "search.json", search, store)
    return space


def _same_search(file: Path, search: dict, store: Store) -> None:
    if not file.exists():
        if (file.parent / "journal.log").exists():
            raise UserError(f"{file} is gone, which says what {file.parent} searches: name another folder with --out")
        write_json(file, {"data": str(store.path), "digest": store.digest, "options": search})
        return
    try:
        there = json.loads(file.read_text())
        data, digest, was = (there[name] for name in ("data", "digest", "options"))
        other = {name: value for name, value in was.items() if value != search.get(name)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not what this version of tasks.tune writes ({error})") from error
    advice = "repeat that, or name another folder with --out"
    if digest != store.digest:
        raise UserError(f"{file.parent} is a search on {data}, and {store.path} holds other data: {advice}")
    if other or {*search} != {*was}:
        text = ", ".join(f"--{name.replace('_', '-')} {value}, not {search.get(name)}" for name, value in other.items())
        raise UserError(f"{file.parent} is a search with {text or 'options of another version'}: {advice}")


def parse_space(texts: tuple[str, ...]) -> Space:
    """``("lr=1e-4:1e-3", "head")`` → ranges and choices by name, in the order of KNOWN."""
    space = {}
    for text in texts:
        name, given, values = text.replace("-", "_", text.partition("=")[0].count("-")).partition("=")
        if name not in KNOWN:
            raise UserError(f"--search {text}: known are {', '.join(KNOWN)}")
        try:
            space[name] = KNOWN[name].parse(values) if given else KNOWN[name]
        except ValueError as error:
            raise UserError(f"--search {text}: give it like {name}={KNOWN[name]}") from error
    return {name: space[name] for name in KNOWN if name in space}


def options(recipe: Recipe) -> dict[str, object]:
    """A recipe's options by name."""
    parts = (recipe, recipe.clip, recipe.model)
    return {f.name: getattr(part, f.name) for part in parts for f in fields(part) if f.name not in NESTED}


def trial_settings(settings: TuneSettings, values: dict[str, object], *, run: Path | None) -> TrainSettings:
    """The settings of a run with these values."""
    shape = {f.name for f in fields(ModelSettings)} & {*values}
    model = replace(settings.recipe.model, **{name: values[name] for name in shape})
    rest = {name: value for name, value in values.items() if name not in shape}
    return TrainSettings(
        streams=",".join(parse_streams(settings.streams)),
        data=settings.data,
        run=run,
        seed=settings.seed,
        recipe=replace(settings.recipe, model=model, **rest),
        machine=settings.machine,
    )


def command_line(settings: TrainSettings) -> list[str]:
    """What to type for a run with these settings: the options that are not the default."""
    usual, words = TrainSettings(), ["python", "train.py"]
    parts = [(settings, usual), (settings.recipe, usual.recipe), (settings.machine, usual.machine)]
    parts += [(getattr(settings.recipe, name), getattr(usual.recipe, name)) for name in ("clip", "model")]
    for part, default in parts:
        for name in (f.name for f in fields(part) if f.name not in NESTED):
            value = getattr(part, name)
            if value != getattr(default, name) or name in ("streams", "data"):
                values = value if isinstance(value, tuple) else (value,)
                words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def folder_of(out: Path, number: int) -> Path:
    return out / "trials" / f"{number:03d}"


def open_study(settings: TuneSettings) -> "Study":
    """The study in the folder, made if it is not there: a file to which every process adds what it finds."""
    optuna = _optuna()
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file = settings.out.resolve() / "journal.log"
    lock = JournalFileOpenLock(str(file))  # a machine that dies with it blocks the others for 30 seconds
    with only_one(settings.out / "lock"):
        lock.acquire()
        try:
            _mend(file)
        finally:
            lock.release()
        return optuna.create_study(
            study_name="tune",
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(file), lock_obj=lock)),
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP, max(1, settings.recipe.epochs // 4)),
        )


def _mend(file: Path) -> None:
    """Remove half a line at the end, which a full disk or a power failure leaves: behind it nothing could be read."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


def work(settings: TuneSettings, space: Space, study: "Study", tell: Callable[..., None]) -> None:
    """Do trials, one after the other, while there are any that nobody else does."""
    while claimed := claim(settings, space, study):
        trial, held = claimed
        with held:
            do_trial(settings, study, trial, tell)
        tell()
        if torch.cuda.is_available():  # other processes may need the memory
            gc.collect()
            torch.cuda.empty_cache()


def claim(settings: TuneSettings, space: Space, study: "Study") -> tuple["Trial", ExitStack] | None:
    """A trial to do, which is held for this process, or None if there is none left: one whose process has died, or a
    new one.

    A process holds the lock of its trial, which the system takes from it when it ends, however it ends. All this is
    done by one process at a time: two never do the same trial, there are never too many, and each is chosen with
    knowledge of those that run.
    """
    optuna = _optuna()
    from optuna.trial import TrialState

    with only_one(settings.out / "lock"):
        trials = study.get_trials(deepcopy=False)
        count = sum(trial.state.name in ENDED for trial in trials)
        abandoned = []
        for one in (one for one in trials if one.state == TrialState.RUNNING):
            if not is_free(settings.out, one.number):
                count += 1
            elif one.user_attrs.get("starts", 0) >= STARTS:
                _end(study, optuna.trial.Trial(study, one._trial_id), TrialState.FAIL, "its process died each time")
            else:
                abandoned.append(one)
        if count >= settings.trials:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about options that may change in a later version
            # by trial, not by process: a search that goes on draws what it would have drawn
            seed = int(np.random.SeedSequence([settings.seed, len(trials)]).generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            if abandoned:
                trial = optuna.trial.Trial(study, abandoned[0]._trial_id)
            else:
                if all(one.state == TrialState.FAIL for one in trials):
                    start = options(settings.recipe)
                    study.enqueue_trial({name: start[name] for name in space})
                trial = study.ask()
            for name, known in space.items():
                known.suggest(trial, name)  # what was suggested before its process died stays
        trial.set_user_attr("starts", trial.user_attrs.get("starts", 0) + 1)
        held = ExitStack()
        held.enter_context(_lock(settings.out, trial.number))
        return trial, held


def _lock(out: Path, number: int):
    folder = folder_of(out, number)
    folder.mkdir(parents=True, exist_ok=True)
    return only_one(folder / "trial.lock", busy=f"{folder} is being trained by another process")


def is_free(out: Path, number: int) -> bool:
    """Whether no process does this trial; only asked by who holds the lock of the search."""
    try:
        with _lock(out, number):
            return True
    except UserError:
        return False


def do_trial(settings: TuneSettings, study: "Study", trial: "Trial", tell: Callable[..., None]) -> None:
    """Train one run, or go on with it, and enter what came of it.

    Interrupted, the trial stays open. Raises UserError, or whatever else, where the fault is not the trial's.
    """
    from optuna.trial import TrialState

    path, epochs = folder_of(settings.out, trial.number), settings.recipe.epochs
    wanted = trial_settings(settings, trial.params, run=path)
    if any(Checkpoints(path, keep=1).files()):
        wanted = TrainSettings(data=settings.data, run=path, resume=True, machine=settings.machine)
    told = {one.number: one.intermediate_values for one in study.get_trials(deepcopy=False)}[trial.number]
    behind, why, stop = False, None, None

    def on_epoch(row: dict) -> bool:
        nonlocal behind
        if row["epoch"] not in told:
            trial.report(row["val_top1"], row["epoch"])
        tell(f"trial {path.name}, epoch {row['epoch']} of {epochs}")
        behind = not settings.full and row["epoch"] < epochs and trial.should_prune()
        return behind

    with open(path / "log.txt", "a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            train(wanted, on_epoch)
        except KeyboardInterrupt as error:
            stop = error
        except torch.OutOfMemoryError:
            why = "out of memory"
        except Exception as error:
            if not (isinstance(error, UserError) and NOT_FINITE in str(error)):
                _end(study, trial, TrialState.FAIL, str(error))
                raise
            why = NOT_FINITE
    rows = [json.loads(line) for line in _lines(path / "metrics.jsonl")]
    if rows:
        best = max(rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
        for name in ("val_top1", "val_loss", "epoch"):
            trial.set_user_attr(name, best[name])
    if behind or why:
        _end(study, trial, TrialState.PRUNED, why or f"behind after epoch {rows[-1]['epoch']}")
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    elif len(rows) == epochs:
        study.tell(trial, best["val_top1"])
    else:
        trial.set_user_attr("starts", trial.user_attrs["starts"] - 1)  # its process did not die
    if stop:
        raise stop


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _end(study: "Study", trial: "Trial", state: object, why: str) -> None:
    trial.set_user_attr("why", why)
    study.tell(trial, state=state)


def work_in_parallel(settings: TuneSettings, watch: Callable[[], None]) -> None:
    """Let several processes work, and tell of what they find. Asked to stop, they come to a checkpoint first."""
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    processes = [context.Process(target=_worker, args=(settings, n, errors)) for n in range(settings.parallel)]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches all: only this process is to hear it
    try:
        for process in processes:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        while any(process.is_alive() for process in processes):
            multiprocessing.connection.wait([process.sentinel for process in processes if process.is_alive()], 1)
            watch()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    finally:  # after a second Ctrl-C
        for process in processes:
            process.kill()
    if not errors.empty():
        raise UserError(errors.get())
    died = [process.exitcode for process in processes if process.exitcode]
    if len(died) == len(processes):
        raise UserError(f"all processes died (exit codes {died}): see {settings.out}/trials/*/log.txt")


def _worker(settings: TuneSettings, number: int, errors: multiprocessing.SimpleQueue) -> None:
    """One process of several."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, available_cores() // settings.parallel))
    if settings.machine.device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{number % torch.cuda.device_count()}"
        settings = replace(settings, machine=replace(settings.machine, device=device))
    try:
        work(settings, prepare(settings), open_study(settings), lambda *_: None)
    except UserError as error:
        errors.put(str(error))
    except KeyboardInterrupt:
        pass


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


class Watch:
    """Tells of the trials of all processes: a bar, and a line for each that has ended."""

    def __init__(self, study: "Study", bar) -> None:
        self.study = study
        self.bar = bar
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
            self.bar.write(f"trial {trial.number:03d}  top-1 {_top1(trial)}{f' ({why})' if why else ''}  {values}")
            self.bar.update(trial.state.name in ENDED)
        best = [f"best {_top1(trial)}" for trial in best_trials(self.study)[:1]]
        self.bar.set_postfix_str(", ".join(filter(None, [doing, *best])), refresh=sys.stderr.isatty())


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
    optuna = _optuna()

    if len(best_trials(study)) < ENOUGH:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(space))


def _optuna():
    try:
        import optuna
    except ImportError as error:
        raise UserError("tasks.tune needs Optuna: pip install 'tristream[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _top1(trial: "FrozenTrial") -> str:
    return f"{100 * trial.user_attrs['val_top1']:.1f}" if "val_top1" in trial.user_attrs else "–"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    settings = parse_command(TuneSettings, prog="python -m tasks.tune", doc=__doc__)
    result = tune(settings)
    names = list(result["settings"])
    print("\nvalidation top-1 in %; the best of many is better here than it will be elsewhere")
    rows = [
        [f"{one['trial']:03d}", f"{100 * one['val_top1']:.1f}", *(_short(one["settings"][name]) for name in names)]
        for one in result["best"]
    ]
    print_table(["trial", "top-1", *names], rows)
    if result["running_elsewhere"]:
        count = len(result["running_elsewhere"])
        print(f"note: other processes are still at {count} trials; the same command tells of them when they are done")
    print("wrote " + ", ".join(str(settings.out / name) for name in ("trials.csv", "best.json", "tuning.png")))
    print(f"judge the best one: {result['evaluate']}")
    print(f"train it anew:      {result['train']}")
    print(f"search on:          the same command with --trials {settings.trials * 2}")


if __name__ == "__main__":
    run_command(main)
