"""Find what is unusual in surveillance video, knowing normal video alone: alarms, and where in the picture.

    python -m tasks.anomaly train normal/ runs/gate                       # videos in which nothing unusual happens
    python -m tasks.anomaly watch runs/gate new.mp4 --page alarms.html    # or folders, stores; --out alarms.csv, .vtt
    python -m tasks.anomaly watch runs/gate new.mp4 --false-alarms 0.1    # false alarms an hour that you put up with
    python -m tasks.anomaly watch runs/gate --live rtsp://192.168.0.20/stream1
    python -m tasks.anomaly evaluate runs/gate test/ truth.json

What moves and looks like nothing that moved in normal video is unusual (an image network, extra `pretrained`), and so
is what moves faster, and what sounds otherwise. Many videos: make a store first, with --short-side 240.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.anomaly.settings import AnomalySettings, EvaluateAnomaly, TrainAnomaly, WatchAnomaly


def main(settings: AnomalySettings | None = None) -> int | None:
    settings = settings or parse_command(AnomalySettings, prog="python -m tasks.anomaly", doc=__doc__)
    match settings.do:  # each loads PyTorch, for which --help must not wait
        case TrainAnomaly():
            from tasks.anomaly.train import train

            train(settings.do)
        case WatchAnomaly():
            from tasks.anomaly.watch import watch

            return watch(settings.do)
        case EvaluateAnomaly():
            from tasks.anomaly.evaluate import evaluate

            evaluate(settings.do)
    return None


if __name__ == "__main__":
    run_command(main)
