"""Which settings suit these videos? Search them: many short runs, most of them given up early, the best one kept.

    python -m tasks.tune --data out.h5 --trials 30 --out tuning            # one run after the other
    python -m tasks.tune --data out.h5 --trials 30 --out tuning --parallel 4   # four at once, a GPU each
    python -m tasks.tune --data out.h5 --trials 60 --out tuning            # later: 30 more
    python -m tasks.tune --search lr=1e-4:1e-3 dropout batch=16,32 --out t2    # other parameters, other ranges

The first trial has the settings that are given; the others are chosen by what the earlier ones found (TPE, by Optuna).
A trial that is behind the median of the earlier ones after a quarter of its epochs is given up. What counts is top-1 on
the validation videos, the same for all trials; test videos are never looked at. The best of many trials is better there
than it will be elsewhere: judge it on test videos, once, with python -m tasks.evaluate.

Every trial is a run of train.py in OUT/trials. Interrupted or killed, the same command goes on, within the trial too.
The same command may work in several terminals, or on several machines that share the folder, at the same time.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Callable
from dataclasses import replace

import torch

from preprocess.common.command import available_cores, parse_command, run_command
from preprocess.common.console import print_table, progress
from preprocess.common.errors import UserError
from preprocess.common.processes import end_with_parent
from tasks.search.report import Watch, best_trials, report, table
from tasks.search.settings import TuneSettings, prepare
from tasks.search.space import Space
from tasks.search.trials import ENDED, load_optuna, open_study, work


def tune(settings: TuneSettings) -> dict:
    """Do the trials that are left, write and return what was found.

    Raises UserError for input that cannot be searched on, and KeyboardInterrupt, which says how to go on.
    """
    load_optuna()  # before anything is written
    space = prepare(settings)
    study = open_study(settings)
    with progress(total=settings.trials, unit="trial", name="tune") as bar:
        watch = Watch(study, bar)
        try:
            if settings.parallel > 1:
                work_in_parallel(settings, space, watch)
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


def work_in_parallel(settings: TuneSettings, space: Space, watch: Callable[[], None]) -> None:
    """Let several processes work, and tell of what they find. Asked to stop, they come to a checkpoint first."""
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    processes = [context.Process(target=_worker, args=(settings, space, n, errors)) for n in range(settings.parallel)]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches all: only this process is to hear it
    try:
        for process in processes:
            process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while any(process.is_alive() for process in processes):
            multiprocessing.connection.wait([process.sentinel for process in processes if process.is_alive()], 1)
            watch()
    except KeyboardInterrupt:
        started = [process for process in processes if process.pid]
        for process in started:
            process.terminate()
        for process in started:
            process.join()
        raise
    finally:  # after a second Ctrl-C
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for process in processes:
            if process.pid:
                process.kill()
    if not errors.empty():
        raise UserError(errors.get())
    died = [process.exitcode for process in processes if process.exitcode]
    if len(died) == len(processes):
        raise UserError(f"all processes died (exit codes {died}): see {settings.out}/trials/*/log.txt")
    if died:
        print(f"note: {len(died)} of {len(processes)} processes died (exit codes {died}): the same command goes on")


def _worker(settings: TuneSettings, space: Space, number: int, errors: multiprocessing.SimpleQueue) -> None:
    """One process of several."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with_parent(signal.SIGTERM)  # between two steps, with a checkpoint
    torch.set_num_threads(max(1, available_cores() // settings.parallel))
    if settings.machine.device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{number % torch.cuda.device_count()}"
        settings = replace(settings, machine=replace(settings.machine, device=device))
    try:
        work(settings, space, open_study(settings), lambda *_: None)
    except UserError as error:
        errors.put(str(error))
    except KeyboardInterrupt:
        pass


def main(settings: TuneSettings | None = None) -> None:
    settings = settings or parse_command(TuneSettings, prog="python -m tasks.tune", doc=__doc__)
    result = tune(settings)
    print("\nvalidation top-1 in %; the best of many is better here than it will be elsewhere")
    print_table(*table(result))
    if result["running_elsewhere"]:
        count = len(result["running_elsewhere"])
        print(f"note: other processes are still at {count} trials; the same command tells of them when they are done")
    print("wrote " + ", ".join(str(settings.out / name) for name in ("trials.csv", "best.json", "tuning.png")))
    print(f"judge the best one: {result['evaluate']}")
    print(f"train it anew:      {result['train']}")
    print(f"search on:          the same command with --trials {settings.trials * 2}")


if __name__ == "__main__":
    run_command(main)
