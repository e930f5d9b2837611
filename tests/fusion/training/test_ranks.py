"""Several processes that train one model."""

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from fusion.heads import HEADS
from fusion.training.balance import BALANCES
from fusion.training.ranks import Ranks
from preprocess.store import Store
from streams.registry import STREAMS
from streams.towers.norm import BatchNorm
from tests.support.commands import ROOT, environment
from tests.support.joining import train
from tests.support.stores import Spec, make_store
from tests.support.torchvision_networks import THERE, needs_torchvision

TIME = 400  # seconds until processes that wait for each other are given up
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def together(count: int, *arguments: object) -> None:
    """Run `python -m …` in so many processes that know of each other, as torchrun does."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    processes = []
    for rank in range(count):
        one = environment() | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", *map(str, arguments)]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    try:
        for process in processes:
            output, _ = process.communicate(timeout=TIME)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.wait()


def some(count: int, streams, *, start: int = 0) -> list[Spec]:
    return [
        Spec(f"{k:02d}.mp4", label="ab"[k % 2], bits=(k % 2, k % 2, k % 2), frames=10, streams=tuple(streams))
        for k in range(start, start + count)
    ]


# 15 videos make two steps of seven and one of a single video, which one rank alone has
MIXTURES = {
    "all have all": some(15, STREAMS),
    "few have sound": some(13, ("rgb", "flow")) + some(2, STREAMS, start=13),
    "one has sound and one has flow": some(13, ("rgb",))
    + some(1, ("rgb", "audio"), start=13)
    + some(1, ("rgb", "flow"), start=14),
    "nobody has sound": some(15, ("rgb", "flow")),
    "some have sound alone": some(8, ("rgb",)) + some(7, ("audio",), start=8),
}


FEW = "one has sound and one has flow"  # says enough of three ranks, of each head and of each method
TAUGHT = {"streams": ("rgb", "audio"), "teacher": ("flow", "audio"), "towers": ()}
BORROWED = ("rgb=r3d_18", "flow=r3d_18")
CASES = [
    *((2, mixture, "concat", "auxiliary") for mixture in MIXTURES),
    *((2, FEW, "concat", name) for name in BALANCES),
    *((2, FEW, head, "auxiliary") for head in HEADS),
    (3, FEW, "concat", "opm"),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Store]:
    folder = tmp_path_factory.mktemp("stores")
    return {name: make_store(folder / f"{name}.h5", specs) for name, specs in MIXTURES.items()}


@pytest.fixture(scope="module")
def joined(stores, tmp_path_factory) -> Callable[..., list[dict]]:
    """What each of so many ranks found in a case. All cases are done when the first is asked for, in one start of the
    processes, which takes longer than a case.
    """

    @cache
    def start(ranks: int) -> Path:
        folder = tmp_path_factory.mktemp("ranks")
        cases = [
            ("-".join(case), str(stores[case[0]].path), {"head": case[1], "balance": case[2]})
            for count, *case in dict.fromkeys(CASES)
            if count == ranks
        ]
        if ranks == 2:
            cases.append(("taught", str(stores["few have sound"].path), TAUGHT))
        if ranks == 2 and THERE:
            cases.append(("borrowed", str(stores[FEW].path), {"towers": BORROWED, "steps": 1}))
        (folder / "cases.json").write_text(json.dumps(cases))
        together(ranks, "tests.support.joining", folder)
        return folder

    return lambda ranks, *case: [torch.load(start(ranks) / f"{'-'.join(case)}-{rank}.pt") for rank in range(ranks)]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "mixture", "head", "balance"), dict.fromkeys(CASES))
def test_several_ranks_take_the_steps_that_one_process_takes(joined, stores, ranks, mixture, head, balance):
    """The same losses, gradients, statistics of batch norm and answers, to rounding; no rank waits for ever."""
    found = joined(ranks, mixture, head, balance)
    alone = train(stores[mixture], Ranks(), head=head, balance=balance)
    for one in found:
        assert one["clips"] == alone["clips"] == [7, 7, 1] * 2
        assert one["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        torch.testing.assert_close(torch.tensor(one["seen"]), torch.tensor(alone["seen"]), rtol=1e-4, atol=1e-4)
        assert one["none"] == alone["none"]
        apart = []
        for mine, theirs in zip(one["gradients"], alone["gradients"], strict=True):
            whole, other = (torch.cat([part[name].flatten() for name in theirs]) for part in (theirs, mine))
            apart.append(float((other - whole).norm() / whole.norm()))
        # of equal weights the same; of weights that differ by rounding, but where a value crosses the zero of a ReLU
        assert apart[0] < 1e-5 and statistics.median(apart) < 1e-4 and max(apart) < 1e-2
        torch.testing.assert_close(one["buffers"], alone["buffers"], rtol=1e-3, atol=1e-4)
        for subset, probabilities in alone["answers"].items():
            torch.testing.assert_close(one["answers"][subset], probabilities, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(one["honest"], alone["honest"], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(one["balance"], alone["balance"], rtol=1e-2, atol=1e-3)
        same = ("losses", "weights", "average", "buffers", "answers", "honest", "balance")
        for name in same:  # and all ranks are alike, bit for bit
            torch.testing.assert_close(one[name], found[0][name], rtol=0, atol=0)
    assert [sum(times) for times in zip(*(one["asked"] for one in found), strict=True)] == [1] * 15


@pytest.mark.slow
def test_several_ranks_learn_from_a_teacher_what_one_process_learns(joined, stores):
    """One of the ranks may have no sound in its share, neither for itself nor for the teacher."""
    alone, untaught = (train(stores["few have sound"], Ranks(), **TAUGHT | more) for more in ({}, {"teacher": ()}))
    assert alone["losses"][0] != pytest.approx(untaught["losses"][0], rel=1e-3)
    found = joined(2, "taught")
    for one in found:
        assert one["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        torch.testing.assert_close(torch.tensor(one["seen"]), torch.tensor(alone["seen"]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one["buffers"], alone["buffers"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one["weights"], found[0]["weights"], rtol=0, atol=0)


@pytest.mark.slow
@needs_torchvision
def test_the_first_step_is_that_of_one_process_with_a_tower_of_torchvision_too(joined, stores):
    """Flow is in one clip or in none, so that a rank has no row of it.

    Rounding grows through 20 batch norms of a few values each: the gradients differ by 0.7 %, with the 77 of s3d by 4 %
    to 22 %. The steps after are therefore not compared.
    """
    alone = train(stores[FEW], Ranks(), towers=BORROWED, steps=1)
    for found in joined(2, "borrowed"):
        assert found["losses"][0] == pytest.approx(alone["losses"][0], rel=1e-4)
        assert found["none"][0] == alone["none"][0]
        mine, theirs = (
            torch.cat([one["gradients"][0][name].flatten() for name in alone["gradients"][0]]) for one in (found, alone)
        )
        assert (mine - theirs).norm() < 0.05 * theirs.norm()


def theirs_for(shape: tuple[int, ...]) -> torch.nn.Module:
    return (torch.nn.BatchNorm3d if len(shape) == 5 else torch.nn.BatchNorm1d)(4)


@pytest.mark.parametrize("shape", [(6, 4, 9), (6, 4, 3, 5, 5)])
def test_batch_norm_in_one_process_is_pytorchs(shape):
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4), theirs_for(shape)
    values = torch.randn(shape) * 3 + 5
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_batch_norm_without_a_row_learns_nothing_and_fails_at_nothing():
    norm = BatchNorm(4)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    assert norm(torch.zeros(0, 4, 9)).shape == (0, 4, 9)
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_batch_norm_of_a_single_value_goes_by_the_running_statistics_and_leaves_them(ranks, monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: ranks > 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: ranks)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: values)  # the other one has no row
    norm = BatchNorm(4)
    norm(torch.randn(6, 4, 3, 3) * 3 + 5)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    value = torch.randn(1, 4, 1, 1, requires_grad=True)
    found = norm(value)
    norm(torch.randn(6, 4, 3, 3))  # another part of the step, before the gradient
    found.sum().backward()
    assert value.grad.abs().min() > 0
    norm.load_state_dict(before)
    torch.testing.assert_close(found, norm.eval()(value), **CLOSE)
    norm.train()(value)
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(6, 4, 9), (6, 4, 3, 5, 5)])
def test_batch_norm_of_all_ranks_rows_is_pytorchs(shape, monkeypatch):
    """Two processes that have the same rows: sums, forward and backward, are twice those of one."""
    torch.manual_seed(0)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: values.mul_(2))
    ours, theirs = BatchNorm(4), theirs_for(shape)
    values = (torch.randn(shape) * 3 + 5).requires_grad_()
    weight = torch.randn(shape)
    for _ in range(2):
        found = ours(values)
        expected = theirs(torch.cat([values, values]))
        torch.testing.assert_close(found, expected[: len(values)], **CLOSE)
        (one,) = torch.autograd.grad((found * weight).sum(), values)
        (other,) = torch.autograd.grad((expected * torch.cat([weight, weight])).sum(), values)
        torch.testing.assert_close(2 * one, other, rtol=1e-3, atol=1e-4)  # the other process has the other half
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **CLOSE)


def test_a_process_alone_adds_up_nothing_and_is_the_first():
    ranks = Ranks()
    assert ranks.size == 1 and ranks.first
    values = torch.arange(3.0)
    assert ranks.add_up(values) is values and values.tolist() == [0, 1, 2]
    assert ranks.same_text("rüns/\udcff") == "rüns/\udcff"
    assert "RANK" not in os.environ
