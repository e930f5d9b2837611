"""Sentences about videos: an LSTM or a Transformer that looks at three streams, or a language model told of them.

    python -m preprocess.extract clips/ clips.h5
    python -m tasks.caption train --data clips.h5 --captions captions.csv        # columns video, caption
    python -m tasks.caption predict runs/captions new.mp4
    python -m tasks.caption predict runs/captions long.mp4 --length 4 --out told # captions.json, .csv, subtitles
    python -m tasks.caption predict runs/captions new.mp4 --streams rgb,flow     # as if there were no sound
    python -m tasks.caption evaluate runs/captions --data test.h5 --captions test.csv
    python -m tasks.caption train --init runs/NAME --freeze                      # encoders of a trained run
    python -m tasks.caption train --decoder hf:FOLDER                            # a causal language model

NAME --help shows the options of each.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.captions.settings import CaptionSettings, EvaluateCaption, PredictCaption, TrainCaption


def main(settings: CaptionSettings | None = None) -> int | None:
    settings = settings or parse_command(CaptionSettings, prog="python -m tasks.caption", doc=__doc__)
    match settings.do:  # each loads PyTorch, for which --help must not wait
        case TrainCaption():
            from tasks.captions.train import train_captioner

            train_captioner(settings.do)
        case PredictCaption():
            from tasks.captions.predict import predict

            return predict(settings.do)
        case EvaluateCaption():
            from tasks.captions.evaluate import evaluate

            evaluate(settings.do)
    return None


if __name__ == "__main__":
    run_command(main)
