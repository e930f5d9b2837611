"""torchvision's towers, against torchvision."""

import sys

import pytest
import torch
from torch import nn

from preprocess.common.errors import UserError
from streams.towers import create_tower
from streams.towers.norm import BatchNorm
from streams.towers.torchvision import kinetics_weights
from tests.support.cases import case
from tests.support.torchvision_networks import BORROWED, features, needs_torchvision, network

# r3d_18 and r2plus1d_18 are one class of torchvision's, s3d another
SPLIT = "r2plus1d_18"
each_tower = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == SPLIT else name for name in BORROWED]
)


@needs_torchvision
@each_tower
@pytest.mark.parametrize("shape", [(2, 9, 33, 40), pytest.param((1, 8, 112, 112), marks=pytest.mark.slow)])
@torch.no_grad()
def test_the_features_are_torchvisions(name, shape):
    """In double precision: in single, sums in another order differ by some 1e-5."""
    theirs, ours = network(name).double(), create_tower(name, channels=3, width=32).eval().double()
    weights = {key: value for key, value in theirs.state_dict().items() if not key.startswith(("fc.", "classifier."))}
    ours.layers.load_state_dict(weights)  # strict: every name is there, under its own name
    clip = torch.randn(shape[0], 3, *shape[1:], dtype=torch.float64)
    expected = features(theirs, clip)
    assert expected.abs().max() > 0.1
    found = ours(clip)
    assert found.shape[2] == ours.features
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@needs_torchvision
@each_tower
@torch.no_grad()
def test_any_length_and_size_is_taken_with_any_number_of_channels(name):
    tower = create_tower(name, channels=5, width=4).eval()
    for frames, height, width in ((1, 32, 32), (17, 33, 47)):
        with case((frames, height, width)):
            sequence = tower(torch.randn(2, 5, frames, height, width))
            assert sequence.shape[::2] == (2, tower.features) and sequence.shape[1] in (frames // 8, -(-frames // 8))
            assert sequence.isfinite().all()


@needs_torchvision
@each_tower
def test_every_batch_norm_is_ours_and_as_fast_as_in_the_other_towers_and_channels_are_last_in_memory(name):
    tower = create_tower(name, channels=2, width=4)
    assert not [module for module in tower.modules() if isinstance(module, nn.BatchNorm3d)]
    norms = [module for module in tower.modules() if isinstance(module, BatchNorm)]
    assert len(norms) >= 20 and {norm.momentum for norm in norms} == {BatchNorm(1).momentum}

    weights = [module.weight for module in tower.modules() if isinstance(module, nn.Conv3d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)


@needs_torchvision
@each_tower
def test_no_row_at_all_teaches_nothing_and_the_smallest_clip_alone_in_its_batch_can_be_learned_from(name):
    tower = create_tower(name, channels=2, width=4)
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    sequence = tower(torch.zeros(0, 2, 4, 32, 32))
    assert sequence.shape[::2] == (0, tower.features)
    sequence.sum().backward()
    assert not any(parameter.grad.any() for parameter in tower.parameters())
    torch.testing.assert_close(tower.state_dict(), before, rtol=0, atol=0)

    tower.zero_grad()
    tower(torch.randn(1, 2, 1, 32, 32)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in tower.parameters())


@pytest.mark.parametrize("name", ["r3d_18", "s3d"])
def test_without_torchvision_one_line_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.video.resnet", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.video.s3d", None)
    with pytest.raises(UserError, match=rf"{name} .*tristream\[torchvision\]") as it:
        create_tower(name, channels=3, width=4)
    assert "\n" not in str(it.value)


def test_our_own_towers_have_no_kinetics_weights():
    with pytest.raises(UserError, match="--towers rgb=r3d_18"):
        kinetics_weights(create_tower("conv3d", channels=3, width=4))


@needs_torchvision
@each_tower
def test_kinetics_weights_are_those_of_the_tower_and_run_no_code(name, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *url, **how: asked.append((url, how))
    )
    kinetics_weights(create_tower(name, channels=3, width=4))
    (((url,), how),) = asked
    assert f"/{name}-" in url and how["weights_only"] and how["check_hash"]


@needs_torchvision
def test_where_they_cannot_be_downloaded_one_line_says_what_else_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("<urlopen error\n[Errno -2] Name or service not known>")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"r3d_18-\w+\.pth") as caught:
        kinetics_weights(create_tower("r3d_18", channels=3, width=4))
    assert "\n" not in str(caught.value)
