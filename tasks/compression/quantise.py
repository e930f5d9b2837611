"""An exported model in int8, calibrated on training clips; a stream that loses too much stays float."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from preprocess.common.console import progress
from preprocess.common.errors import UserError
from preprocess.common.files import remove_folder
from tasks.compression.clips import Feed, feed_reader, split_feeds
from tasks.compression.graph import crop_upright, pool_without_padding, store_int8
from tasks.exported.parts import FUSION

KEY = "quantised"  # the metadata key of a file's Quantised
FEW = 8  # channels; a convolution of fewer is slower in int8 than in float, and the most exact one to keep


@dataclass(frozen=True)
class Quantised:
    """What became of one stream's file."""

    int8: bool  # its convolutions; weights of other layers are int8 in any case
    convolutions: int  # in int8
    float: int  # convolutions that stay float
    error: float  # of its feature on clips that it was not calibrated on, as a share of how much that varies


def quantise(exported: Path, out: Path, feeds: dict[str, list[Feed]], *, limit: float) -> dict[str, Quantised]:
    """Write int8 files of an exported model into a new folder; return what became of each stream's.

    Convolutions are int8 with a scale a channel, and ranges of activations found on four fifths of `feeds`; the rest of
    these check it. Linear layers and LSTMs have int8 weights. (Krishnamoorthi 2018; Wu et al. 2020.)

    Raises UserError if the folder is there.
    """
    if out.exists():
        raise UserError(f"{out} is there already: name another folder, or delete it")
    part = out.with_name(out.name + ".part")
    remove_folder(part)
    part.mkdir(parents=True)
    names = [*feeds, FUSION]
    try:
        shown = progress(names, unit="file", name="quantise", leave=False)
        found = {
            name: _quantise_part(exported / f"{name}.onnx", part, feeds.get(name, []), limit=limit) for name in shown
        }
        part.rename(out)
    finally:
        remove_folder(part)
    return {name: found[name] for name in feeds}


def _quantise_part(file: Path, out: Path, feeds: list[Feed], *, limit: float) -> Quantised:
    import onnx

    model = onnx.load(file)
    about = {one.key: one.value for one in model.metadata_props}
    crop_upright(model)
    pool_without_padding(model)
    plain, chosen, error = folded(model), None, 0.0
    wide, narrow = _convolutions(plain)
    if wide and feeds:
        calibrate, check = split_feeds(feeds)
        small = _static(plain, calibrate, leave=narrow)
        error = feature_error(plain, small, check)
        chosen = small if error <= limit else None
    final = chosen or plain
    store_int8(final)
    said = Quantised(
        int8=chosen is not None,
        convolutions=len(wide) if chosen else 0,
        float=len(narrow) + (0 if chosen else len(wide)),
        error=round(error, 4),
    )
    del final.metadata_props[:]
    onnx.helper.set_model_props(final, about | {KEY: json.dumps(asdict(said))})
    onnx.save(final, out / file.name)
    return said


def folded(model):
    """The model without what does not depend on its inputs, and with the shapes that quantisation asks for."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, whole)
        quant_pre_process(whole, small, skip_symbolic_shape=True)
        return onnx.load(small)


def _convolutions(model) -> tuple[list[str], list[str]]:
    """The names of the convolutions of many input channels, and of those of few."""
    sizes = {one.name: one.dims for one in model.graph.initializer}
    wide, narrow = [], []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in sizes:
            groups = next((one.i for one in node.attribute if one.name == "group"), 1)
            (wide if groups * sizes[node.input[1]][1] >= FEW else narrow).append(node.name)
    return wide, narrow


def _static(model, feeds: list[Feed], *, leave: list[str]):
    """The model with int8 convolutions, but for those in `leave`; ReLU and pooling between them are int8 as well."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, whole)
        quantize_static(
            whole,
            small,
            feed_reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu", "MaxPool"],
            nodes_to_exclude=leave,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(small)


def feature_error(ours, theirs, feeds: list[Feed]) -> float:
    """The root mean square difference of two models' `feature`, as a share of its standard deviation over the clips."""
    one, other = (np.concatenate(_features(model, feeds)) for model in (ours, theirs))
    spread = np.square(one - one.mean(axis=0)).mean() if len(one) > 1 else np.square(one).mean()
    return float(np.sqrt(np.square(one - other).mean() / max(spread, np.finfo(np.float32).tiny)))


def _features(model, feeds: list[Feed]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(["feature"], feed)[0] for feed in feeds]
