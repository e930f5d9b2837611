"""How far forecasts are from what came: MSE, MAE, PSNR and SSIM, each by the frame.

MSE and MAE are summed over a frame's pixels and channels, as OpenSTL reports them, of values between 0 and 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

MOST = 100.0  # dB: PSNR of frames that are equal
SIDE = 7  # pixels of the window of SSIM
STABLE = 0.01**2, 0.03**2  # of SSIM, for values up to 1


@dataclass(frozen=True)
class Scores:
    """(N, T') of each window and step ahead."""

    mse: np.ndarray
    mae: np.ndarray
    psnr: np.ndarray  # dB
    ssim: np.ndarray

    def means(self) -> dict[str, float]:
        """The mean of each over windows and steps."""
        return {name: float(values.mean()) for name, values in vars(self).items()}


def judge(forecast: np.ndarray, truth: np.ndarray) -> Scores:
    """Scores of (N, T', H, W, C) against the truth of the same shape, both between 0 and 1."""
    forecast, truth = forecast.astype(np.float64), truth.astype(np.float64)
    squares, places = (forecast - truth) ** 2, (2, 3, 4)
    with np.errstate(divide="ignore"):
        psnr = np.minimum(MOST, -10 * np.log10(squares.mean(places)))
    return Scores(squares.sum(places), np.abs(forecast - truth).sum(places), psnr, ssim(forecast, truth))


def ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of (…, H, W, C), in uniform windows with the sample covariance; (…).

    The mean over channels, and over the places whose window lies within the frame.
    """
    sizes = (0,) * (one.ndim - 3) + (SIDE, SIDE, 0)

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, sizes)

    sample = SIDE**2 / (SIDE**2 - 1)
    mean_one, mean_other = mean(one), mean(other)
    both = mean_one * mean_other
    squares = mean_one**2 + mean_other**2
    spread = sample * (mean(one**2 + other**2) - squares)
    shared = sample * (mean(one * other) - both)
    small, less = STABLE
    found = (2 * both + small) * (2 * shared + less) / ((squares + small) * (spread + less))
    edge = SIDE // 2
    return found[..., edge:-edge, edge:-edge, :].mean(axis=(-3, -2, -1))
