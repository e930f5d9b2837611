"""Forecasts that have learned nothing. A network that does not beat them has not learned the task."""

import numpy as np

from tasks.forecasting.forecaster import Forecast

WARP = "warp by flow"


def floors(past: np.ndarray, forecast: Forecast, *, flow: bool) -> dict[str, np.ndarray]:
    """Name → (N, T', H, W, C), from the past (N, T, H, W, C) and what moved on by flow, between 0 and 1."""
    shape = forecast.frames.shape
    found = {
        "last frame": np.broadcast_to(past[:, -1:], shape),
        "mean of the past": np.broadcast_to(past.mean(axis=1, keepdims=True), shape),
        "black": np.zeros(shape, np.float32),
    }
    return found | ({WARP: forecast.floor} if flow else {})
