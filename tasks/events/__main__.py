"""Find when what happens in long videos: training, prediction, judging, and what each stream is worth.

    python -m preprocess.extract long/ long.h5
    python -m tasks.events cut long.h5 events.csv parts.h5            # events.csv: video, start, end, label
    python train.py --data parts.h5 --run runs/parts                  # towers, from the parts
    python -m tasks.events train --data long.h5 --labels events.csv --init runs/parts --out runs/events
    python -m tasks.events predict runs/events new.mp4 --out found
    python -m tasks.events evaluate runs/events --data test.h5 --labels test.csv

Without --init, train cuts and trains the towers by itself. NAME --help shows the options of each.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.events.settings import AblateEvents, CutEvents, EvaluateEvents, EventsSettings, PredictEvents, TrainEvents


def main(settings: EventsSettings | None = None) -> int | None:
    settings = settings or parse_command(EventsSettings, prog="python -m tasks.events", doc=__doc__)
    match settings.do:  # each loads PyTorch, for which --help must not wait
        case TrainEvents():
            from tasks.events.train import train_detector

            train_detector(settings.do)
        case PredictEvents():
            from tasks.events.predict import predict

            return predict(settings.do)
        case EvaluateEvents():
            from tasks.events.evaluate import evaluate

            evaluate(settings.do)
        case AblateEvents():
            from tasks.events.ablate import ablate

            ablate(settings.do)
        case CutEvents():
            from tasks.events.train import cut

            cut(settings.do)
    return None


if __name__ == "__main__":
    run_command(main)
