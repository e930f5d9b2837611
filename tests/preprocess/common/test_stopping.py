"""Ctrl-C is never lost, and never a traceback."""

import signal
import subprocess
import sys
import threading

import pytest

from preprocess.common.stopping import Stopping
from tests.support.commands import environment


class Signalled:
    """Gets Ctrl-C while it is taken down, where Python drops an exception."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_destructor_is_not_lost():
    with Stopping().listening() as stopping:
        stopping.check()
        Signalled()
        with pytest.raises(KeyboardInterrupt):
            stopping.check()


def test_the_first_signal_is_answered_once_and_a_later_one_interrupts(monkeypatch, capfd):
    monkeypatch.setattr("preprocess.common.stopping.AGAIN", 0.0)
    with Stopping(answer="stopping soon").listening() as stopping:
        signal.raise_signal(signal.SIGTERM)
        assert stopping.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.split("\n") == ["", "stopping soon", ""]


def test_what_a_shell_told_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopping().listening() as stopping:
            signal.raise_signal(signal.SIGINT)
            assert not stopping.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_that_hears_of_no_signal_may_listen():
    def listen() -> None:
        with Stopping().listening() as stopping:
            done.append(stopping.asked)

    done: list[bool] = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert done == [False]


def test_ctrl_c_while_a_command_loads_its_modules_is_one_line():
    code = "from preprocess.common.stopping import stop_at_once; stop_at_once(); print('go', flush=True)\n"
    code += "import time; time.sleep(60)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(), **pipes)
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "\nstopped\n")
