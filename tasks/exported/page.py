"""A folder that runs an exported model in a browser, on one clip and on the user's own videos, without a network.

index.html opens from the disk. Beside such a page a browser reads scripts alone, so that all it needs lies in scripts.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from preprocess.store.format import SILENCE
from preprocess.video.log_mel import HOP, SAMPLE_RATE
from streams.batch import Batch, ClipDataset
from streams.registry import subset_name, subsets
from tasks.exported.network import ExportedNetwork
from tasks.exported.parts import FUSION
from tasks.exported.runtime import LOADER, NAME, PROGRAM, SCRIPT, VERSION
from tasks.exported.sound import REACH, write_log_mel
from tasks.exported.write import describe
from tasks.model import Model
from tasks.page.page import page_html
from tasks.sources import open_source
from tasks.windows import Windows, encode, fuse

ROOM = "tasks.exported"
LOG_MEL = "log_mel"  # its file's name


@dataclass(frozen=True)
class Example:
    """A clip in the middle of a video, as its streams read it, and what PyTorch answers."""

    name: str
    batch: Batch  # of one clip
    windows: Windows  # of the same
    why: dict[str, str]  # stream → why it is absent from the video
    clips: dict[str, dict]  # stream → the shape of its clips, and how they begin


def read_example(model: Model, source: Path) -> Example:
    """The example from a video file, or from the first video of a store.

    Raises UserError if the source cannot be read, or has none of the model's streams.
    """
    with open_source(source, video=None, parameters=model.parameters) as opened:
        video, name = opened.videos[0], Path(opened.names[0]).name
        model.check_streams(video, model.streams)
        shape = {"streams": model.streams, "classes": model.classes, "clip": model.clip}
        clips = ClipDataset(opened.store, [video], whole_strides=model.whole_strides, **shape)
        batch = clips.__getitems__([(0, 0)])
        windows = encode(model.network, batch, videos=[(name, video.seconds)], fps=model.fps)
        why = {stream: why for stream, why in video.why.items() if stream in model.streams and why}
    return Example(name, batch, windows, why, _clips(model, clips))


def write_page(folder: Path, model: Model, *, example: Example, runtime: dict[str, Path]) -> None:
    """Write index.html and its scripts into a folder that holds the model's parts; `runtime` is from runtime_files."""
    batch, windows = example.batch, example.windows
    network, parts = ExportedNetwork(folder), [*model.streams, FUSION]
    if any("mel" in clips for clips in batch.clips.values()):
        write_log_mel(folder / f"{LOG_MEL}.onnx", bands=model.parameters["mel_bands"])
        parts.append(LOG_MEL)
    answers = {subset_name(one): fuse(model.network, windows, one).answer[0] for one in subsets(model.streams)}
    data = {
        "title": folder.name.removesuffix(".part"),
        "release": model.release,
        "runtime": f"{NAME} {VERSION}",
        "classes": model.classes,
        "streams": list(model.streams),
        "fps": model.fps,
        "clips": example.clips,
        "clip": {"segments": model.clip.segments, "span": model.clip.span},
        "sound": {"rate": SAMPLE_RATE, "hop": HOP, "reach": REACH, "silence": SILENCE},
        "empty": {name: network.empty(name) for name in model.streams},
        "example": {
            "name": example.name,
            "times": windows.times[0].tolist(),
            "why": example.why,
            "answers": {name: answer.tolist() for name, answer in answers.items()},
        },
    }
    held = {"script": runtime[LOADER].read_text(encoding="utf-8"), "program": _text(runtime[PROGRAM].read_bytes())}
    _script(folder / "runtime.js", "RUNTIME", held)
    _script(folder / "model.js", "MODEL", {name: _text((folder / f"{name}.onnx").read_bytes()) for name in parts})
    _script(folder / "example.js", "EXAMPLE", _tensors(batch))
    (folder / SCRIPT).write_bytes(runtime[SCRIPT].read_bytes())
    (folder / "video.js").write_text((files(ROOM) / "video.js").read_text(encoding="utf-8"), encoding="utf-8")
    text = page_html(data, title=data["title"], room=ROOM)
    (folder / "index.html").write_text(text, encoding="utf-8")


def _clips(model: Model, clips: ClipDataset) -> dict[str, dict]:
    """What each file says of its clips, and how they begin; a frozen tower's are of whole strides or patches."""
    said = json.loads(describe(model)["clips"])
    for name, stream in clips.streams.items():
        own = model.clip.of(name)
        for part, (shape, _) in stream.shapes(model.parameters, own).items():
            said[name]["inputs"][part]["shape"] = list(shape)
        whole = own.stride if name in model.whole_strides else 1
        said[name] |= {"begins": whole, "step": getattr(stream, "step", 1), "repeats": own.repeat_sound}
    return said


def _tensors(batch: Batch) -> dict:
    """The clips of the present streams: {stream: {part: {type, shape, bytes}}}"""
    return {
        name: {part: _tensor(values) for part, values in clips.items()}
        for name, clips in batch.clips.items()
        if batch.present[name][0]
    }


def _tensor(values: torch.Tensor) -> dict:
    array = values.contiguous().numpy()
    return {"type": array.dtype.name, "shape": list(array.shape), "bytes": _text(array.tobytes())}


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()


def _script(path: Path, name: str, value: dict) -> None:
    path.write_text(f"const {name} = {json.dumps(value)};\n", encoding="utf-8")
