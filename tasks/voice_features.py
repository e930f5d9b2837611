"""Features of voices, for tasks.probe or preprocess.features_store: pitch, loudness, timbre, rhythm of each recording.

    python -m tasks.voice_features speech/ voice.npz
    python -m tasks.voice_features speech/ voice.npz --speaker '^..'       # 03a01Fa.wav is of speaker 03
    python -m tasks.probe train voice.npz labels.csv emotion.npz --group speaker

speech/ holds files of sound, or videos, also in folders. voice.npz has a row a file: name (its path without the
suffix), speaker, and the streams prosody, timbre, quality and rhythm.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError
from preprocess.common.files import write_aside

LONGEST = 600.0  # seconds; of an hour, statistics over all of it say little


@dataclass(frozen=True)
class VoiceSettings:
    """The command line of tasks.voice_features."""

    sounds: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOUNDS")]
    """folder of files of sound, or of videos"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """.npz file to write"""
    speaker: str | None = None
    """regular expression for the speaker in a file's path below the folder: what its group, or else all of it, matches;
    '^..' is the first two letters, '^([^/]+)/' the first folder"""


def voice_file(settings: VoiceSettings) -> int:
    """Write the features of every file of a folder; 1 if some could not be used, else 0.

    Raises UserError if there is none, a name has no speaker, or nothing can be written.
    """
    if not settings.out.parent.is_dir() or settings.out.is_dir():
        raise UserError(f"cannot write {settings.out}: name a file in a folder that exists")
    files = files_below(settings.sounds, but=settings.out)
    names = [file.relative_to(settings.sounds).with_suffix("").as_posix() for file in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two files of {settings.sounds} are called {twice}, with different suffixes: rename one")
    speakers = None if settings.speaker is None else [speaker_of(name, settings.speaker) for name in names]
    found, failed = {}, 0
    for row, file in enumerate(progress(files, unit="file", leave=False)):
        try:
            found[row] = features_of(file)
        except UserError as error:
            failed += 1
            print(f"passed over {error}", file=sys.stderr)
    if not found:
        raise UserError(f"no file of {settings.sounds} has a voice that can be used")
    arrays = {"name": np.array([names[row] for row in found])}
    if speakers is not None:
        arrays["speaker"] = np.array([speakers[row] for row in found])
    first = next(iter(found.values()))
    arrays |= {stream: np.stack([one[stream] for one in found.values()]) for stream in first}
    write_aside(settings.out, lambda part: _save(part, arrays))
    sizes = ", ".join(f"{name} {len(values)}" for name, values in first.items())
    print(f"wrote {settings.out}: {plural(len(found), 'file')}, {sizes} features")
    return 1 if failed else 0


def files_below(root: Path, *, but: Path) -> list[Path]:
    """The visible files below a folder, in the order of their names.

    Raises UserError if there are none.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    below = (file for file in root.rglob("*") if file.is_file() and file != but)
    files = sorted(file for file in below if not any(part.startswith(".") for part in file.relative_to(root).parts))
    if not files:
        raise UserError(f"there is no file in {root}")
    return files


def speaker_of(name: str, pattern: str) -> str:
    """Raises UserError if the pattern is none, or does not match."""
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(f"--speaker '{pattern}' is no regular expression ({error})") from error
    if match is None or not (match[1] if match.re.groups else match[0]):
        raise UserError(f"--speaker '{pattern}' finds no speaker in {name}")
    return match[1] if match.re.groups else match[0]


def features_of(file: Path) -> dict[str, np.ndarray]:
    """Stream → (D,) float32.

    Raises UserError if the file has no sound that can be used.
    """
    from preprocess.common.stopwatch import Stopwatch
    from preprocess.video.decoded import Samples
    from preprocess.video.limits import Limits, Unusable
    from preprocess.video.sound_only import SoundDecoder
    from tasks.probe.voice import voice_features

    limits = Limits(sound_only=True, max_seconds=LONGEST)
    decoder = SoundDecoder(str(file), fps=25, short_side=32, watch=Stopwatch(), limits=limits)
    try:
        heard: Sequence[np.ndarray] = [one.samples for one in decoder if isinstance(one, Samples) and one.there]
        if decoder.audio_absent is not None:
            raise ValueError(decoder.audio_absent)
        return voice_features(np.concatenate(heard) if heard else np.zeros(0, np.float32))
    except (Unusable, ValueError) as error:
        raise UserError(f"{file}: {error}") from error


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # numpy.savez would give a path another name
        np.savez_compressed(file, **arrays)


def main(settings: VoiceSettings | None = None) -> int:
    settings = settings or parse_command(VoiceSettings, prog="python -m tasks.voice_features", doc=__doc__)
    return voice_file(settings)


if __name__ == "__main__":
    run_command(main)
