"""Muon: matrices step along the nearest orthogonal matrix of their momentum, all else by AdamW."""

import torch
from torch import Tensor, nn

SMALLEST = 32  # rows and columns of a matrix; smaller ones, such as most classifiers, stay with AdamW
MOMENTUM = 0.95
QUINTIC = 3.4445, -4.7750, 2.0315  # of Newton–Schulz: singular values come to lie between 0.7 and 1.2
STEPS = 5
TINY = 1e-7
ROOT_MEAN_SQUARE = 0.2  # of the elements of a step, over the learning rate: about AdamW's, so that its rates serve


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for matrices and kernels of convolutions, AdamW for all other parameters.

    A kernel is a matrix of outputs by all else. The singular values of a step are all about 1: what few clips ask for
    is learned as fast as what most ask for. On matrices this is torch.optim.Muon, which takes nothing but them, with
    adjust_lr_fn="match_rms_adamw" (Liu et al. 2025, equation 4).
    """

    @torch.no_grad()
    def step(self) -> None:
        """One step; where `found_inf` is set to 1, nothing changes, as with the fused AdamW."""
        good = 1.0 - getattr(self, "found_inf", 0.0)
        taken = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and is_matrix(weight):
                    taken.append((weight, weight.grad))
                    self._step(weight, group, good)
                    weight.grad = None  # AdamW leaves it alone
        super().step()
        for weight, grad in taken:
            weight.grad = grad

    def _step(self, weight: nn.Parameter, group: dict, good: Tensor | float) -> None:
        state = self.state[weight]
        if not state:  # AdamW expects each state to have a step
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
        grad = weight.grad.nan_to_num(posinf=0.0, neginf=0.0)  # nothing times what is not finite is not nothing
        momentum = state["momentum"].lerp_(grad, good * (1 - MOMENTUM))
        change = orthogonal(grad.lerp(momentum, MOMENTUM).flatten(1)).view(weight.shape)  # Nesterov's
        rate = good * group["lr"]
        weight.mul_(1 - rate * group["weight_decay"])
        weight.sub_(rate * ROOT_MEAN_SQUARE * max(len(weight), weight[0].numel()) ** 0.5 * change)


def is_matrix(weight: Tensor) -> bool:
    """True if it has rows and columns enough."""
    return weight.ndim > 1 and len(weight) >= SMALLEST and weight[0].numel() >= SMALLEST


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix with orthogonal rows or columns, in bfloat16: (N, M) → (N, M)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / x.norm().clamp(min=TINY)
    first, third, fifth = QUINTIC
    for _ in range(STEPS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=third, alpha=fifth), x, beta=first)
    return x if wide else x.T
