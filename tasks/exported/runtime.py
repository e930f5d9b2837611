"""onnxruntime for browsers: fetched once by the user's npm, checked, and kept in a cache."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64decode
from pathlib import Path

from preprocess.common.errors import UserError, one_line
from preprocess.common.files import remove_folder

NAME, VERSION = "onnxruntime-web", "1.30.0"  # MIT
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm states it
SCRIPT, LOADER, PROGRAM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
FILES = (SCRIPT, LOADER, PROGRAM)
SECONDS = 300  # that npm may take


def runtime_files() -> dict[str, Path]:
    """FILES in the cache, ~/.cache/tristream or below XDG_CACHE_HOME, where npm puts them on the first call.

    Raises UserError if there is no npm, if it fails, or if the package is not the one that is known.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "tristream" / f"{NAME}-{VERSION}"
    found = {name: folder / name for name in FILES}
    if not all(path.is_file() for path in found.values()):
        _fetch(folder)
    return found


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--page depends on {NAME}, which npm fetches: install Node.js with npm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        command = [npm, "pack", f"{NAME}@{VERSION}", "--silent"]
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"npm has not fetched {NAME} in {SECONDS} s: is there a network?") from error
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise UserError(f"npm cannot fetch {NAME}@{VERSION} ({one_line(done.stderr.strip()[-200:])})")
        part = Path(place, "part")
        part.mkdir()
        _unpack(archives[0], part)
        remove_folder(folder)  # one that lacks a file
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise


def _unpack(archive: Path, folder: Path) -> None:
    """Raises UserError for another package than the known one."""
    if hashlib.sha512(archive.read_bytes()).digest() != b64decode(SHA512):
        raise UserError(f"what npm calls {NAME}@{VERSION} is not the package that it was: is the registry a mirror?")
    with tarfile.open(archive) as package:
        for name in FILES:
            held = package.extractfile(f"package/dist/{name}")
            assert held is not None
            (folder / name).write_bytes(held.read())
