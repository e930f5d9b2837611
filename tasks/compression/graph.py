"""Exported graphs made faster and smaller, before and beside quantisation: a crop by matrix products, pooling without
padding, int8 weights of layers that compute in float.

A tower's preparation costs as much as its convolutions once these are int8: GridSample reads one pixel after the other.
"""

import numpy as np

LEAST = 4096  # weights that are worth a scale
WEIGHTS = {"LSTM": (1, 2), "Gemm": (1,), "MatMul": (1,)}  # inputs that hold weights


def crop_upright(model) -> int:
    """Replace each GridSample, with the average pooling after it, by two matrix products; return how many.

    For maps that scale and shift alone, as those of clips that are not for training: a row of the crop is then a fixed
    mixture of the picture's rows, and a column likewise. The graph needs the input `map`, (B, 2, 3).
    """
    shapes = {one.name: [size.dim_value for size in one.type.tensor_type.shape.dim] for one in model.graph.value_info}
    found = [node for node in model.graph.node if node.op_type == "GridSample"]
    for node in found:
        height, width = shapes[node.input[0]][2:]
        rows, columns = shapes[node.output[0]][2:]
        last, fine = node, 1
        users = [other for other in model.graph.node if node.output[0] in other.input]
        if len(users) == 1 and users[0].op_type == "AveragePool":
            last = users[0]
            fine = next(one.ints[0] for one in last.attribute if one.name == "kernel_shape")
        graph = _Nodes(model.graph, last.output[0])
        down = graph.mixture(axis=1, length=height, samples=rows, fine=fine)  # (B, rows, H)
        across = graph.mixture(axis=0, length=width, samples=columns, fine=fine)  # (B, columns, W)
        across = graph.add("Transpose", across, perm=[0, 2, 1])
        first = graph.constant([1], np.int64)
        mixed = graph.add("MatMul", graph.add("Unsqueeze", down, first), node.input[0])
        graph.add("MatMul", mixed, graph.add("Unsqueeze", across, first), output=last.output[0])
        at = list(model.graph.node).index(node)
        for old in {node.output[0]: node, last.output[0]: last}.values():
            model.graph.node.remove(old)
        for new in reversed(graph.made):
            model.graph.node.insert(at, new)
    return len(found)


def pool_without_padding(model) -> int:
    """Let max pooling take what is left of an odd size by itself, where export padded for it; return how many.

    The padding, the lowest float, would be the range of an int8 layer.
    """
    from onnx import helper

    pads = {node.output[0]: node for node in model.graph.node if node.op_type == "Pad"}
    found = [node for node in model.graph.node if node.op_type == "MaxPool" and node.input[0] in pads]
    for node in found:
        node.input[0] = pads[node.input[0]].input[0]
        others = [one for one in node.attribute if one.name != "ceil_mode"]
        del node.attribute[:]
        node.attribute.extend([*others, helper.make_attribute("ceil_mode", 1)])
    return len(found)


def store_int8(model) -> int:
    """Store large weights of LSTMs and linear layers as int8 with a scale an output, and compute with them in float.

    Return how many. Their arithmetic is little; and ranges found at run time, over a whole batch, would let a clip's
    answer depend on the others in it.
    """
    from onnx import helper, numpy_helper

    weights = {one.name: one for one in model.graph.initializer}
    made = {}
    for node in list(model.graph.node):
        for place in WEIGHTS.get(node.op_type, ()):
            name = node.input[place]
            if name not in weights or np.prod(weights[name].dims) < LEAST or weights[name].data_type != 1:
                continue
            axis = _output_axis(node)
            if (name, axis) not in made:
                values, scales = to_int8(numpy_helper.to_array(weights[name]), axis=axis)
                parts = [f"{name}.int8.{axis}", f"{name}.scale.{axis}", f"{name}.float.{axis}"]
                model.graph.initializer.append(numpy_helper.from_array(values, parts[0]))
                model.graph.initializer.append(numpy_helper.from_array(scales, parts[1]))
                model.graph.node.insert(0, helper.make_node("DequantizeLinear", parts[:2], parts[2:], axis=axis))
                made[name, axis] = parts[2]
            node.input[place] = made[name, axis]
    used = {name for node in model.graph.node for name in node.input}
    for name in {name for name, _ in made} - used:
        model.graph.initializer.remove(weights[name])
    return len(made)


def to_int8(values: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights as int8 from -127 to 127, and the float32 value of a step for each index of `axis`."""
    others = tuple(one for one in range(values.ndim) if one != axis)
    scales = np.maximum(np.abs(values).max(axis=others), np.finfo(np.float32).tiny).astype(np.float32) / 127
    shape = [-1 if one == axis else 1 for one in range(values.ndim)]
    return np.rint(values / scales.reshape(shape)).clip(-127, 127).astype(np.int8), scales


def _output_axis(node) -> int:
    """The axis of a layer's weights whose indices are its outputs."""
    if node.op_type == "Gemm":
        return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
    return 1


class _Nodes:
    """Nodes to be added to a graph, with names of their own."""

    def __init__(self, graph, prefix: str) -> None:
        self.graph, self.prefix, self.made = graph, f"{prefix}.crop", []

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """A node of this kind; the name of what it makes."""
        from onnx import helper

        output = output or f"{self.prefix}.{len(self.made)}"
        self.made.append(helper.make_node(kind, list(inputs), [output], name=f"node.{output}", **attributes))
        return output

    def constant(self, value, kind=np.float32) -> str:
        from onnx import numpy_helper

        name = f"{self.prefix}.constant.{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def mixture(self, *, axis: int, length: int, samples: int, fine: int) -> str:
        """Shares of `length` pixels in each pixel of the crop along an axis, x or y: (B, samples / fine, length)

        `fine` samples a pixel of the crop, bilinear, mirrored about the last pixel: see streams/geometry.py.
        """
        row = self.add("Gather", "map", self.constant(axis, np.int64), axis=1)  # (B, 3)
        scale, shift = (self.add("Gather", row, self.constant([at], np.int64), axis=1) for at in (axis, 2))  # (B, 1)
        pixels = (np.arange(samples) - (fine - 1) / 2) / fine
        places = self.add("Div", self.add("Sub", self.constant(pixels[None]), shift), scale)
        edge = self.constant(length - 1)
        turns = self.add("Mod", self.add("Abs", places), self.constant(2 * (length - 1)), fmod=1)
        places = self.add("Sub", edge, self.add("Abs", self.add("Sub", turns, edge)))
        apart = self.add(
            "Sub", self.add("Unsqueeze", places, self.constant([2], np.int64)), self.constant(range(length))
        )
        shares = self.add("Relu", self.add("Sub", self.constant(1), self.add("Abs", apart)))  # (B, samples, length)
        if fine == 1:
            return shares
        apart = self.add("Reshape", shares, self.constant([0, -1, fine, length], np.int64))
        return self.add("ReduceMean", apart, self.constant([2], np.int64), keepdims=0)
