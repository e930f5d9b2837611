"""Search for good settings: many short runs, most of them given up early, the best one kept.

    python -m tasks.tune --data out.h5 --trials 30 --out tuning            # one run after the other
    python -m tasks.tune --data out.h5 --trials 30 --out tuning --parallel 4   # four at once, a GPU each
    python -m tasks.tune --data out.h5 --trials 60 --out tuning            # later: 30 more
    python -m tasks.tune --search lr=1e-4:1e-3 dropout batch=16,32 --out t2    # other parameters, other ranges

The first trial has the given settings; the others are chosen by the results of earlier ones (TPE, by Optuna). A trial
that is behind the median of the earlier ones after a quarter of its epochs is given up. Trials are ranked by top-1 on
the validation videos, the same for all; test videos are never used. The best of many trials is better there than it
will be elsewhere: judge it on test videos, once, with python -m tasks.evaluate.

Every trial is a run of train.py in OUT/trials. After an interruption the same command goes on, within the trial too.
The same command may run in several terminals, or on several machines that share the folder, at the same time.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import multiprocessing
import signal
import sys
from dataclasses import replace
from multiprocessing import resource_tracker

import torch

from preprocess.common.command import available_cores, parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, one_line
from preprocess.common.processes import end_with_parent
from tasks.settings import TuneSettings
from tasks.tuning.report import Found, best_trials, report
from tasks.tuning.settings import prepare
from tasks.tuning.trials import ENDED, load_optuna, open_study, spell, work


def tune(settings: TuneSettings) -> Found:
    """Do the remaining trials, write and return the results.

    Raises UserError for invalid input, and KeyboardInterrupt, whose message says how to go on.
    """
    load_optuna()  # before anything is written
    space = prepare(settings)
    study = open_study(settings, space)
    print(f"{settings.trials} trials; how one is doing: {settings.out}/trials/NUMBER/log.txt", flush=True)
    try:
        if settings.parallel > 1:
            work_in_parallel(settings)
        else:
            work(settings, space, study)
    except KeyboardInterrupt as stop:
        done = sum(trial.state.name in ENDED for trial in study.get_trials(deepcopy=False))
        if best_trials(study):
            report(settings, study)
        raise KeyboardInterrupt(f"{done} of {settings.trials} trials are done; the same command goes on") from stop
    return report(settings, study)


def work_in_parallel(settings: TuneSettings) -> None:
    """Do trials in several processes. On a signal to stop, they save a checkpoint first."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_worker, args=(settings, number)) for number in range(settings.parallel)]
    resource_tracker.ensure_running()  # now, since it would unblock the signal that is blocked next
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches all processes: only this one handles it
    for process in processes:
        process.start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    if died := [process.exitcode for process in processes if process.exitcode]:
        text = f"{len(died)} of {len(processes)} processes died (exit codes {died}): the same command goes on"
        if len(died) == len(processes):
            raise UserError(f"{text}; see {settings.out}/trials/*/log.txt")
        print(f"note: {text}")


def _worker(settings: TuneSettings, number: int) -> None:
    """One process of several."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_parent(signal.SIGTERM)  # between two steps, with a checkpoint
    torch.set_num_threads(max(1, available_cores() // settings.parallel))
    if settings.machine.device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{number % torch.cuda.device_count()}"
        settings = replace(settings, machine=replace(settings.machine, device=device))
    try:
        load_optuna()
        space = prepare(settings)
        work(settings, space, open_study(settings, space))
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    except KeyboardInterrupt:
        pass


def main(settings: TuneSettings | None = None) -> None:
    settings = settings or parse_command(TuneSettings, prog="python -m tasks.tune", doc=__doc__)
    found = tune(settings)
    print("\nvalidation top-1 in %; the best of many is better here than it will be elsewhere")
    rows = [
        [f"{one['trial']:03d}", f"{100 * one['val_top1']:.1f}", *map(spell, one["settings"].values())]
        for one in found.best
    ]
    print_table(["trial", "top-1", *found.settings], rows)
    if found.trials["RUNNING"]:
        print(f"note: other processes are still at {found.trials['RUNNING']} trials")
    print(f"wrote trials.csv, best.json and figures in {settings.out}")
    print(f"judge the best one: {found.evaluate}")
    print(f"train it anew:      {found.train}")
    print(f"search on:          the same command with --trials {settings.trials * 2}")


if __name__ == "__main__":
    run_command(main)
