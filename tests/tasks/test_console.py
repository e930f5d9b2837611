"""The command tristream."""

import os
import subprocess
import sys

import pytest

from tasks.console import COMMANDS, docstring, start
from tests.support.commands import ROOT, environment

NO_TORCH = """
import sys
from tasks.console import start
try:
    start([sys.argv[1], "--help"])
except SystemExit as end:
    assert not end.code
print([name for name in ("torch", "cv2", "av", "matplotlib", "numba") if name in sys.modules])
"""


def test_the_overview_names_every_command(capsys):
    assert start(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", ["extract", "train", "evaluate", "ablate", "tune"])
def test_help_teaches_and_loads_nothing_heavy(name):
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, name], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr
    *shown, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert f"tristream {name} " in "\n".join(shown) and COMMANDS[name].usual not in "\n".join(shown)


def test_every_command_has_a_module_that_says_how_it_is_used():
    assert [name for name, command in COMMANDS.items() if command.usual not in docstring(command.module)] == []


def test_a_command_does_what_its_module_does_and_a_wrong_one_is_one_line(tmp_path):
    console = [sys.executable, "-c", "from tasks.console import main; main()"]
    settings = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True, "timeout": 170}
    made = subprocess.run(
        [*console, "synth", "videos", "--train", "8", "--test", "8", "--seconds", "0.4", "0.6"], **settings
    )
    assert made.returncode == 0, made.stderr
    assert len(os.listdir(tmp_path / "videos")) > 8
    for arguments, named in ((["sythn"], "sythn"), (["info", "none.h5"], "none.h5"), (["train"], "out.h5")):
        wrong = subprocess.run([*console, *arguments], **settings)
        (line,) = wrong.stderr.strip().splitlines()
        assert wrong.returncode == 2 and line.startswith("error:") and named in line
