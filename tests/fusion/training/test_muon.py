"""Muon beside torch's own, which takes matrices alone, and beside AdamW."""

import copy

import pytest
import torch
from torch import nn

from fusion.training.muon import Muon, orthogonal


def gradients(*parameters: nn.Parameter, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for one in parameters:
        one.grad = torch.randn(one.shape, generator=draw)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_the_orthogonal_matrix_is_about_that_of_the_singular_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix).float() @ right.T
    own = found.diagonal()
    assert 0.6 < own.min() < own.max() < 1.3
    assert (found - own.diag()).abs().max() < 0.05


@pytest.mark.parametrize("channels_last", [False, True])
def test_matrices_and_kernels_step_as_with_torchs_muon_on_their_matrix(channels_last):
    start = torch.randn(48, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    flat = nn.Parameter(start.flatten(1).clone())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kernel = nn.Parameter(start.clone(memory_format=layout))
    shape = {"lr": 2e-3, "weight_decay": 0.05}
    theirs = torch.optim.Muon([flat], momentum=0.95, adjust_lr_fn="match_rms_adamw", **shape)
    ours = Muon([kernel], fused=True, **shape)
    for seed in range(4):
        gradients(kernel, seed=seed)
        flat.grad = kernel.grad.flatten(1).clone()
        theirs.step()
        ours.step()
    torch.testing.assert_close(kernel.flatten(1), flat, rtol=1e-4, atol=1e-5)
    assert (kernel - start).abs().max() > 1e-3


def small() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.Linear(32, 7), nn.Linear(64, 40))  # the first has 27 columns


def test_biases_and_small_matrices_step_as_with_adamw():
    ours, theirs = small(), small()
    one, other = Muon(ours.parameters(), lr=1e-3, fused=True), torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    for seed in range(3):
        for net, optimizer in ((ours, one), (theirs, other)):
            gradients(*net.parameters(), seed=seed)
            optimizer.step()
    same = [
        torch.allclose(mine, its, rtol=1e-5, atol=1e-7)
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True)
    ]
    assert same == [True, True, True, True, False, True]


def test_nothing_changes_where_the_loss_was_not_finite():
    """Neither weights nor momentum, and the next step is as if there had been none."""
    nets = [small(), small()]
    optimizers = [Muon(net.parameters(), lr=1e-2, weight_decay=0.1, fused=True) for net in nets]
    for net, optimizer in zip(nets, optimizers, strict=True):
        gradients(*net.parameters(), seed=0)
        optimizer.found_inf = torch.zeros(())
        optimizer.step()
    gradients(*nets[0].parameters(), seed=1)
    nets[0][2].weight.grad[0, 0] = torch.nan
    optimizers[0].found_inf = torch.ones(())
    optimizers[0].step()
    optimizers[0].found_inf = torch.zeros(())
    for net, optimizer in zip(nets, optimizers, strict=True):
        gradients(*net.parameters(), seed=2)
        optimizer.step()
    for mine, its in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_a_saved_state_goes_on_as_if_it_had_not_stopped():
    net = small()
    optimizer = Muon(net.parameters(), lr=1e-2, fused=True)
    gradients(*net.parameters(), seed=0)
    optimizer.step()
    other = copy.deepcopy(net)
    again = Muon(other.parameters(), lr=1e-2, fused=True)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((net, optimizer), (other, again)):
        gradients(*one.parameters(), seed=1)
        its.step()
    for mine, its in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)
