"""Shorten videos to their key moments: a table with reasons, a film with its sound, pictures, a page.

    python -m tasks.summarise runs/NAME video.mp4                            # 15 % of it, as a table
    python -m tasks.summarise runs/NAME video.mp4 --share 30s --out short.mp4
    python -m tasks.summarise runs/events video.mp4 --page short.html        # a detector's folder (tasks.events)
    python -m tasks.summarise runs/NAME video.mp4 --frames pictures/         # the key moments as JPEGs
    python -m tasks.summarise runs/NAME video.mp4 --query audio              # by what is heard
    python -m tasks.summarise runs/events video.mp4 --query Archery          # only what shows this class
    python -m tasks.summarise runs/NAME videos/ --csv pieces.csv --json      # a store does too, but gives no film

Without --importance nothing is learned from people: a moment matters that is unusual and loud for its video, and,
if the run knows a background class or a detector is given, in which something happens.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.summary.settings import SummariseSettings


def main(settings: SummariseSettings | None = None) -> int:
    settings = settings or parse_command(SummariseSettings, prog="python -m tasks.summarise", doc=__doc__)
    from tasks.summary.run import run  # loads PyTorch, for which --help must not wait

    return run(settings)


if __name__ == "__main__":
    run_command(main)
