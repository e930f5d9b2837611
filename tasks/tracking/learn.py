"""Teach a Faster R-CNN your own boxes, as a detector for tasks.track.

    python -m tasks.tracking.learn videos/ --boxes boxes/                    # videos/a.mp4 with boxes/a.txt or a.json
    python -m tasks.tracking.learn videos/ --boxes boxes/ --pretrained       # from torchvision's weights of COCO
    python -m tasks.track new.mp4 --detector detector.safetensors --film new.boxes.mp4

Boxes are MOTChallenge's text (frame from 1, id, x, y, w, h; one class) or COCO's JSON with its categories, in pixels of
the video as it is shown. The loss is torchvision's own. Needs pip install 'tristream[torchvision]'.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.tracking.settings import LearnSettings


def main(settings: LearnSettings | None = None) -> int:
    settings = settings or parse_command(LearnSettings, prog="python -m tasks.tracking.learn", doc=__doc__)
    from tasks.tracking.training import train_detector  # loads PyTorch, for which --help must not wait

    train_detector(settings)
    return 0


if __name__ == "__main__":
    run_command(main)
