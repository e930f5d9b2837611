"""YAMNet's weights from files: safetensors, or the constants of an ONNX graph.

The arrays are read rather than the graph run by an ONNX runtime: so the tower can be fine-tuned, a run holds its own
weights, and needs neither the file nor the runtime.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from preprocess.common.errors import UserError
from streams.towers.published import UNSTATED, first_line, library

EPSILON = 1e-4  # of batch norm
KERNEL, SCALE, SHIFT, MEAN, VARIANCE, BIAS = "kernel", "scale", "shift", "mean", "variance", "bias"
KINDS = {  # the last word of a tensor's name, by TensorFlow or PyTorch → what it is
    "kernel": KERNEL, "depthwise_kernel": KERNEL, "weights": KERNEL, "depthwise_weights": KERNEL,
    "gamma": SCALE, "beta": SHIFT, "bias": BIAS, "biases": BIAS,
    "moving_mean": MEAN, "running_mean": MEAN, "moving_variance": VARIANCE, "running_var": VARIANCE,
}  # fmt: skip
CONSTANT = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "DequantizeLinear")  # of constants

Arrays = dict[str, Tensor]  # of a convolution: KERNEL and, where they are there, SCALE to BIAS


def yamnet_weights(file: Path, shapes: dict[str, torch.Size]) -> tuple[Arrays, str]:
    """The tensors in the file under the names of `shapes`, and its licence.

    Raises UserError if the file is not there, is damaged, or its layers are not of these shapes.
    """
    if not file.is_file():
        raise UserError(f"yamnet:{file}: there is no such file; name YAMNet's weights as .safetensors or .onnx")
    layers = [name.removesuffix(".conv.weight") for name in shapes if name.endswith(".conv.weight")]
    read = _onnx if file.suffix.lower() == ".onnx" else _safetensors
    found, licence = read(file, layers)
    tensors = {}
    for layer in layers:
        where = f"{file} is not YAMNet's: {layer}"
        arrays, wanted = found.get(layer, {}), shapes[f"{layer}.conv.weight"]
        if KERNEL not in arrays:
            raise UserError(f"{where} is not there; a kernel of {_size(wanted)} is expected")
        kernel = _in_order(arrays[KERNEL].float(), wanted)
        if kernel is None:
            raise UserError(f"{where} has a kernel of {_size(arrays[KERNEL].shape)}; {_size(wanted)} is expected")
        count = wanted[0]
        values = {name: value.float().flatten() for name, value in arrays.items() if name != KERNEL}
        for name, value in values.items():
            if len(value) != count:
                raise UserError(f"{where} has a {name} of {len(value)} numbers; {count} are expected")
        normed = MEAN in values and VARIANCE in values
        if (MEAN in values) != (VARIANCE in values) or (SHIFT not in values if normed else BIAS not in values):
            needed = "a shift, mean and variance of batch norm, or the bias of a convolution that it is folded into,"
            raise UserError(f"{where} has {', '.join(arrays)}; {needed} is expected")
        bias = values.get(BIAS, torch.zeros(count))
        tensors |= {
            f"{layer}.conv.weight": kernel,
            f"{layer}.bn.weight": values.get(SCALE, torch.ones(count)),  # which TensorFlow's has not
            f"{layer}.bn.bias": values[SHIFT] if normed else bias,
            # folded: a norm that does nothing but add the bias
            f"{layer}.bn.running_mean": values[MEAN] - bias if normed else torch.zeros(count),
            f"{layer}.bn.running_var": values[VARIANCE] if normed else torch.full((count,), 1 - EPSILON),
        }
    return tensors, licence


def _in_order(kernel: Tensor, wanted: torch.Size) -> Tensor | None:
    """The kernel as PyTorch's; TensorFlow's are (height, width, in, out), depthwise (height, width, channels, 1)."""
    orders = [kernel.permute(axes) for axes in ((0, 1, 2, 3), (3, 2, 0, 1), (2, 3, 0, 1))] if kernel.ndim == 4 else []
    return next((one.contiguous() for one in orders if one.shape == wanted), None)


def _safetensors(file: Path, layers: list[str]) -> tuple[dict[str, Arrays], str]:
    """By the names' layers, as in ``layer2/depthwise_conv/bn/beta:0`` and ``layer2.depthwise_conv.bn.bias``.

    Where names have none, by kind and order: ``conv2d_1/kernel``, ``batch_normalization_2/beta``.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            there = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  it is no dictionary
            licence = (opened.metadata() or {}).get("license", UNSTATED)
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{file} is damaged, or no safetensors file ({first_line(error)})") from error
    kinds = {name: _kind(name, there) for name in sorted(there, key=_natural)}
    found: dict[str, Arrays] = {layer: {} for layer in layers}
    if any(_layer(name) in found for name in kinds):
        for name, kind in kinds.items():
            if kind and _layer(name) in found:
                found[_layer(name)][kind] = there[name]
        return found, licence
    kernels = [name for name, kind in kinds.items() if kind == KERNEL]
    theirs = [name for name in kernels if there[name].shape[:2] == (3, 3) and there[name].shape[3] == 1]
    depthwise = [layer for layer in layers if "depthwise" in layer] if theirs else []  # TensorFlow numbers them apart
    others = [layer for layer in layers if layer not in depthwise], [name for name in kernels if name not in theirs]
    for layer, name in [*zip(depthwise, theirs, strict=False), *zip(*others, strict=False)]:
        found[layer][KERNEL] = there[name]
        for one in (one for one, kind in kinds.items() if kind == BIAS and _stem(one) == _stem(name)):
            found[layer][BIAS] = there[one]
    for kind in (SCALE, SHIFT, MEAN, VARIANCE):
        names = [name for name in kinds if kinds[name] == kind]
        for layer, name in zip(layers, names, strict=False):
            found[layer][kind] = there[name]
    return found, licence


def _kind(name: str, there: Arrays) -> str | None:
    """What a tensor is; None for what is no part of a convolution."""
    stem, weight = _stem(name), there.get(f"{_stem(name)}weight")
    last = name.removeprefix(stem).removesuffix(":0")
    norm = f"{stem}running_mean" in there or (weight is not None and weight.ndim == 1)
    kind = (SCALE if norm else KERNEL) if last == "weight" else SHIFT if norm and last == "bias" else KINDS.get(last)
    return None if kind == KERNEL and there[name].ndim != 4 else kind


def _stem(name: str) -> str:
    """``"layer1/conv/kernel:0"`` → ``"layer1/conv/"``"""
    return re.match(r"(.*[/.])?", name, re.DOTALL)[0]


def _layer(name: str) -> str | None:
    """``"layer2/pointwise_conv/bn/beta:0"`` → ``"layer2.pointwise_conv"``"""
    number, part = re.findall(r"layer(\d+)[/.]", name), re.search(r"depthwise_conv|pointwise_conv", name)
    return f"layer{number[-1]}{f'.{part[0]}' if part else ''}" if number else None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _onnx(file: Path, layers: list[str]) -> tuple[dict[str, Arrays], str]:
    """The convolutions of a graph, in its order, with what follows each: batch norm, or a scale and shift."""
    onnx = library(f"yamnet:{file}", "onnx", "onnx")
    try:
        model = onnx.load(str(file))
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{file} is damaged, or no ONNX file ({first_line(error)})") from error
    graph = _Graph(model.graph)
    found = [graph.convolution(node) for node in model.graph.node if node.op_type == "Conv"]
    # a graph that begins with sound may have others before, and a classifier may be one after
    begin = next((at for at, one in enumerate(found) if KERNEL in one and one[KERNEL].shape[1:] == (1, 3, 3)), 0)
    licence = {entry.key: entry.value for entry in model.metadata_props}.get("license", UNSTATED)
    return dict(zip(layers, found[begin:], strict=False)), licence


class _Graph:
    """An ONNX graph: its constants, and what follows a node."""

    def __init__(self, graph) -> None:
        self._constants = {one.name: one for one in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def convolution(self, node) -> Arrays:
        """A Conv's kernel, and as SCALE and BIAS what it and the nodes up to the next ReLU do to each channel.

        Empty if its kernel is no constant.
        """
        kernel = self.constant(node.input[1])
        if kernel is None:
            return {}
        given = self.constant(node.input[2]) if len(node.input) > 2 else None
        scale = torch.ones(len(kernel), dtype=torch.float64)
        shift = torch.zeros_like(scale) if given is None else given.double()
        while step := self._step(node):
            times, plus, node = step
            scale, shift = scale * times, shift * times + plus
        return {KERNEL: kernel, SCALE: scale, BIAS: shift}

    def _step(self, node) -> tuple[Tensor | float, Tensor | float, object] | None:
        """The factor and the sum that the only node after this one applies to each channel, and that node."""
        users = self._users.get(node.output[0], [])
        if len(users) != 1:
            return None
        (after,) = users
        others = [self.constant(name) for name in after.input if name != node.output[0]]
        if any(other is None for other in others):
            return None
        others = [other.double().flatten() for other in others]
        if after.op_type == "BatchNormalization":
            scale, shift, mean, variance = others
            epsilon = next((one.f for one in after.attribute if one.name == "epsilon"), 1e-5)  # ONNX's own default
            scale = scale / (variance + epsilon).sqrt()
            return scale, shift - mean * scale, after
        if after.op_type in ("Mul", "Add"):
            return (others[0], 0.0, after) if after.op_type == "Mul" else (1.0, others[0], after)
        return None

    def constant(self, name: str) -> Tensor | None:
        """The value, if it does not depend on the graph's input."""
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        if name in self._constants:
            return torch.from_numpy(numpy_helper.to_array(self._constants[name]).copy())
        node = self._makers.get(name)
        if node is None or node.op_type not in ("Constant", *CONSTANT):
            return None
        given = {one: self.constant(one) for one in node.input}
        if any(value is None for value in given.values()):
            return None
        (value, *_) = ReferenceEvaluator(node).run(None, {one: value.numpy() for one, value in given.items()})
        return torch.from_numpy(value.copy())


def _size(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "one number"
