"""Optimizers by name."""

from collections.abc import Iterable

import torch

from fusion.training.muon import Muon
from preprocess.common.errors import UserError

OPTIMIZERS = {"adamw": torch.optim.AdamW, "muon": Muon}


def check_optimizer(name: str) -> None:
    """Raises UserError for a name that is not known."""
    if name not in OPTIMIZERS:
        raise UserError(f"unknown --optimizer '{name}': known are {', '.join(OPTIMIZERS)}")


def make_optimizer(name: str, parameters: Iterable, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """The optimizer of parameters, or of groups of them, with the fused kernel."""
    return OPTIMIZERS[name](parameters, lr=lr, weight_decay=weight_decay, fused=True)
