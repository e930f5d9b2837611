"""A GRU that can be exported for sequences of any length, as tasks.exported.lstm does for an LSTM."""

import torch
from torch import Tensor, nn


@torch.library.custom_op("tristream::gru", mutates_args=())
def gru(steps: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor) -> Tensor:
    """(B, T, C) and the weights of an nn.GRU of one layer: (3 D, C), (3 D, D), (3 D,), (3 D,) → (B, T, D)"""
    start = steps.new_zeros(1, len(steps), recur.shape[1])
    weights = [enter, recur, enter_bias, recur_bias]
    sequence, _ = torch.gru(steps, start, weights, True, 1, 0.0, False, False, True)
    return sequence.contiguous()


@gru.register_fake
def _(steps: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor) -> Tensor:
    return steps.new_empty(steps.shape[0], steps.shape[1], recur.shape[1])


def to_onnx(steps, enter, recur, enter_bias, recur_bias):
    """ONNX's GRU, which has time first, and its gates in another order: update, reset, new."""
    from onnxscript import opset20 as op

    def ordered(weights):
        reset, update, new = op.Split(weights, axis=0, num_outputs=3)
        return op.Concat(update, reset, new, axis=0)

    first = op.Constant(value_ints=[0])
    bias = op.Concat(ordered(enter_bias), ordered(recur_bias), axis=0)
    weights = [op.Unsqueeze(one, first) for one in (ordered(enter), ordered(recur), bias)]
    sizes = {"hidden_size": recur.shape[1], "linear_before_reset": 1}  # PyTorch resets after the product
    found, _ = op.GRU(op.Transpose(steps, perm=[1, 0, 2]), *weights, **sizes)
    return op.Transpose(op.Squeeze(found, op.Constant(value_ints=[1])), perm=[1, 0, 2])  # (T, 1, B, D)


class ExportGRU(nn.Module):
    """The same as an nn.GRU of one layer, one way, batch first, with its weights."""

    def __init__(self, inner: nn.GRU) -> None:
        super().__init__()
        assert inner.num_layers == 1 and inner.batch_first and not inner.bidirectional
        self.inner = inner

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:
        """(B, T, C) → (B, T, D), and nothing in the place of the last state"""
        one = self.inner
        return gru(steps, one.weight_ih_l0, one.weight_hh_l0, one.bias_ih_l0, one.bias_hh_l0), None


def replace_grus(module: nn.Module) -> None:
    """Put an ExportGRU in the place of every GRU in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GRU):
                setattr(parent, name, ExportGRU(child))
