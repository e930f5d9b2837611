"""Find what moves, or what a detector knows, in a video, and follow it: boxes with numbers, a film, clips.

    python -m tasks.track video.mp4 --film boxes.mp4 --mot tracks.txt        # what moves unlike the camera
    python -m tasks.track video.mp4 --detector background --coco tracks.json # a camera that stands still
    python -m tasks.track video.mp4 --detector fasterrcnn                    # torchvision's, with its weights of COCO
    python -m tasks.track video.mp4 --detector detector.safetensors          # your own: tasks.tracking.learn
    python -m tasks.track video.mp4 --boxes det.txt                          # any detector's boxes: MOT text, COCO JSON
    python -m tasks.track --boxes det.txt --fps 30 --mot tracks.txt          # without pictures
    python -m tasks.track video.mp4 --clips clips/ --run runs/NAME           # who does what, when
    python -m tasks.track video.mp4 --truth gt.txt                           # MOTA, IDF1, HOTA, AP

A table of the longest tracks is always printed; nothing is written that is not asked for.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.tracking.settings import TrackSettings


def main(settings: TrackSettings | None = None) -> int:
    settings = settings or parse_command(TrackSettings, prog="python -m tasks.track", doc=__doc__)
    from tasks.tracking.run import run  # loads NumPy and more, for which --help must not wait

    return run(settings)


if __name__ == "__main__":
    run_command(main)
