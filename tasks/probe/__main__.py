"""Emotions, valence and arousal, or anything else, from features: a linear probe, judged by leaving groups out.

    python -m tasks.voice_features speech/ voice.npz --speaker '^..'           # features of voices …
    python -m tasks.features runs/NAME videos/ features.npz                    # … or of a trained run

    python -m tasks.probe train voice.npz labels.csv emotion.npz --group speaker --standardise
    python -m tasks.probe predict emotion.npz new.npz --group speaker --csv answers.csv
    python -m tasks.probe evaluate emotion.npz new.npz new.csv --group speaker

    python -m tasks.probe train features.npz va.csv va.npz --targets valence arousal --group film

labels.csv has the columns name and label, or columns of numbers, which are learned by their concordance (CCC); with a
column group (or --group) whole groups are set aside. Give one: the speaker, the film. NAME --help shows the options.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.probe.settings import EvaluateProbe, PredictProbe, ProbeSettings, TrainProbe


def main(settings: ProbeSettings | None = None) -> None:
    settings = settings or parse_command(ProbeSettings, prog="python -m tasks.probe", doc=__doc__)
    match settings.do:  # each loads PyTorch, for which --help must not wait
        case TrainProbe():
            from tasks.probe.train import train_probe

            train_probe(settings.do)
        case PredictProbe():
            from tasks.probe.answer import predict

            predict(settings.do)
        case EvaluateProbe():
            from tasks.probe.answer import evaluate

            evaluate(settings.do)


if __name__ == "__main__":
    run_command(main)
