"""What a command line says and returns when something goes wrong."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError
from tests.support.cases import case
from tests.support.commands import command, environment


def test_what_a_user_can_mend_is_one_line(capsys):
    for error, status, says in (
        (UserError("labels.csv line 3: no label"), 2, "error: labels.csv line 3: no label"),
        (UserError("there is no video a\nb.mp4"), 2, None),
        (
            FileNotFoundError(2, "No such file or directory", "gone.csv"),
            2,
            "error: No such file or directory: gone.csv",
        ),
        (OSError("unable to open file"), 2, "error: unable to open file"),
        (KeyboardInterrupt(), 130, "stopped"),
        *(
            (error, 2, "error: there is not enough memory: lower --batch, --size, --frames")
            for error in (
                MemoryError(),
                RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory\nmore"),
                RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB"),
                RuntimeError(
                    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
                    "dataloader's workers are out of shared memory. Please try to raise your limit."
                ),
                MemoryError(
                    "Caught MemoryError in DataLoader worker process 0.\nTraceback (most recent call last):\n"
                    "  File\nnumpy: Unable to allocate 3 GiB"
                ),
                OSError(12, "Cannot allocate memory"),
            )
        ),
    ):
        with case((error, status, says)):

            def main(error=error):
                raise error

            with pytest.raises(SystemExit) as ended:
                run_command(main)
            lines = capsys.readouterr().err.strip().splitlines()
            assert ended.value.code == status
            assert len(lines) == 1
            if says:
                assert lines[0].startswith(says)


def test_a_bug_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)

    def main():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run_command(main)


def test_the_status_is_what_main_returns():
    for returned, status in ((None, 0), (0, 0), (1, 1)):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda returned=returned: returned)
        assert ended.value.code == status


def test_names_that_a_terminal_cannot_show_are_escaped():
    code = "from preprocess.common.command import run_command; run_command(lambda: print('caf\\udce9 \\u7535'))"
    environ = environment() | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == r"caf\udce9 \u7535"


def test_a_reader_that_has_enough_is_no_error(extracted):
    process = subprocess.Popen(
        command("preprocess.info", extracted.store, "--json"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("module", ["extract", "info", "show", "synth", "merge", "check"])
def test_every_command_explains_itself(module):
    result = subprocess.run(
        command(f"preprocess.{module}", "--help"), env=environment(), capture_output=True, text=True
    )
    assert result.returncode == 0
    assert f"python -m preprocess.{module}" in result.stdout


@dataclass(frozen=True)
class Inner:
    deep: Path = Path("deep")


@dataclass(frozen=True)
class Outer:
    file: Path = Path("file")
    no_file: Path | None = None
    files: tuple[Path, ...] = ()
    texts: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)


def parse(monkeypatch, *arguments: str) -> Outer:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    return parse_command(Outer, prog="command", doc=None)


def test_a_home_folder_is_expanded_in_every_path_and_in_texts_that_hold_one(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    texts = ["--texts", "rgb=~/runs/rgb", "~/all", "flow=kinetics", "a~b", "lr=1e-4:1e-3"]
    paths = ["--file", "~/a b", "--files", "~/c", "d~", "--inner.deep", "~"]
    found = parse(monkeypatch, *texts, *paths)
    home = Path("/home/ada")
    assert (found.file, found.no_file, found.files) == (home / "a b", None, (home / "c", Path("d~")))
    assert found.inner.deep == home
    assert found.texts == ("rgb=/home/ada/runs/rgb", "/home/ada/all", "flow=kinetics", "a~b", "lr=1e-4:1e-3")


@pytest.mark.parametrize("address", ["http://a.org/v.mp4", "https://a.org/x?y=z", "rtsp://cam:554/1", "s3://bucket/v"])
def test_an_address_in_a_paths_place_is_named_as_such(monkeypatch, tmp_path, address):
    for arguments in (["--file", address], ["--files", "x", address], ["--texts", f"rgb={address}"]):
        with pytest.raises(UserError) as caught:
            parse(monkeypatch, *arguments)
        assert address in str(caught.value) and "download" in str(caught.value)
    monkeypatch.chdir(tmp_path)
    here = Path(address.replace("//", "/"))
    here.parent.mkdir(parents=True)
    here.touch()  # a folder may be called http:
    assert parse(monkeypatch, "--file", address).file == here
