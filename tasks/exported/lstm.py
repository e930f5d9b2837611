"""An LSTM that can be exported for sequences of any length.

torch.export unrolls nn.LSTM into as many steps as its example has. One operator of our own stays one, and becomes
ONNX's LSTM. A .pt2 file with it needs this module imported before it is loaded.
"""

import torch
from torch import Tensor, nn


@torch.library.custom_op("tristream::lstm", mutates_args=())
def lstm(steps: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor) -> Tensor:
    """(B, T, C) and the weights of an nn.LSTM of one layer: (4 D, C), (4 D, D), (4 D,), (4 D,) → (B, T, D)"""
    start = steps.new_zeros(1, len(steps), recur.shape[1])
    weights = [enter, recur, enter_bias, recur_bias]
    sequence, _, _ = torch.lstm(steps, (start, start), weights, True, 1, 0.0, False, False, True)
    return sequence.contiguous()


@lstm.register_fake
def _(steps: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor) -> Tensor:
    return steps.new_empty(steps.shape[0], steps.shape[1], recur.shape[1])


def to_onnx(steps, enter, recur, enter_bias, recur_bias):
    """ONNX's LSTM, which has time first, and its gates in another order: in, out, forget, cell."""
    from onnxscript import opset20 as op

    def ordered(weights):
        one, forget, cell, out = op.Split(weights, axis=0, num_outputs=4)
        return op.Concat(one, out, forget, cell, axis=0)

    first = op.Constant(value_ints=[0])
    bias = op.Concat(ordered(enter_bias), ordered(recur_bias), axis=0)
    weights = [op.Unsqueeze(one, first) for one in (ordered(enter), ordered(recur), bias)]
    found, _, _ = op.LSTM(op.Transpose(steps, perm=[1, 0, 2]), *weights, hidden_size=recur.shape[1])
    return op.Transpose(op.Squeeze(found, op.Constant(value_ints=[1])), perm=[1, 0, 2])  # (T, 1, B, D)


class ExportLSTM(nn.Module):
    """The same as an nn.LSTM of one layer, one way, batch first, with its weights."""

    def __init__(self, inner: nn.LSTM) -> None:
        super().__init__()
        assert inner.num_layers == 1 and inner.batch_first and not inner.bidirectional and not inner.proj_size
        self.inner, self.hidden_size = inner, inner.hidden_size

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:
        """(B, T, C) → (B, T, D), and nothing in the place of the last state"""
        one = self.inner
        return lstm(steps, one.weight_ih_l0, one.weight_hh_l0, one.bias_ih_l0, one.bias_hh_l0), None


def replace_lstms(module: nn.Module) -> None:
    """Put an ExportLSTM in the place of every LSTM in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(parent, name, ExportLSTM(child))
