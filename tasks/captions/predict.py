"""Captions of new videos, as text, tables and subtitles."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fusion.training.run import write_json
from preprocess.common.console import with_progress
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from tasks.captions.captioner import Captioner, load_captioner, write_captions
from tasks.captions.settings import PredictCaption
from tasks.folder import output_folder
from tasks.sources import Named, check_keys, named_videos, open_source

LONGEST = 40  # letters of a name beside a progress bar
WHOLE = 1.5  # a video of so many windows at most is told as a whole


@dataclass(frozen=True)
class Told:
    """What is told of a part of a video; an empty text where none of the streams is there."""

    start: float  # seconds
    end: float
    text: str
    score: float  # natural log of the sentence's probability


def predict(settings: PredictCaption) -> int:
    """Write captions, print them; 1 if a video could not be used, else 0.

    Raises UserError if there is nothing to do, or the captioner cannot do it.
    """
    if not settings.videos:
        raise UserError("no video named: give one or more files, folders or stores after the captioner")
    at_least(1, beam=settings.beam)
    captioner = load_captioner(settings.captioner, device=settings.device)
    streams = captioner.model.choose(settings.streams)
    captioner.model.spacing(length=settings.length, hop=settings.hop)
    videos = named_videos(settings.videos, parameters=captioner.model.parameters)
    check_keys(videos)
    found: dict[str, list[Told]] = {}
    failures = 0
    with output_folder(settings.out or Path.cwd()):
        for number, one in enumerate(videos, start=1):
            bar = f"{number}/{len(videos)} {one_line(one.name)[-LONGEST:]}"
            shape = {"length": settings.length, "hop": settings.hop, "beam": settings.beam, "bar": bar}
            try:
                parts = tell_one(captioner, one, [streams], **shape)[streams]
            except UserError as error:
                failures += 1
                print(f"error: {one_line(str(error))}", file=sys.stderr)
                continue
            found[one.key] = parts
            for part in parts:
                print(f"{one_line(one.name)}  {part.start:7.2f} – {part.end:7.2f} s  {part.text}")
        if settings.out and found:
            write_told(settings.out, found)
    return 1 if failures else 0


def tell(
    captioner: Captioner, videos: Sequence[Named], subsets: Sequence[tuple[str, ...]], *, beam: int, bar: str
) -> dict[tuple[str, ...], dict[str, list[Told]]]:
    """subset → video → what is told of its windows, from that subset of its streams."""
    told = {subset: {} for subset in subsets}
    for one in with_progress(videos, unit="video", name=bar, total=len(videos)):
        for subset, parts in tell_one(captioner, one, subsets, beam=beam).items():
            told[subset][one.video] = parts
    return told


def tell_one(
    captioner: Captioner,
    one: Named,
    subsets: Sequence[tuple[str, ...]],
    *,
    beam: int,
    length: float | None = None,
    hop: float | None = None,
    bar: str | None = None,
) -> dict[tuple[str, ...], list[Told]]:
    """What is told of one video's windows, from each subset of its streams; each window is encoded once.

    Raises UserError for a video that cannot be used.
    """
    told: dict[tuple[str, ...], list[Told]] = {subset: [] for subset in subsets}
    with open_source(one.source, video=one.video, parameters=captioner.model.parameters, bar=bar) as opened:
        (video,) = opened.videos
        if length is None and hop is None and video.seconds < WHOLE * captioner.seconds:
            length = max(video.seconds, captioner.model.seconds)
        for windows in captioner.windows(opened.store, video=video.path, length=length, hop=hop):
            for subset in subsets:
                there = [windows.present[name] for name in subset]
                said = write_captions(captioner, windows, streams=subset, beam=beam)
                for row, ((start, end), (text, score)) in enumerate(zip(windows.times.tolist(), said, strict=True)):
                    seen = any(bool(part[row]) for part in there)
                    told[subset].append(Told(start, end, text if seen else "", score if seen else 0.0))
    return told


def write_told(folder: Path, found: dict[str, list[Told]]) -> None:
    """Write captions.json, captions.csv, and for each video its subtitles."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: parts[0].text for key, parts in found.items() if len(parts) == 1}
    several = {key: [asdict(part) for part in parts] for key, parts in found.items() if len(parts) != 1}
    write_json(folder / "captions.json", whole | several)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["video", "start", "end", "caption", "score"])
    rows.writerows(
        [key, f"{one.start:.3f}", f"{one.end:.3f}", one.text, f"{one.score:.4f}"] for key, one in _all(found)
    )
    write_aside(folder / "captions.csv", lambda part: part.write_text(table.getvalue(), encoding="utf-8"))
    for key, parts in found.items():
        path = folder / f"{key}.vtt"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = as_vtt(parts)
        write_aside(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
    print(f"wrote {folder}/captions.json, captions.csv, and for each video subtitles (.vtt)")


def as_vtt(parts: Sequence[Told]) -> str:
    """WebVTT; where windows overlap, a caption ends when the next begins, and one that goes on is a single cue."""
    cues: list[Told] = []
    for one, after in zip(parts, [*parts[1:], None], strict=True):
        end = one.end if after is None else min(one.end, max(after.start, one.start))
        if cues and cues[-1].text == one.text and abs(cues[-1].end - one.start) < 1e-3:
            cues[-1] = Told(cues[-1].start, end, one.text, one.score)
        elif one.text:
            cues.append(Told(one.start, end, one.text, one.score))
    return "\n\n".join(["WEBVTT", *(f"{_clock(cue.start)} --> {_clock(cue.end)}\n{cue.text}" for cue in cues)]) + "\n"


def _all(found: dict[str, list[Told]]) -> Iterator[tuple[str, Told]]:
    return ((key, part) for key, parts in found.items() for part in parts)


def _clock(seconds: float) -> str:
    """3723.5 → 01:02:03.500"""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
