"""The command `tristream`: all commands under one name.

    tristream extract videos/ out.h5
    tristream train --streams rgb,flow,audio
    tristream predict runs/rgb+flow+audio new.mp4

`tristream NAME --help` shows a command's options; python -m preprocess.extract, python train.py and so on do the same.
"""

import ast
import sys
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError
from preprocess.common.stopping import stop_at_once


@dataclass(frozen=True)
class Command:
    """One command: its module, and its settings, which load without the module."""

    module: str
    settings: str  # module:class
    what: str

    @property
    def usual(self) -> str:
        """The command line without `tristream`."""
        return "python train.py" if self.module == "train" else f"python -m {self.module.removesuffix('.__main__')}"


COMMANDS = {
    "extract": Command("preprocess.extract", "preprocess.extraction.settings:ExtractSettings", "videos into a store"),
    "check": Command("preprocess.check", "preprocess.check:CheckSettings", "find any flipped bit of a store"),
    "merge": Command("preprocess.merge", "preprocess.merge:MergeSettings", "several stores into one"),
    "info": Command("preprocess.info", "preprocess.info:InfoSettings", "classes, counts, what is missing and why"),
    "show": Command("preprocess.show", "preprocess.show:ShowSettings", "a picture of one video in a store"),
    "features_store": Command(
        "preprocess.features_store",
        "preprocess.features_store:FeaturesStoreSettings",
        "features that others extracted, as a store",
    ),
    "synth": Command("preprocess.synth", "preprocess.synth:SynthSettings", "make the three-bit videos"),
    "train": Command("train", "fusion.training.settings:TrainSettings", "train any subset of the streams jointly"),
    "evaluate": Command("tasks.evaluate", "tasks.settings:EvaluateSettings", "judge a run on every subset of streams"),
    "ablate": Command("tasks.ablate", "tasks.settings:AblateSettings", "what each stream is worth, with controls"),
    "audit": Command("tasks.audit", "tasks.settings:AuditSettings", "what leaks through a split"),
    "tune": Command("tasks.tune", "tasks.settings:TuneSettings", "search for good settings"),
    "events": Command(
        "tasks.events.__main__", "tasks.events.settings:EventsSettings", "when what happens in long videos"
    ),
    "anomaly": Command(
        "tasks.anomaly.__main__",
        "tasks.anomaly.settings:AnomalySettings",
        "the unusual, knowing only the normal",
    ),
    "predict": Command("tasks.predict", "tasks.settings:PredictSettings", "ask a run about new videos"),
    "explain": Command(
        "tasks.explain.__main__", "tasks.explain.settings:ExplainSettings", "why: which stream, when and where"
    ),
    "fewshot": Command(
        "tasks.fewshot.__main__", "tasks.fewshot.settings:FewShotSettings", "classes of which a few videos are known"
    ),
    "summarise": Command(
        "tasks.summarise", "tasks.summary.settings:SummariseSettings", "shorten videos to their key moments"
    ),
    "importance": Command(
        "tasks.summary.learn", "tasks.summary.settings:LearnSettings", "what people find important in videos"
    ),
    "compress": Command(
        "tasks.compress", "tasks.compression.settings:CompressSettings", "a smaller and faster model, and what it costs"
    ),
    "caption": Command("tasks.caption", "tasks.captions.settings:CaptionSettings", "sentences about videos"),
    "forecast": Command(
        "tasks.forecast", "tasks.forecasting.settings:ForecastSettings", "foresee the next frames of videos"
    ),
    "voice_features": Command(
        "tasks.voice_features", "tasks.voice_features:VoiceSettings", "what voices sound like, in numbers"
    ),
    "probe": Command(
        "tasks.probe.__main__", "tasks.probe.settings:ProbeSettings", "emotions, valence, arousal … from features"
    ),
    "track": Command("tasks.track", "tasks.tracking.settings:TrackSettings", "follow what moves or is known, as boxes"),
    "detector": Command(
        "tasks.tracking.learn", "tasks.tracking.settings:LearnSettings", "a detector of your own boxes"
    ),
    "export": Command("tasks.export", "tasks.exported.settings:ExportSettings", "a run as files for onnxruntime"),
    "publish": Command("tasks.publish", "tasks.hub.settings:PublishSettings", "a run as a folder, or on the hub"),
    "live": Command(
        "tasks.live", "tasks.settings:LiveSettings", "ask a run about a camera, an address, a file in time"
    ),
    "index": Command("tasks.index", "tasks.retrieval.settings:IndexSettings", "an index of videos, to be searched"),
    "search": Command("tasks.search", "tasks.retrieval.settings:SearchSettings", "find videos like another"),
    "features": Command("tasks.features", "tasks.settings:FeaturesSettings", "features over time, for other programs"),
}


def main() -> None:
    stop_at_once()
    run_command(partial(start, sys.argv[1:]))


def start(arguments: list[str]) -> int | None:
    """Run the command that the arguments name.

    Raises UserError for an unknown name.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    name, *sys.argv[1:] = arguments
    if name == "--version":
        from preprocess.store.format import release

        print(release())
        return 0
    if name not in COMMANDS:
        raise UserError(f"unknown command '{name}': known are {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    place, _, settings = command.settings.partition(":")
    doc = docstring(command.module).replace(command.usual, f"tristream {name}")
    parsed = parse_command(getattr(import_module(place), settings), prog=f"tristream {name}", doc=doc)
    return import_module(command.module).main(parsed)


def overview() -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {command.what}" for name, command in COMMANDS.items()]
    return f"{__doc__.strip()}\n\ncommands:\n" + "\n".join(lines)


def docstring(module: str) -> str:
    """A module's docstring, read from its source without loading it."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
