"""Export a run: one file a stream and one for fusion. ONNX files need neither PyTorch nor this project to run.

    python -m tasks.export runs/NAME out/
    python -m tasks.export runs/NAME out/ --format pt2        # programs of torch.export; aoti compiles them
    python -m tasks.export runs/NAME out/ --page video.mp4    # also index.html, which runs it in a browser
    python -m tasks.predict out/ video.mp4          # the same answer as the run's

Batch and length vary freely; fusion takes which streams are present, so that one file answers for every subset. Each
file says its classes, clips and units. docs/export.md tells more.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from functools import partial

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError
from tasks.exported.parity import largest_difference
from tasks.exported.settings import ExportSettings
from tasks.exported.write import write_parts
from tasks.model import load


def main(settings: ExportSettings | None = None) -> int:
    settings = settings or parse_command(ExportSettings, prog="python -m tasks.export", doc=__doc__)
    model = load(settings.run, weights=settings.weights, device="cpu")
    model.check_classifier()
    more = None
    if settings.page and settings.format != "onnx":
        raise UserError(f"--page runs ONNX files, not --format {settings.format}: leave one of them out")
    if settings.page:
        from tasks.exported.page import read_example, write_page
        from tasks.exported.runtime import runtime_files

        example = read_example(model, settings.page)
        more = partial(write_page, model=model, example=example, runtime=runtime_files())
    names = write_parts(model, settings.out, kind=settings.format, more=more)
    print(f"{settings.out}: {', '.join(names)}")
    if settings.page:
        print(f"open {settings.out / 'index.html'} in a browser")
    worst = largest_difference(model, settings.out)
    print(f"largest difference from PyTorch on random clips, over all subsets: {worst:.1e}")
    return 0


if __name__ == "__main__":
    run_command(main)
