"""First layers for other inputs."""

import numpy as np
import torch
from torch.nn import functional

from streams.towers.inflate import inflate_channels, resize_bands, stretch_bands
from tests.support.cases import case


def test_channels_that_are_all_alike_get_the_response_that_they_got():
    for channels, wanted in ((3, 2), (1, 3), (3, 10), (3, 3)):
        with case((channels, wanted)):
            torch.manual_seed(0)
            weight = torch.randn(8, channels, 3, 5, 5)
            before = weight.clone()
            grey = torch.randn(2, 1, 6, 12, 12)
            found = functional.conv3d(grey.expand(-1, wanted, -1, -1, -1), inflate_channels(weight, wanted))
            expected = functional.conv3d(grey.expand(-1, channels, -1, -1, -1), weight)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            assert torch.equal(weight, before)


def test_every_channel_gets_the_same_weights():
    weight = inflate_channels(torch.randn(8, 3, 3, 7, 7), 2)
    assert weight.shape == (8, 2, 3, 7, 7) and torch.equal(weight[:, 0], weight[:, 1])


def test_resized_bands_respond_as_the_old_ones_do_to_the_interpolated_sound():
    for bands, wanted in ((64, 128), (128, 64), (16, 17)):
        with case((bands, wanted)):
            torch.manual_seed(0)
            weight, mel = torch.randn(6, bands, 5), torch.randn(2, wanted, 30)
            old = functional.interpolate(mel.transpose(1, 2), size=bands, mode="linear").transpose(1, 2)
            found, expected = functional.conv1d(mel, resize_bands(weight, wanted)), functional.conv1d(old, weight)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_stretched_bands_are_numpys_linear_interpolation_between_the_bands_middles():
    for bands, wanted in ((16, 24), (24, 16), (5, 5)):
        with case((bands, wanted)):
            values = np.random.default_rng(0).normal(size=bands).astype(np.float32)
            middles = (np.arange(wanted) + 0.5) / wanted * bands - 0.5
            expected = np.interp(middles, np.arange(bands), values)
            np.testing.assert_allclose(stretch_bands(torch.from_numpy(values), wanted).numpy(), expected, atol=1e-5)
