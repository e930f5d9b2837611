"""Running the real command lines."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """As a user's, in a checkout that may not be installed."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python -m module …` to its end."""
    return subprocess.run(
        command(module, *arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=170,
    )


def assert_one_line_error(result: subprocess.CompletedProcess, *says: str, status: int = 2) -> None:
    """The run ended with `status`, and stderr is one line that begins with "error:" and holds every one of `says`."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == status, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error:")
    for text in says:
        assert text in lines[0]
