"""The towers."""

from math import ceil

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fusion.model import build_model
from fusion.settings import ModelSettings
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.registry import STREAMS
from streams.towers import TOWERS, create_tower
from streams.towers.registry import IMAGE
from streams.towers.spectral import BLOCK, LEAST, block_statistics
from tests.support.cases import case
from tests.support.reading import read, stack
from tests.support.stores import Spec, make_store
from tests.support.torchvision_networks import BORROWED, maybe

VISUAL = ("conv3d", "r2plus1d")
NAMED = ("plain3d", "cnn", "c3d", "i3d")  # tests/streams/test_named_towers.py
SOUND = {"conv1d": 8, "conv2d": 32, "vgg2d": 16}  # name → rows of log-mel a time step
PLACES = ("places", "coarse")
GIVEN_ROWS = ("dense", "middle")  # of features that were given
ROWS = (*SOUND, *GIVEN_ROWS)  # take rows, not pictures
LIMIT = 5e9  # multiply-accumulates of the three default towers together


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_tower_is_tried_here():
    assert set(TOWERS) == {*VISUAL, *NAMED, *PLACES, *ROWS, *BORROWED, *IMAGE}


@pytest.mark.parametrize("name", VISUAL)
@torch.no_grad()
def test_a_visual_tower_takes_any_length_and_size(name):
    tower = create_tower(name, channels=2, width=4).eval()
    for frames, height, width in ((16, 112, 112), (1, 32, 32), (3, 33, 47)):
        with case((frames, height, width)):
            sequence = tower(torch.randn(2, 2, frames, height, width))
            assert sequence.shape == (2, ceil(frames / 4), tower.features)
            assert sequence.isfinite().all()


@pytest.mark.parametrize("name", PLACES)
@torch.no_grad()
def test_a_tower_of_places_gives_each_place_of_each_picture_by_itself(name):
    tower = create_tower(name, channels=2, width=4).eval()
    clip = torch.randn(2, 2, 3, 65, 144)
    steps = tower(clip)
    assert steps.shape == (2, 3 * 5 * 9, tower.features)
    torch.testing.assert_close(steps[1:, 45:90], tower(clip[1:, :, 1:2]))
    clip[..., 112:] += 1.0  # the right border, which the left one does not see
    changed = (tower(clip) - steps).abs().amax(dim=(0, 2)).reshape(3, 5, 9).amax(dim=(0, 1))
    assert changed[-1] > 1e-3 and changed[:3].max() == 0


@pytest.mark.parametrize("bands", [1, 13, 16])
@pytest.mark.parametrize("name", SOUND)
@torch.no_grad()
def test_an_audio_tower_takes_any_length_and_number_of_bands(name, bands):
    tower = create_tower(name, channels=bands, width=4).eval()
    for rows in (1, 2, 3, 7, 8, 9, 33, 256):
        sequence = tower(torch.randn(2, bands, rows))
        assert sequence.shape == (2, ceil(rows / SOUND[name]), tower.features)
        assert sequence.isfinite().all()


@pytest.mark.parametrize("name", GIVEN_ROWS)
@torch.no_grad()
def test_a_tower_of_given_rows_takes_any_number_of_them(name):
    tower = create_tower(name, channels=3, width=4).eval()
    for rows in (1, 2, 5):
        sequence = tower(torch.randn(2, 3, rows))
        assert sequence.shape == (2, rows if name == "dense" else 1, tower.features)
        assert sequence.isfinite().all()


def test_block_statistics_are_numpys_of_each_block():
    for rows in (1, 2, 8, 21, 64):
        with case(rows):
            mel = np.random.default_rng(0).normal(size=(2, 5, rows)).astype(np.float32)
            found = [values.numpy() for values in block_statistics(torch.from_numpy(mel))]
            change = np.zeros_like(mel)
            for row in range(1, rows - 1):
                change[:, :, row] = mel[:, :, row + 1] - mel[:, :, row - 1]
            for at, begin in enumerate(range(0, rows, BLOCK)):
                block, moved = mel[:, :, begin : begin + BLOCK], change[:, :, begin : begin + BLOCK]
                rms = np.sqrt((moved**2).mean(axis=2))
                expected = block.mean(axis=2), block.std(axis=2).clip(LEAST**0.5), rms.clip(LEAST**0.5)
                for values, wanted in zip(found, expected, strict=True):
                    np.testing.assert_allclose(values[:, :, at], wanted, rtol=1e-4, atol=1e-5)
            assert all(values.shape == (2, 5, ceil(rows / BLOCK)) for values in found)


def test_silence_of_one_value_can_be_trained_on():
    """The root of a variance has no gradient at zero."""
    mel = torch.zeros(4, 16, 64, requires_grad=True)
    create_tower("conv2d", channels=16, width=4)(mel).sum().backward()
    assert mel.grad.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", maybe(TOWERS))
def test_clips_of_a_batch_do_not_mix_and_every_edge_of_an_odd_one_reaches_the_features(name):
    torch.manual_seed(0)
    tower = create_tower(name, channels=4, width=4).eval()
    batch = torch.randn(3, 4, 40) if name in ROWS else torch.randn(3, 4, 8, 32, 32)
    with torch.no_grad():
        together = tower(batch)
        for row in range(3):
            torch.testing.assert_close(together[row : row + 1], tower(batch[row : row + 1]), atol=1e-5, rtol=1e-4)
    clip = torch.randn(1, 4, 37) if name in ROWS else torch.randn(1, 4, 5, 35, 41)
    clip.requires_grad_()
    tower(clip).sum().backward()
    for dim in range(2, clip.ndim):
        for edge in (0, -1):
            assert clip.grad.select(dim, edge).abs().max() > 0


def test_the_default_towers_and_lstms_together_cost_at_most_five_billion_multiply_accumulates(tmp_path):
    mel = np.zeros((160, 64))
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=40, mel=mel)], mel_bands=64)
    model = build_model(ModelSettings(), streams=tuple(STREAMS), classes=10, parameters=store.parameters).eval()
    clip = ClipSettings()
    assert (clip.frames, clip.stride, clip.size) == (16, 2, 112)
    clips = {
        name: stream.prepare(stack(read(name, store, 0, clip)), clip, training=False)
        for name, stream in STREAMS.items()
    }
    assert clips["rgb"].shape == (1, 3, 16, 112, 112) and clips["flow"].shape == (1, 2, 16, 112, 112)
    assert clips["audio"].shape[1] == 64
    present = {name: torch.ones(1, dtype=torch.bool) for name in clips}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clips, present)
    steps = {name: encoder.tower(clips[name]).shape[1] for name, encoder in model.encoders.items()}
    recurrent = sum(  # which PyTorch's counter passes over
        steps[name] * (encoder.lstm.weight_ih_l0.numel() + encoder.lstm.weight_hh_l0.numel())
        for name, encoder in model.encoders.items()
    )
    assert 1e8 < counter.get_total_flops() / 2 + recurrent <= LIMIT


@pytest.mark.parametrize("channels", [2, 3])
def test_the_split_convolution_has_about_as_many_parameters_as_the_plain_one(channels):
    plain, split = (create_tower(name, channels=channels, width=32) for name in VISUAL)
    assert parameters(split) == pytest.approx(parameters(plain), rel=0.03)


def test_each_convolution_of_the_split_tower_looks_along_time_or_over_space_never_both():
    kernels = [
        m.kernel_size for m in create_tower("r2plus1d", channels=3, width=8).modules() if isinstance(m, nn.Conv3d)
    ]
    assert len(kernels) == 8
    assert all(time == 1 or (height, width) == (1, 1) for time, height, width in kernels)
    plain = [m.kernel_size for m in create_tower("conv3d", channels=3, width=8).modules() if isinstance(m, nn.Conv3d)]
    assert len(plain) == 4 and all(min(kernel) > 1 for kernel in plain)


@pytest.mark.parametrize("frames", [1, 16])
def test_the_smallest_clip_of_a_single_video_can_be_trained_on(tmp_path, frames):
    """Batch norm needs more than one value a channel, also in the last stage."""
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", label="a")])
    clip = ClipSettings(frames=frames, stride=1, size=32, audio_seconds=0.1)
    dataset = ClipDataset(store, store.videos, streams=tuple(STREAMS), classes=["a"], clip=clip, seed=0)
    batch = dataset.__getitems__([(0, 0)])
    for name, sound in (("conv3d", "conv1d"), ("r2plus1d", "conv2d")):
        with case((name, sound)):
            for stream, settings in {"rgb": name, "flow": name, "audio": sound}.items():
                prepared = STREAMS[stream].prepare(batch.clips[stream], clip, training=True)
                tower = create_tower(settings, channels=prepared.shape[1], width=4)
                tower(prepared).sum().backward()
                assert all(parameter.grad.isfinite().all() for parameter in tower.parameters())
