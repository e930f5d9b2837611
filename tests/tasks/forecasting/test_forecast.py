"""The command, as a user types it."""

import csv
import json

import av
import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.forecast import main
from tasks.forecasting.evaluate import evaluate
from tasks.forecasting.forecaster import WEIGHTS, load_forecaster
from tasks.forecasting.sequences import read_sequences
from tasks.forecasting.settings import (
    EvaluateForecast,
    ForecastRecipe,
    ForecastSettings,
    PredictForecast,
    TrainForecast,
)

TINY = ForecastRecipe(past=3, future=4, size=16, width=8, depth=1, passes=1, hop=4)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Three sequences of twelve colour frames."""
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    still = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16, 3), dtype=np.uint8)
    np.savez(path, frames=np.concatenate([np.roll(still, step, axis=3) for step in range(12)], axis=1))
    return path


@pytest.fixture(scope="module")
def forecaster(arrays, store, videos, tmp_path_factory):
    """Learned from arrays, a store and a folder of videos together."""
    out = tmp_path_factory.mktemp("runs") / "future"
    main(ForecastSettings(TrainForecast((arrays, store.path, videos), out=out, held=arrays, recipe=TINY, device="cpu")))
    return out


def test_a_store_and_its_video_give_the_same_frames(store, videos):
    recipe = ForecastRecipe(past=3, future=4, size=16, flow=False, colour=True)
    one = store.find("one.mkv")
    (video,) = read_sequences([videos / "one.mkv"], recipe)
    stored = {sequence.name: sequence for sequence in read_sequences([store.path], recipe)}[one.path]
    assert video.frames.shape == stored.frames.shape == (24, 16, 16, 3)
    assert np.abs(video.frames.astype(int) - stored.frames).mean() < 6  # JPEG, and another way to the size


def test_evaluation_gives_the_floors_their_known_errors(forecaster, arrays, capsys):
    found = evaluate(EvaluateForecast(forecaster, (arrays,), device="cpu"))
    report = json.loads((forecaster / "evaluation" / "report.json").read_text())
    frames = read_sequences([arrays], TINY)[0].frames[:7] / 255
    expected = sum(((frames[2] - frames[3 + step]) ** 2).sum() for step in range(4)) / 4
    assert found["last frame"].mse[0].mean() == pytest.approx(expected, rel=1e-5)
    assert found["black"].mse[0, 3] == pytest.approx((frames[6] ** 2).sum(), rel=1e-5)
    assert report["windows"] == len(found["forecaster"].mse) == 6  # two of each sequence
    assert report["scores"]["forecaster"]["mse"] == pytest.approx(found["forecaster"].mse.mean())
    assert "warp by flow" in capsys.readouterr().out
    (line,) = csv.DictReader((forecaster / "curve.csv").open())  # `held` was the same, with windows at the same places
    assert float(line["held_mse"]) == pytest.approx(found["forecaster"].mse.mean(), abs=1e-3)
    assert float(line["held_floor_mse"]) == pytest.approx(found["warp by flow"].mse.mean(), abs=1e-3)
    assert load_forecaster(forecaster, device="cpu").recipe == TINY


def test_forecasts_come_as_arrays_pictures_a_film_and_errors_of_frames(forecaster, videos, tmp_path):
    out, film, scores = tmp_path / "pred.npz", tmp_path / "film.mp4", tmp_path / "scores.csv"
    asked = PredictForecast(forecaster, (videos / "one.mkv",), out=out, film=film, scores=scores, step=2, device="cpu")
    main(ForecastSettings(asked))
    arrays = np.load(out)
    assert arrays["pred"].shape == (5, 4, 16, 16) and arrays["pred"].dtype == np.uint8
    assert arrays["start"].tolist() == [0, 4, 8, 12, 16]
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == 5 * 7
    lines = list(csv.DictReader(scores.open()))
    assert [int(line["frame"]) for line in lines] == list(range(4, 24))
    (sequence,) = read_sequences([videos / "one.mkv"], TINY)
    error = ((arrays["pred"][1, 1] / 255 - sequence.frames[4 + 3 + 1, ..., 0] / 255) ** 2).mean()
    assert float(lines[4]["error"]) == pytest.approx(error, abs=2e-4)  # pred is rounded to 8 bit
    assert all(float(line["peak"]) >= float(line["error"]) for line in lines)


def test_what_comes_after_the_end_is_forecast_without_a_truth(forecaster, arrays, tmp_path):
    places = {"out": tmp_path / "p.npz", "pictures": tmp_path / "strips"}
    main(ForecastSettings(PredictForecast(forecaster, (arrays,), **places, after_end=True, most=1, device="cpu")))
    assert np.load(tmp_path / "p.npz")["start"].tolist() == [9, 9, 9]
    assert [path.name for path in (tmp_path / "strips").iterdir()] == ["001.png"]


def test_wrong_input_is_one_line_that_names_it(forecaster, arrays, tmp_path):
    other, short, damaged = (tmp_path / name for name in ("other.npz", "short.npz", "damaged.npz"))
    np.savez(other, frames=np.zeros((2, 12, 16, 16), np.float32))
    np.savez(short, frames=np.zeros((2, 6, 16, 16), np.uint8))
    damaged.write_bytes(arrays.read_bytes()[:200])
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / WEIGHTS).write_bytes((forecaster / WEIGHTS).read_bytes()[:-9])
    out = tmp_path / "out"
    wrong = {
        "other.npz": EvaluateForecast(forecaster, (other,)),
        "longest of 2 sequences 6": EvaluateForecast(forecaster, (short,)),
        "damaged.npz": EvaluateForecast(forecaster, (damaged,)),
        "none.mp4": EvaluateForecast(forecaster, (tmp_path / "none.mp4",)),
        "holds no forecaster": EvaluateForecast(tmp_path, (arrays,)),
        "is damaged": EvaluateForecast(broken, (arrays,)),
        "nothing to write": PredictForecast(forecaster, (arrays,)),
        "--step 5": PredictForecast(forecaster, (arrays,), scores=tmp_path / "s.csv", step=5),
        "ends with .mp4": PredictForecast(forecaster, (arrays,), film=tmp_path / "film.avi"),
        "holds a forecaster": TrainForecast((arrays,), out=forecaster, recipe=TINY),
        "--network 'gan'": TrainForecast((arrays,), out=out, recipe=ForecastRecipe(network="gan")),
        "--size": TrainForecast((arrays,), out=out, recipe=ForecastRecipe(size=30)),
        "no sequence named": TrainForecast((), out=out, recipe=TINY),
    }
    for named, do in wrong.items():
        with pytest.raises(UserError) as caught:
            main(ForecastSettings(do))
        assert named in str(caught.value) and "\n" not in str(caught.value)
    assert not out.exists() and not list(tmp_path.glob("*.part"))
