"""Workers that hang, crash and grow on purpose: every job has one outcome, and nothing is left behind."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from textwrap import indent

import pytest

from preprocess.common.errors import UserError
from preprocess.common.processes import ONE_THREAD
from preprocess.workers.pool import Failure, supervise
from tests.support.commands import environment
from tests.support.jobs import SMALL, STALL, act, warm_up_large


def outcomes(jobs, *, workers=1, worker_limits=SMALL, **settings) -> dict:
    """Job → Result or Failure, of jobs that differ."""
    found = {}
    for job, outcome in supervise(jobs, act, workers=workers, worker_limits=worker_limits, **settings):
        assert job not in found, "a second outcome"
        found[job] = outcome
    assert multiprocessing.active_children() == []
    return found


@pytest.fixture
def script(tmp_path):
    """A function that starts `body`, with what this file defines, in a process and process group of its own."""
    head = """from tests.support.jobs import *
from tests.preprocess.workers.test_pool import *
if __name__ == "__mp_main__":
    time.sleep(0.5)  # a worker takes its time to load
else:
"""
    groups = []

    def start(body: str) -> subprocess.Popen:
        (tmp_path / "script.py").write_text(head + indent(body.strip(), "    "))
        process = subprocess.Popen(
            [sys.executable, tmp_path / "script.py"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        groups.append(process.pid)
        return process

    yield start
    for group in groups:
        with suppress(ProcessLookupError):  # as it should be
            os.killpg(group, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("way", ["SIGKILL", "SIGSEGV", "exit"])
def test_a_worker_that_dies_costs_the_job_that_killed_it_alone(way):
    jobs = [("say", 1), ("die", way), *(("say", number) for number in range(2, 8))]
    found = outcomes(jobs, workers=2)
    name = {"exit": "status 3"}.get(way, way)
    assert found.pop(("die", way)) == Failure(f"crashed: decoding it ends the process ({name})")
    assert found == {("say", number): number for number in range(1, 8)}


def test_a_job_that_waits_behind_a_deadly_one_loses_no_attempt(tmp_path):
    deadly = [("die", "exit", number) for number in range(3)]
    fragile = [("die_once", str(tmp_path / str(number))) for number in range(3)]
    jobs = [job for pair in zip(deadly, fragile, strict=True) for job in pair]
    found = outcomes(jobs)
    assert all(isinstance(found[job], Failure) for job in deadly)
    assert [found[job] for job in fragile] == ["done"] * 3  # each one's own crash is its first


@pytest.mark.slow
def test_workers_killed_from_outside_cost_no_job():
    killed, found = set(), Counter()
    jobs = [("nap", 0.03, number) for number in range(150)]
    for job, outcome in supervise(jobs, act, workers=2, worker_limits=SMALL):
        found[job] += 1
        assert not isinstance(outcome, Failure)
        if len(killed) < 6 and outcome not in killed:  # its next job is at work by now
            killed.add(outcome)
            os.kill(outcome, signal.SIGKILL)
    assert len(killed) == 6
    assert found == Counter(jobs)


def test_a_result_counts_although_its_worker_has_died_since(tmp_path):
    job = ("die_after_the_result", str(tmp_path / "log"))

    def slow():
        yield job
        time.sleep(1)  # the result and the death are both there when the supervisor looks again
        yield ("say", 1)

    assert outcomes(slow()) == {job: "done", ("say", 1): 1}
    assert (tmp_path / "log").read_text() == "done\n"


@pytest.mark.parametrize(
    "way", ["in C", *(pytest.param(way, marks=pytest.mark.slow) for way in ("in Python", "stopped"))]
)
def test_a_job_that_hangs_is_given_up(way):
    found = outcomes([("hang", way), ("say", 1), ("say", 2)], workers=2)
    assert found == {("hang", way): Failure("hang: no progress for 2 s"), ("say", 1): 1, ("say", 2): 2}


def test_a_worker_that_is_stopped_between_two_jobs_keeps_none_of_them():
    pids = []
    for _, pid in supervise((("nap", wait) for wait in (0, 0, 0, 0)), act, workers=1, worker_limits=SMALL):
        assert not isinstance(pid, Failure)
        if not pids:
            time.sleep(0.5)  # the worker has done what it was given, and waits
            os.kill(pid, signal.SIGSTOP)
        pids.append(pid)
    assert len(pids) == 4
    assert len(set(pids)) == 2


def test_a_job_that_is_slow_but_gets_on_is_not_given_up():
    assert outcomes([("crawl", 2 * STALL)]) == {("crawl", 2 * STALL): "done"}


@pytest.mark.slow
def test_a_job_that_gets_on_by_drips_is_given_up():
    reason = outcomes([("drip",), ("say", 1)])[("drip",)].reason
    assert reason.startswith("hang: 0 s of video in "), reason


@pytest.mark.slow
def test_time_in_which_everybody_is_stopped_makes_nobody_a_hang(script, tmp_path):
    log = tmp_path / "log"
    process = script(f"print(outcomes([('stroll', {str(log)!r})], worker_limits=WorkerLimits(stall_seconds=3)))")
    while not log.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(0.5)  # the supervisor has seen that the job has begun
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)  # the supervisor looks before its worker can give a sign
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=30)
    assert "'done'" in out, out + err
    assert log.read_text() == "begun\n"


@pytest.mark.parametrize("limited", [True, False])
def test_a_job_that_needs_too_much_memory_is_given_up_and_the_run_goes_on(limited):
    jobs = [("grow", 1), ("grow", 40), ("grow", 2)]
    found = outcomes(jobs, limit_address_space=limited)
    assert found.pop(("grow", 40)) == Failure("too large: needs more than 200 MB of memory")
    assert found == {("grow", 1): "done", ("grow", 2): "done"}


@pytest.mark.parametrize("limited", [True, False])
def test_what_a_worker_holds_at_rest_is_not_the_jobs(limited):
    found = outcomes([("grow", 3)], warm_up=warm_up_large, limit_address_space=limited)
    assert found == {("grow", 3): "done"}


def test_a_limit_that_the_user_has_set_stays(script):
    body = """
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 4 << 30))
print(outcomes([("limits",)], worker_limits=WorkerLimits(memory_mb=1 << 20)))
"""
    out, err = script(body).communicate(timeout=30)
    assert str((3 << 30, 4 << 30)) in out, err
    soft, hard = outcomes([("limits",)])[("limits",)]
    assert soft > SMALL.memory_mb << 20
    assert hard == resource.getrlimit(resource.RLIMIT_AS)[1]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/out.piece"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/gone"),
    ],
)
def test_an_error_that_is_not_the_videos_fault_ends_the_run_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        outcomes([("say", 1), ("fail", error), *(("nap", 0.1, number) for number in range(50))], workers=2)
    assert (caught.value.errno, caught.value.filename) == (error.errno, error.filename)
    assert "jobs.py" in str(caught.value.__cause__)  # where in the worker
    assert multiprocessing.active_children() == []


def test_an_error_that_cannot_be_pickled_ends_the_run_with_its_text():
    with pytest.raises(RuntimeError, match="OddError"):
        outcomes([("fail_oddly",)])


def test_an_error_in_the_warm_up_ends_the_run():
    with pytest.raises(FileNotFoundError):
        outcomes([("say", 1)], warm_up=partial(os.stat, "/nowhere"))


def test_workers_that_never_get_to_work_end_the_run_with_one_line():
    with pytest.raises(UserError, match="--workers"):
        outcomes([("say", 1)], workers=2, warm_up=partial(os._exit, 5))
    assert multiprocessing.active_children() == []


def test_a_job_whose_second_attempt_succeeds_has_a_result(tmp_path):
    job = ("die_once", str(tmp_path / "tried"))
    assert outcomes([job, ("say", 1)], workers=2) == {job: "done", ("say", 1): 1}


def test_many_small_jobs_are_done_once_each():
    jobs = [("say", number) for number in range(2000)]
    assert outcomes(jobs, workers=2) == {job: job[1] for job in jobs}


def test_no_job_waits_for_a_worker_while_another_has_nothing_to_do(tmp_path):
    jobs = [("meet", str(tmp_path), name, 3) for name in "abc"]
    assert outcomes(jobs, workers=3) == dict.fromkeys(jobs, "met")


def test_no_jobs_need_no_workers():
    assert outcomes([], workers=2) == {}


def test_jobs_are_taken_as_they_are_needed():
    taken = 0

    def endless():
        nonlocal taken
        for job in repeat(("say", 1)):
            taken += 1
            yield job

    running = supervise(endless(), act, workers=2, worker_limits=SMALL)
    for given in range(1, 20):
        next(running)
        assert taken <= given + 2 * 2 + 3  # two for each worker, and those that wait
    running.close()


def test_a_run_that_is_given_up_leaves_nothing_behind():
    environment_before = dict(os.environ)
    outcomes([("say", 1)])  # what multiprocessing keeps for ever is there from now on
    open_before = len(os.listdir("/proc/self/fd"))
    running = supervise(repeat(("nap", 0.1)), act, workers=2, worker_limits=SMALL)
    pids = [next(running)[1] for _ in range(6)]
    assert dict(os.environ) == environment_before
    running.close()
    assert multiprocessing.active_children() == []
    assert not any(alive(pid) for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_worker_uses_one_thread():
    assert outcomes([("threads",)]) == {("threads",): ["1"] * len(ONE_THREAD)}


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(script):
    body = """
jobs = [("nap", 0), ("nap", 0), ("hang", "in C"), ("hang", "in Python"), ("hang", "in C"), ("hang", "stopped")]
for count, _ in enumerate(supervise(jobs, act, workers=4, worker_limits=WorkerLimits())):
    if count == 1:
        time.sleep(1.5)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""
    with script(body) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        time.sleep(1)  # every hang has begun
        assert len(workers) == 4
        assert all(alive(pid) for pid in workers)
        process.kill()
        end = time.monotonic() + 2
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < end, "a worker is still there"
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "delay"),
    [(signal.SIGINT, delay) for delay in (0.0, 0.1, 0.4, 1.5)] + [(signal.SIGTERM, 0.4)],
)  # workers are being started, are loading, or work
def test_ctrl_c_ends_the_run_without_a_word_from_a_worker(script, number, delay):
    body = """
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as preprocess.common.command does
try:
    print("go", flush=True)
    for _ in supervise(repeat(("nap", 0.05)), act, workers=3, worker_limits=WorkerLimits()):
        pass
except KeyboardInterrupt:
    print(multiprocessing.active_children(), flush=True)
"""
    process = script(body)
    assert process.stdout.readline() == "go\n"
    time.sleep(delay)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=20)  # which ends when the last worker has closed its stderr
    assert (out, err) == ("[]\n", "")


def test_a_worker_that_is_loading_is_deaf_to_ctrl_c(script):
    body = """
def interrupt():
    time.sleep(0.3)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGINT)
threading.Thread(target=interrupt).start()
print(len(outcomes([("say", number) for number in range(3)], workers=3)))
"""
    out, err = script(body).communicate(timeout=20)
    assert (out, err) == ("3\n", "")


def test_a_bug_of_the_caller_does_not_keep_the_process_from_ending(script):
    body = """
running = supervise(repeat(("nap", 0.05)), act, workers=2, worker_limits=WorkerLimits())
next(running)
raise ZeroDivisionError("a bug of the caller")
"""
    process = script(body)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.strip().endswith("ZeroDivisionError: a bug of the caller")
