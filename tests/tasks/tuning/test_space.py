"""Which parameters may be searched, and how that is said."""

import pytest

from fusion.heads import HEADS
from preprocess.common.errors import UserError
from tasks.tuning.space import ends, parse_space
from tests.support.cases import case

pytest.importorskip("optuna")


def test_what_is_searched_can_be_said():
    space = parse_space(("weight-decay", "lr=1e-5:1e-3", "batch=8,128", "head"))
    assert list(space) == ["lr", "weight_decay", "head", "batch"]
    assert (ends(space["lr"]), space["lr"].log, ends(space["batch"])) == ((1e-5, 1e-3), True, (8, 128))
    assert ends(space["head"]) == tuple(HEADS)


def test_what_is_said_wrongly_is_refused_with_an_example():
    for search, says in (
        ("colour", "known are lr, weight_decay"),
        ("lr=1", "give it like lr="),
        ("lr=0:1", "give it like"),
        ("lr=2:1", "give it like"),
        ("batch=8,many", "give it like batch=16,32,64"),
        ("head=tail", "give it like head=concat"),
    ):
        with case((search, says)), pytest.raises(UserError, match=says):
            parse_space((search,))
