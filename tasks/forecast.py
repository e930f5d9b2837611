"""Foresee the next frames of videos: training, forecasts, judging beside floors, and errors as a score of anomaly.

    python -m tasks.forecast train videos/ --held other/ --out runs/future     # or .npz files, stores
    python -m tasks.forecast predict runs/future new.mp4 --film new-future.mp4 --pictures strips/
    python -m tasks.forecast predict runs/future sequences.npz --out pred.npz
    python -m tasks.forecast predict runs/future new.mp4 --scores scores.csv   # how unexpected each frame was
    python -m tasks.forecast evaluate runs/future test.npz                     # beside the warp by flow, and others

An .npz file holds `frames`, (N, T, H, W) or (N, T, H, W, 3) uint8. NAME --help shows the options of each.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.forecasting.settings import EvaluateForecast, ForecastSettings, PredictForecast, TrainForecast


def main(settings: ForecastSettings | None = None) -> int | None:
    settings = settings or parse_command(ForecastSettings, prog="python -m tasks.forecast", doc=__doc__)
    match settings.do:  # each loads PyTorch, for which --help must not wait
        case TrainForecast():
            from tasks.forecasting.train import train

            train(settings.do)
        case PredictForecast():
            from tasks.forecasting.predict import predict

            predict(settings.do)
        case EvaluateForecast():
            from tasks.forecasting.evaluate import evaluate

            evaluate(settings.do)
    return None


if __name__ == "__main__":
    run_command(main)
