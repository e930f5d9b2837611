"""The networks, and that they learn."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from tasks.forecasting.forecaster import batch_of, see, untrained
from tasks.forecasting.networks import NETWORKS, ConvLSTMCell
from tasks.forecasting.sequences import FrameSequence
from tasks.forecasting.settings import ForecastRecipe
from tasks.forecasting.training import mean_errors, train_forecaster


def bars(count: int, *, seed: int) -> list[FrameSequence]:
    """A bright square goes right two pixels a frame, from anywhere, and comes in again: 8 frames of 16 x 16."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        frames = np.zeros((8, 16, 16, 1), np.uint8)
        top, left = rng.integers(0, 12), rng.integers(0, 16)
        for step in range(8):
            frames[step, top : top + 4, (left + 2 * step + np.arange(4)) % 16] = 255
        found.append(FrameSequence(str(number), frames, None, 25.0))
    return found


def test_an_untrained_network_gives_its_base_in_colour_and_any_size():
    for name, flow in product(NETWORKS, (False, True)):
        check_base(name, flow=flow)


def check_base(name: str, *, flow: bool) -> None:
    recipe = ForecastRecipe(network=name, past=3, future=4, size=12, colour=True, flow=flow, width=8, depth=2)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 12, 20, 3), dtype=np.uint8)
    motion = rng.normal(0, 1, (7, 2, 12, 20)).astype(np.float16) if flow else None
    chosen = batch_of([FrameSequence("a", frames, motion, 25.0)], [(0, 0)], recipe, length=3)
    seen = see(*chosen, recipe)
    answer = untrained(recipe, device="cpu").network(seen.past, seen.moved, seen.arrived)
    assert answer.shape == (1, 4, 3, 12, 20)
    torch.testing.assert_close(answer, seen.moved.expand_as(answer))


def test_the_forecast_of_a_turned_window_is_the_turned_forecast_since_it_is_the_mean_of_all_views():
    recipe = ForecastRecipe(past=3, future=2, size=16, flow=False, width=8, depth=1, augment="all")
    torch.manual_seed(0)
    forecaster = untrained(recipe, device="cpu")
    nn.init.normal_(forecaster.network.join.last.weight, std=0.1)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)

    def forecast(turn, *, one_view: bool) -> np.ndarray:
        sequence = FrameSequence("a", np.ascontiguousarray(turn(frames)), None, 25.0)
        (found,) = forecaster.forecast([sequence], [(0, 0)], one_view=one_view)
        return found.frames[0]

    for turn in (lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: np.rot90(x, axes=(1, 2))):
        as_it_is, turned = forecast(lambda x: x, one_view=False), forecast(turn, one_view=False)
        np.testing.assert_allclose(turned, turn(as_it_is), atol=1e-5)
        single = forecast(turn, one_view=True) - turn(forecast(lambda x: x, one_view=True))
        assert np.abs(single).max() > 0.01


def test_the_convolutional_lstm_on_one_pixel_is_pytorchs_lstm():
    torch.manual_seed(0)
    ours, theirs = ConvLSTMCell(3, 5), nn.LSTMCell(3, 5)
    enter, keep, show, new = ours.gates.weight[:, :, 1, 1].chunk(4)
    weight, bias = torch.cat([enter, keep, new, show]), ours.gates.bias
    enter, keep, show, new = bias.chunk(4)
    with torch.no_grad():
        theirs.weight_ih.copy_(weight[:, :3])
        theirs.weight_hh.copy_(weight[:, 3:])
        theirs.bias_ih.copy_(torch.cat([enter, keep, new, show]))
        theirs.bias_hh.zero_()
    mine, its = None, None
    for x in torch.randn(4, 2, 3):
        mine, its = ours(x[..., None, None], mine), theirs(x, its)
        torch.testing.assert_close(mine[0][..., 0, 0], its[0])
        torch.testing.assert_close(mine[1][..., 0, 0], its[1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("simvp", 5e-3), ("convlstm", 1e-2)])
def test_training_learns_where_a_square_goes(name, rate):
    shape = {"network": name, "past": 4, "future": 4, "size": 16, "flow": False, "width": 16, "depth": 1}
    recipe = ForecastRecipe(**shape, passes=12, batch=8, rate=rate, augment="none")
    forecaster = train_forecaster(bars(96, seed=0), recipe, seed=1, device="cpu")
    error, still = mean_errors(forecaster, bars(32, seed=1))
    assert error < 0.4 * min(16.0, still)  # 16 is the error of black frames


def test_a_seed_gives_the_same_forecaster_again():
    recipe = ForecastRecipe(past=4, future=4, size=16, flow=False, width=8, depth=1, passes=1, augment="all")
    first, again, other = (
        mean_errors(train_forecaster(bars(32, seed=0), recipe, seed=seed, device="cpu"), bars(8, seed=1))
        for seed in (1, 1, 2)
    )
    assert first == again != other
