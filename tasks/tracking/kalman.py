"""The motion of one box: a Kalman filter of constant velocity.

The left, top, right and bottom edges move independently with the same noise, in units of the box's size, so that one
2 x 2 covariance serves all four (Bewley et al., "Simple online and realtime tracking", ICIP 2016, with other states).
"""

from dataclasses import dataclass, field

import numpy as np

STEP = np.array([[1.0, 1.0], [0.0, 1.0]])
MEASURED = 1 / 10  # of the box's size: standard deviation of a detection's edge
PUSH = 1 / 400  # of the box's size: how much the velocity changes in a frame
UNKNOWN = 1 / 30  # of the box's size: standard deviation of the first velocity
PUSHED = PUSH**2 * np.array([[0.25, 0.5], [0.5, 1.0]])


def edges(xywh: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of x, y, width, height: (…, 4) → (…, 4)."""
    return np.concatenate([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


@dataclass
class Motion:
    """The filter's state."""

    first: np.ndarray  # (4,) the box that begins it: x, y, width, height
    state: np.ndarray = field(init=False)  # (2, 4) edges, and their velocities in pixels a frame
    covariance: np.ndarray = field(init=False)  # (2, 2) in squared sizes of the box
    gap: int = 0  # frames since a box was taken in

    def __post_init__(self) -> None:
        self.state = np.stack([edges(self.first), np.zeros(4)])
        self.covariance = np.diag([MEASURED**2, UNKNOWN**2])

    @property
    def xywh(self) -> np.ndarray:
        """(4,) where the box is expected."""
        left, top, right, bottom = self.state[0]
        return np.array([left, top, max(1e-3, right - left), max(1e-3, bottom - top)])

    def predict(self) -> None:
        """Go on by a frame."""
        if self.gap == 1:  # what hides a box cuts it first: its size must not go on shrinking
            self.state[1] = np.tile((self.state[1, :2] + self.state[1, 2:]) / 2, 2)
        self.state = STEP @ self.state
        self.covariance = STEP @ self.covariance @ STEP.T + PUSHED
        self.gap += 1

    def update(self, xywh: np.ndarray) -> None:
        """Take in a box of the present frame, (4,)."""
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + MEASURED**2)
        self.state = self.state + gain[:, None] * (edges(xywh) - self.state[0])
        self.covariance = self.covariance - np.outer(gain, self.covariance[0])
        self.gap = 0
