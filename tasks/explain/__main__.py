"""Explain an answer: which stream, when, where in the picture or the sound, and whether that can be believed.

    python -m tasks.explain runs/NAME video.mp4                   # shares of the streams, and where maps are strongest
    python -m tasks.explain runs/NAME video.mp4 --out why/        # explanation.png, explanation.json, maps.npz
    python -m tasks.explain runs/NAME video.mp4 --page why.html   # to look through in a browser
    python -m tasks.explain runs/NAME out.h5 --video v_Archery_g08_c01 --class Archery
    python -m tasks.explain runs/NAME video.mp4 --check           # maps of random weights; deletion and insertion

Shares are Shapley values: they add up to the answer. Maps are integrated gradients: they add up to the log-odds.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
from pathlib import Path

import numpy as np

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from tasks.explain.explain import Explanation, as_object, check_class, explain
from tasks.explain.page import write_page
from tasks.explain.picture import draw
from tasks.explain.settings import ExplainSettings
from tasks.explain.text import lines
from tasks.folder import check_output, output_folder
from tasks.model import Model, load
from tasks.sources import open_source

LONGEST = 40  # letters of a name beside a progress bar


def write_folder(found: Explanation, folder: Path) -> None:
    """Write the picture, the numbers, and the maps with the seconds of their steps."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(found, folder / "explanation.png")
    text = json.dumps(as_object(found), indent=1) + "\n"
    write_aside(folder / "explanation.json", lambda part: part.write_text(text, encoding="utf-8", errors="replace"))
    arrays = {name: values.cpu().numpy() for name, values in found.maps.values.items() if name in found.shares}
    arrays |= {f"{name}_seconds": found.clips.moments[name].cpu().numpy() for name in arrays}

    def save(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **arrays)

    write_aside(folder / "maps.npz", save)


def main(settings: ExplainSettings | None = None) -> None:
    settings = settings or parse_command(ExplainSettings, prog="python -m tasks.explain", doc=__doc__)
    at_least(1, views=settings.views, steps=settings.steps)
    if settings.page is not None:
        if settings.page.suffix.lower() != ".html":
            raise UserError(f"--page {settings.page} is no page: name a file that ends with .html")
        check_output(settings.page, option="--page")
    model = load(settings.run, weights=settings.weights, device=settings.device)
    model.check_classifier()
    model.choose(settings.streams)
    if settings.label is not None:
        check_class(model, settings.label)
    if settings.out is None:
        _explain(model, settings)
        return
    with output_folder(settings.out):
        write_folder(_explain(model, settings), settings.out)


def _explain(model: Model, settings: ExplainSettings) -> Explanation:
    """Explain, print, and write the page, for which the source has to be open."""
    bar = one_line(settings.source.name)[-LONGEST:]
    with open_source(settings.source, video=settings.video, parameters=model.parameters, bar=bar) as opened:
        if len(opened.videos) != 1:
            raise UserError(f"{settings.source} holds {len(opened.videos)} videos: name one with --video")
        found = explain(
            model,
            opened.store,
            opened.videos[0],
            label=settings.label,
            streams=settings.streams,
            views=settings.views,
            steps=settings.steps,
            measure=settings.check,
            name=opened.videos[0].path if opened.lasts else str(settings.source),
            bar=bar,
        )
    if settings.page is not None:
        write_page(settings.page, found, file=None if opened.lasts else settings.source)
    print(json.dumps(as_object(found), indent=1) if settings.json else "\n".join(lines(found)))
    return found


if __name__ == "__main__":
    run_command(main)
