"""Writing the parts of a model as files, of ONNX or of torch.export, which say all that is needed to use them."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fusion.training.run import KEY, About
from preprocess.common.errors import UserError
from preprocess.common.files import remove_folder
from preprocess.store.format import FLOW_BOUND, FLOW_STEPS, FLOW_ZERO, MEL_RATE
from streams.registry import streams_of
from tasks.exported import gru, lstm
from tasks.exported.parts import FUSION, Part, parts_of, square_map
from tasks.exported.runners import SIGNATURE, SUFFIXES
from tasks.model import Model

OPSET = 20
PLACE = "on the 'onnx' extra: pip install 'tristream[onnx]'"


def write_parts(
    model: Model, out: Path, *, kind: str = "onnx", more: Callable[[Path], None] | None = None
) -> list[str]:
    """Write a file a stream and one for fusion into a new folder; return their names.

    Args:
        kind: onnx; pt2 or aoti, which clips of fewer pictures than a time step has do not fit.
        more: writes other files beside them, before the folder has its name.

    Raises UserError if the folder is there, if a package or a compiler is missing, or for a tower or head that cannot
    be exported.
    """
    if out.exists():
        raise UserError(f"{out} is there already: name another folder, or delete it")
    _check_tools(kind)
    about = describe(model)
    part_folder = out.with_name(out.name + ".part")
    remove_folder(part_folder)
    part_folder.mkdir(parents=True)
    try:
        for name, part in parts_of(model, guards=kind != "onnx").items():
            _write_part(part, name, part_folder, model=model, about=about | {"part": name}, kind=kind)
        if more:
            more(part_folder)
        part_folder.rename(out)
    finally:
        remove_folder(part_folder)
    return sorted(path.name for path in out.iterdir())


def describe(model: Model) -> dict[str, str]:
    """What every file says, as JSON: the description that this project reads, and in few words what others need."""
    about = About(model.release, model.settings, model.classes, model.parameters)
    clips = {name: _clip(model, name) for name in model.streams}
    return {
        KEY: about.to_json(),
        "whole_strides": json.dumps(list(model.whole_strides)),
        "classes": json.dumps(model.classes),
        "streams": json.dumps(list(model.streams)),  # the order of `present`
        "fps": json.dumps(model.parameters["fps"]),
        "clips": json.dumps(clips),
        "store": json.dumps(model.parameters, default=str),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's warnings of its own parts."""
    for talker in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(talker).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _clip(model: Model, name: str) -> dict:
    """The shape of a stream's clips and the units of its inputs."""
    kind, own = streams_of(model.parameters)[name], model.clip.of(name)
    shapes = kind.shapes(model.parameters, own)
    units = {
        "frames": "B, T, H, W, RGB: uint8 as decoded, a square cut from the middle; scaled and normalised inside",
        "fields": f"B, T, (x, y), H, W: uint8, {FLOW_ZERO} is no motion, a step {FLOW_BOUND / FLOW_STEPS:.6f} pixels a "
        "frame; scaled inside",
        "map": "B, 2, 3: from pixels (x, y, 1) of that square to pixels of the crop; `square_map` of a square video",
        "mel": f"B, M, T: natural logarithm of mel power, {MEL_RATE} rows a second; normalised inside",
        "given": "B, T, D: features as they were given",
    }
    clip = {
        "frames": own.frames,
        "stride": own.stride,
        "size": own.size,
        "segments": own.segments,
        "audio_seconds": own.audio_seconds,
        "inputs": {part: {"shape": list(shape), "type": kept.__name__} for part, (shape, kept) in shapes.items()},
        "units": {part: units.get(part, "") for part in shapes},
    }
    return clip | ({"square_map": square_map(model, name).tolist()} if "map" in shapes else {})


def _check_tools(kind: str) -> None:
    """Raises UserError if a package or a compiler is missing."""
    if kind == "onnx":
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise UserError(f"export depends {PLACE} ({error})") from error
    if kind == "aoti":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # a kind of PyTorch's own
            raise UserError("--format aoti needs a C++ compiler: install g++, or use --format pt2") from error


def _write_part(part: Part, name: str, folder: Path, *, model: Model, about: dict[str, str], kind: str) -> None:
    what = f"head '{model.settings.recipe.model.head}'" if name == FUSION else f"tower of {name}"
    path = folder / f"{name}{SUFFIXES[kind]}"
    try:
        with quiet(), torch.no_grad():
            more = {"dynamic_shapes": part.dynamic, "prefer_deferred_runtime_asserts_over_guards": True}
            program = torch.export.export(part.module, part.example, **more)  # guards would fix sizes after pooling
            if kind == "onnx":
                _write_onnx(program, part, path, about=about)
            else:
                _write_program(program, path, about=about | {SIGNATURE: json.dumps(_signature(part))}, kind=kind)
    except Exception as error:  # of many kinds, from several exporters
        raise UserError(
            f"{model.path}: the {what} cannot be exported ({str(error).strip().splitlines()[0]})"
        ) from error


def _write_onnx(program: torch.export.ExportedProgram, part: Part, path: Path, *, about: dict[str, str]) -> None:
    ours = {torch.ops.tristream.lstm.default: lstm.to_onnx, torch.ops.tristream.gru.default: gru.to_onnx}
    names = {"custom_translation_table": ours}
    names |= {"input_names": part.inputs, "output_names": list(part.outputs)}
    onnx = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET, **names)
    onnx.model.metadata_props.update(about)
    onnx.save(str(path))


def _write_program(program: torch.export.ExportedProgram, path: Path, *, about: dict[str, str], kind: str) -> None:
    if kind == "pt2":
        torch.export.save(program, path, extra_files=about)
    else:
        configs = {"aot_inductor.metadata": about}
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)


def _signature(part: Part) -> dict[str, dict[str, list]]:
    """Names and shapes of a part's inputs and outputs, None where they vary."""
    given, *last = part.example
    dynamic, *last_dynamic = part.dynamic
    tensors = given | dict(zip(["present"], last, strict=False))
    varies = dynamic | dict(zip(["present"], last_dynamic, strict=False))
    inputs = {
        name: [None if axis in varies[name] else size for axis, size in enumerate(tensor.shape)]
        for name, tensor in tensors.items()
    }
    found = part.module(*part.example)
    outputs = {
        name: [None] * (tensor.ndim - 1) + [tensor.shape[-1]] for name, tensor in zip(part.outputs, found, strict=True)
    }
    return {"inputs": inputs, "outputs": outputs}
