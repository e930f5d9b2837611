"""Command lines: settings from the arguments, one line for wrong input, an exit status."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TypeVar

import tyro

from preprocess.common.errors import UserError, one_line
from preprocess.common.files import ADDRESS, local_path
from preprocess.common.stopping import stop_by_exception

Settings = TypeVar("Settings")

ADDRESS_TOO = {"address": True}  # metadata of a setting that may be an address on the network

SHORT = "there is not enough memory: lower --batch, --size, --frames or --workers, if the command has them"
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "shared memory",
    "alloc_failed",
    "signal: killed",
)


def parse_command(settings: type[Settings], *, prog: str, doc: str | None, default: Settings | None = None) -> Settings:
    """The settings that the arguments give, with `~` expanded in paths.

    Args:
        doc: the first text of --help.
        default: the settings that the arguments change; without it, the class's own.

    Raises:
        UserError: an address on the network in a path's place.
    """
    more = {} if default is None else {"default": default}
    return _local(tyro.cli(settings, prog=prog, description=doc, config=(tyro.conf.FlagCreatePairsOff,), **more))


def _lacks_memory(error: Exception) -> bool:
    """True for an error of Python, NumPy, PyTorch, or a reading process that had no memory."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def _first_line(error: Exception) -> str:
    """The beginning of its message; of a DataLoader's, without the traceback before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return (lines[-1] if "Traceback" in str(error) else lines[0])[:120]


def _local(value: Settings) -> Settings:
    """The value with its paths expanded, also those in texts like ``rgb=~/runs/rgb``."""
    if isinstance(value, Path):
        return local_path(value)
    if isinstance(value, str):
        name, path = re.fullmatch(r"(\w+=)?(.*)", value, re.DOTALL).groups(default="")
        return f"{name}{local_path(path)}" if path.startswith("~") or ADDRESS.match(path) else value
    if isinstance(value, tuple):
        return tuple(_local(one) for one in value)
    if is_dataclass(value):
        paths = [field.name for field in fields(value) if field.metadata != ADDRESS_TOO]
        return replace(value, **{name: _local(getattr(value, name)) for name in paths})
    return value


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command line and end the process with its status.

    A UserError, an error of the operating system about a file, or a lack of memory becomes one line on stderr and
    status 2; Ctrl-C and SIGTERM become status 130. Any other exception is a bug of ours and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    stop_by_exception()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # sent by clusters: clean up as after Ctrl-C
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        status = 2
        text = str(error).split(f"{UserError.__module__}.UserError: ")[-1]  # a DataLoader puts a traceback before it
        print(f"error: {one_line(text)}", file=sys.stderr)
    except BrokenPipeError:  # the reader (`… | head`) has closed the pipe; keep Python from flushing into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        status = 2
        print(f"error: {SHORT} ({_first_line(error)})", file=sys.stderr)
    except OSError as error:
        status = 2
        if error.errno == errno.ENOMEM:
            print(f"error: {SHORT}", file=sys.stderr)
        elif error.strerror is None:  # h5py puts everything into the message
            print(f"error: {one_line(str(error))}", file=sys.stderr)
        else:
            print(one_line(f"error: {error.strerror}: {error.filename or 'no file named'}"), file=sys.stderr)
    except KeyboardInterrupt as stop:
        status = 130
        print(f"\nstopped{': ' if stop.args else ''}{stop}", file=sys.stderr)
    sys.exit(status)
