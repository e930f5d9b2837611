"""--init: encoders that start from earlier weights, and a report of what was taken."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from torch import Tensor, nn

from fusion.model import FusionModel
from fusion.training.weights import (
    KINETICS,
    OWN,
    PUBLISHED,
    Source,
    Weights,
    encoders_in,
    parse_init,
    read_weights,
)
from preprocess.common.errors import UserError
from streams.encoder import Encoder
from streams.towers.image import LICENCE, imagenet_weights
from streams.towers.inflate import inflate_channels, resize_bands, stretch_bands
from streams.towers.published import UNSTATED, Published
from streams.towers.torchvision import kinetics_weights

COUNTER = "num_batches_tracked"  # batch norm's counter, which is not used


@dataclass(frozen=True)
class Report:
    """The tensors of one encoder and one file: taken, left out, unused; batch norm's counters are not counted.

    Taken and left out make up the encoder; taken, own head's and unused make up the file.
    """

    stream: str
    source: str
    matched: int
    inflated: int  # made for another number of channels
    resized: int  # made for another number of mel bands
    left_out: dict[str, int]  # part of the encoder, and the reason → tensors that start at random
    unused: dict[str, int]  # part of the file → tensors
    head: int = 0  # tensors of the stream's own head, which is not part of the encoder
    sha256: str = ""  # digest of the file
    licence: str = UNSTATED

    @property
    def taken(self) -> int:
        return self.matched + self.inflated + self.resized

    def lines(self) -> list[str]:
        """The report as text: the tensors taken, then a line for each group of the others."""
        ways = {"matched": self.matched, "inflated": self.inflated, "resized": self.resized}
        how = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
        if self.head:
            how += f"; and its own head's {self.head}"
        total = self.taken + sum(self.left_out.values())
        return [
            f"init {self.stream} from {self.source}: {self.taken} of {total} tensors ({how})",
            *([f"  sha256 {self.sha256}; licence: {self.licence}"] if self.sha256 else []),
            *(f"  left out, starts at random: {count} tensors of {why}" for why, count in self.left_out.items()),
            *(f"  not used from the file: {count} tensors of {part}" for part, count in self.unused.items()),
        ]


def initialise(model: FusionModel, texts: tuple[str, ...]) -> list[Report]:
    """Load the weights that --init names into the model's encoders; from a run of as many classes, own heads too.

    The fusion head is learned anew. A text is STREAM=PATH, STREAM=kinetics, STREAM=imagenet, or PATH for every stream
    that is not named by another. A tower of a library that none of them has weights for starts from the published ones.

    Raises UserError for a file that cannot be read, or of which nothing fits.
    """
    sources = parse_init(texts, tuple(model.encoders))
    named = {source.stream for source in sources}
    reports: dict[str, Report] = {}
    for source in _with_published(sources, model, reports):
        file = _read(source, model)
        label, weights, facts = file.label, file.tensors, {"sha256": sha256_of(file.path), "licence": file.licence}
        for stream in [source.stream] if source.stream else _streams_in(weights, source, model, named):
            if stream in reports:
                raise UserError(f"--init {source} holds {stream}, as an earlier one does: say which with {stream}=PATH")
            report = load_encoder(model.encoders[stream], weights, stream=stream, source=label)
            reports[stream] = replace(_load_own_head(model, weights, report), **facts)
    return list(reports.values())


def _with_published(sources: list[Source], model: FusionModel, reports: dict[str, Report]) -> Iterator[Source]:
    """The sources, then one for each tower of a library that has no report after them."""
    yield from sources
    for stream, encoder in model.encoders.items():
        if stream not in reports and getattr(encoder.tower, "published", None):
            yield Source(stream, OWN)


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes, as sha256sum prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_encoder(encoder: Encoder, weights: Weights, *, stream: str, source: str) -> Report:
    """Copy the matching layers of `weights` into the encoder; a layer is taken as a whole or not at all.

    The weights may be those of a run, an encoder or a tower. Of several encoders, that of this stream is used, or else
    the one that fits best.

    Raises UserError if nothing fits.
    """
    wanted, weights = _without_counters(encoder.state_dict()), _without_counters(weights)
    inputs = [f"tower.{name}" for name in _input_layers(encoder.tower)]
    first = f"{inputs[-1]}.weight"
    matches = [
        (part, names, *_match(wanted, {here: weights[there] for here, there in names.items()}, inputs=inputs))
        for part, names in _readings(weights, stream)
        if first in names
    ]
    if not matches:
        usual = first.removeprefix("tower.").removeprefix("layers.")
        raise UserError(
            f"--init: nothing in {source} fits {stream}: names that end in {usual} were "
            f"expected, it has {', '.join(list(weights)[:2]) or 'none'}; is --towers {stream}=… that of the file?"
        )
    part, names, taken, left_out = max(matches, key=lambda match: len(match[2]))
    source = f"{source} ({part})" if part else source
    if not taken:
        why = "; ".join(left_out)
        raise UserError(f"--init: nothing in {source} fits {stream}; set --towers and --width as there: {why}")
    for name, (_, tensor) in taken.items():
        _check_finite(source, name, tensor)
    for name, (_, tensor) in taken.items():
        wanted[name].copy_(tensor)
    ways = Counter(way for way, _ in taken.values())
    unused = Counter(_part(name) for name in weights.keys() - {names[name] for name in taken})
    return Report(
        stream=stream,
        source=source,
        **{way: ways[way] for way in ("matched", "inflated", "resized")},
        left_out=left_out,
        unused=dict(sorted(unused.items())),
    )


def _load_own_head(model: FusionModel, weights: Weights, report: Report) -> Report:
    """Copy the stream's auxiliary head if the file has one of this size, as in a run on the same classes."""
    name = f"auxiliary.{report.stream}"
    wanted = {f"{name}.{part}": tensor for part, tensor in model.auxiliary[report.stream].state_dict().items()}
    if any(key not in weights or weights[key].shape != tensor.shape for key, tensor in wanted.items()):
        return report
    for key, tensor in wanted.items():
        _check_finite(report.source, key, weights[key])
        tensor.copy_(weights[key])
    unused = report.unused | {"auxiliary": report.unused["auxiliary"] - len(wanted)}
    return replace(report, head=len(wanted), unused={part: count for part, count in unused.items() if count})


def _check_finite(source: str, name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise UserError(f"--init: {source} holds numbers that are not finite (for {name}): take others")


def _readings(weights: Weights, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Candidates for an encoder in the file: a title, and the tensors' names, in an encoder → in the file."""
    there = sorted(encoders_in(weights))
    for encoder in [stream] if stream in there else there:
        part = f"encoders.{encoder}"
        yield part, {name.removeprefix(f"{part}."): name for name in weights if name.startswith(f"{part}.")}
    if not there:
        for top in ("", "tower.", "tower.layers."):  # an encoder, one of our towers, a torchvision network
            yield "", {top + name: name for name in weights}


def _match(wanted: Weights, there: Weights, *, inputs: list[str]) -> tuple[dict[str, tuple[str, Tensor]], dict]:
    """The matching tensors by name, each with its kind of match; and the reasons why the others are left out."""
    taken, left_out, examples = {}, Counter(), {}
    for layer, names in ((layer, list(names)) for layer, names in groupby(wanted, _layer)):
        part = layer.partition(".")[0]
        if any(name not in there for name in names):
            left_out[f"{part}, not in the file"] += len(names)
            continue
        fitted = {name: _fit(there[name], wanted[name], first=layer in inputs) for name in names}
        misfits = [
            f"{name} is {_size(there[name])} there, {_size(wanted[name])} here" for name in names if not fitted[name]
        ]
        if misfits:
            left_out[f"{part}, of another size ({examples.setdefault(part, misfits[0])})"] += len(names)
        else:
            taken |= fitted
    return taken, dict(left_out)


def _fit(there: Tensor, here: Tensor, *, first: bool) -> tuple[str, Tensor] | None:
    """The tensor in the size needed here, and the kind of conversion; None if there is none.

    `first` is True for a layer whose input is the clip's channels or mel bands.
    """
    if there.shape == here.shape:
        return "matched", there
    if not first or there.ndim != here.ndim or not there.numel():
        return None
    there = there.float()
    if here.ndim == 1:  # batch norm of the mel bands
        return "resized", stretch_bands(there, len(here))
    if there.shape[0] != here.shape[0] or there.shape[2:] != here.shape[2:]:
        return None
    if here.ndim == 3:  # mel bands can be interpolated, channels cannot
        return "resized", resize_bands(there, here.shape[1])
    return "inflated", inflate_channels(there, here.shape[1])


def _input_layers(tower: nn.Module) -> list[str]:
    """The layers up to the first convolution."""
    names = []
    for name, module in tower.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            names.append(name)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            break
    return names


def _read(source: Source, model: FusionModel) -> Published:
    if source.text not in PUBLISHED:
        path, weights = read_weights(source.text)
        return Published(str(path), path, weights)
    if source.stream is None:
        stream = next(iter(model.encoders))
        raise UserError(f"--init {source}: say for which stream, as in --init {stream}={source}")
    tower = model.encoders[source.stream].tower
    if source.text == KINETICS:
        return Published("torchvision's Kinetics-400 weights", *kinetics_weights(tower))
    if source.text == OWN:
        if not getattr(tower, "published", None):
            raise UserError(f"--init {source}: no weights are published for this tower; give a run or a file")
        return tower.published()
    path, weights = imagenet_weights(tower)
    return Published(f"ImageNet weights {path.name}", path, weights, LICENCE)


def _streams_in(weights: Weights, source: Source, model: FusionModel, named: set[str | None]) -> list[str]:
    """The streams of this run whose encoders the file holds, without those that --init names another file for."""
    there = encoders_in(weights)
    here = [name for name in model.encoders if name in there and name not in named]
    if not here:
        what = f"has encoders for {', '.join(sorted(there))}" if there else "does not say for which stream it is"
        wanted = [name for name in model.encoders if name not in named] or list(model.encoders)
        raise UserError(f"--init {source} {what}: name one of this run's, as in --init {wanted[0]}={source.text}")
    return here


def _without_counters(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(COUNTER)}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _part(name: str) -> str:
    """``"encoders.flow.lstm.bias"`` → ``"encoders.flow"``; ``"fc.bias"`` → ``"fc"``"""
    words = name.split(".")
    return ".".join(words[:2] if words[0] == "encoders" else words[:1])


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"
