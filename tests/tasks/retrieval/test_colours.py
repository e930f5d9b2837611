"""Colours of pictures, against OpenCV's histograms."""

import cv2
import numpy as np
import pytest

from tasks.retrieval.colours import BANDS, SIZE, STEPS, colours_of


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 256, (47, 64, 3), dtype=np.uint8), (0, 0), 3)


def test_similarity_is_the_mean_bhattacharyya_coefficient_of_the_bands(picture):
    other = np.roll(picture, 17, axis=2)[::-1].copy()
    found = 0.0
    for one, two in zip(*(np.array_split(part, BANDS) for part in (picture, other)), strict=True):
        shares = []
        for band in (one, two):
            levels = cv2.cvtColor(band, cv2.COLOR_RGB2HSV_FULL)
            counts = cv2.calcHist([levels], [0, 1, 2], None, list(STEPS), [0, 256] * 3)
            shares.append(counts / counts.sum())
        found += np.sqrt(shares[0] * shares[1]).sum() / BANDS
    vectors, _ = colours_of([picture, other])
    assert vectors[0] @ vectors[1] == pytest.approx(found, abs=1e-5)
    assert vectors[0] @ vectors[0] == pytest.approx(1, abs=1e-5)


def test_a_mirrored_picture_has_the_same_and_none_has_nothing(picture):
    vectors, present = colours_of([picture, picture[:, ::-1].copy(), None, picture[:2]])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert present.tolist() == [True, True, False, True] and vectors.shape == (4, SIZE)
    assert not vectors[2].any() and np.linalg.norm(vectors[3]) == pytest.approx(1, abs=1e-5)
