"""The card of a published model: README.md with metadata (Mitchell et al. 2019), which says only what is known.

What nobody measured or stated is called so.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fusion.training.run import About
from preprocess.common.console import markdown_table, plural
from preprocess.common.errors import one_line

SHOWN = 100  # classes that are listed; config.json has all
WORST = 3  # classes that are named as least often right


@dataclass(frozen=True)
class Told:
    """Statements of who publishes the model."""

    licence: str | None = None
    data: str | None = None
    not_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """The videos that a run learned from, and the weights that it started from."""

    train: int  # videos
    val: int
    how: str  # the split, in a sentence
    started: list[dict]  # reports of --init


@dataclass(frozen=True)
class Judged:
    """A report of tasks.evaluate on these weights."""

    which: str  # the judged videos, in a sentence
    data: str  # name of their store
    views: int
    videos: int
    chosen_on: int  # videos on which the weights were chosen
    subsets: dict[str, dict]  # by the names of their streams: tasks.metrics.score, and the `interval` of top-1
    audit: str | None  # Markdown

    @property
    def whole(self) -> dict:
        """The scores of the largest subset."""
        return self.subsets[max(self.subsets, key=lambda name: name.count("+"))]


@dataclass(frozen=True)
class Evidence:
    """All that a card says beside what the weights' file does."""

    told: Told = field(default_factory=Told)
    origin: Origin | None = None
    judged: Sequence[Judged] = ()
    ablation: str | None = None  # Markdown


def model_card(about: About, evidence: Evidence, *, title: str, repo: str | None = None) -> str:
    """The card of a model that others load as `repo`, or from a folder."""
    sections = {
        "Use": _use(about, repo),
        "Classes": _classes(about),
        "What it learned from": _learned(about, evidence),
        "Recipe and preprocessing": _recipe(about),
        "Results": _results(evidence.judged),
        "Ablation": evidence.ablation or "Not measured: no results of `tasks.ablate` were given.",
        "What it is not good for": "\n".join(f"- {line}" for line in _limits(about, evidence)),
        "Licence": _licence(evidence),
    }
    streams = about.settings.streams.split(",")
    what = f"A model of {_all(streams)} of a video, by {about.version}: {plural(len(about.classes), 'class')}."
    if not about.classes:
        what = f"Encoders of {_all(streams)} of a video, by {about.version}, without a classifier."
    parts = [_metadata(about, evidence, title), f"# {_text(title)}", what]
    parts += [f"## {heading}\n\n{text.strip()}" for heading, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _metadata(about: About, evidence: Evidence, title: str) -> str:
    """YAML, each value as JSON, which is YAML too: no name can break it."""
    values: dict[str, object] = {"library_name": "tristream", "pipeline_tag": "video-classification"}
    values["tags"] = ["tristream", *(f"stream-{name}" for name in about.settings.streams.split(","))]
    if evidence.told.licence:
        values["license"] = evidence.told.licence
    results = [
        {
            "task": {"type": "video-classification"},
            "dataset": {"name": one.data, "type": one.data},
            "metrics": [
                {"type": "accuracy", "name": f"top-1 from {name}", "value": scores["top1"]}
                for name, scores in one.subsets.items()
            ],
        }
        for one in evidence.judged
    ]
    if results:
        values["model-index"] = [{"name": title, "results": results}]
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return "\n".join(["---", *lines, "---"])


def _use(about: About, repo: str | None) -> str:
    place = f"hf:{repo}" if repo else "path/of/this/folder"
    call = 'model.predict("new.mp4").top(5)' if about.classes else 'next(model.windows("new.mp4")).features'
    return f'```python\nimport tristream\n\nmodel = tristream.load("{place}")\n{call}\n```'


def _classes(about: About) -> str:
    if not about.classes:
        return "None: it was trained without labels."
    more = len(about.classes) - SHOWN
    return ", ".join(map(_text, about.classes[:SHOWN])) + (f" and {more} more, in `config.json`" if more > 0 else "")


def _learned(about: About, evidence: Evidence) -> str:
    lines = [_text(evidence.told.data) if evidence.told.data else "Who published it does not say what the videos are."]
    store, origin = _text(about.settings.data.name), evidence.origin
    if origin is None:
        return f"{lines[0]} Their store was called {store}. Which videos it trained on is not known here."
    lines.append(
        f"{plural(origin.train, 'video')} of the store {store} trained it, {origin.val} more validated it. "
        f"The split: {_text(origin.how)}."
    )
    for report in origin.started:
        name = _text(report["source"].split("/")[-1])
        digest = f", SHA-256 `{report['sha256']}`" if report.get("sha256") else ""
        lines.append(f"{report['stream']} started from {name}{digest}; its licence: {_text(report['licence'])}.")
    if not origin.started:
        lines.append("All weights started at random.")
    return "\n\n".join(lines)


def _recipe(about: About) -> str:
    recipe, clip, parameters = about.settings.recipe, about.settings.recipe.clip, about.parameters
    flow = parameters.get("flow") or {}
    rows = [
        ["towers", ", ".join(map(_text, recipe.model.towers)) or "the usual ones"],
        ["fusion head", recipe.model.head],
        ["clip", f"{clip.segments} × {clip.frames} pictures of {clip.size} × {clip.size}, stride {clip.stride}"],
        *([["clips of one stream", ", ".join(clip.clip_of)]] if clip.clip_of else []),
        ["sound of a clip", f"{clip.audio_seconds:g} s"],
        ["epochs, batch, seed", f"{recipe.epochs}, {recipe.batch}, {about.settings.seed}"],
        ["frame rate", f"{parameters['fps']:g} a second"],
        ["short side of the pictures", _pixels(parameters.get("short_side"))],
        ["bands of log-mel", str(parameters.get("mel_bands", "none"))],
        ["flow", " ".join(str(flow[name]) for name in ("method", "preset") if name in flow) or "none"],
    ]
    return markdown_table(["what", "value"], rows) + "\n`config.json` has all settings."


def _results(judged: Sequence[Judged]) -> str:
    if not judged:
        return "Not measured: these weights have not been judged with `tasks.evaluate`."
    return "\n\n".join(_result(one) for one in judged)


def _result(one: Judged) -> str:
    rates = ("uar", "macro_f1", "calibration_error")
    rows = [
        [
            *(name, _percent(scores["top1"]), _interval(scores)),
            *(_percent(scores.get(rate)) for rate in rates),
            f"{scores['answered']} of {scores['videos']}",
        ]
        for name, scores in one.subsets.items()
    ]
    head = ["streams", "top-1", "95 % interval", "UAR", "macro F1", "calibration error", "answered"]
    text = f"{_text(one.which)}, {plural(one.views, 'view')} each; a video without an answer counts as wrong.\n\n"
    text += markdown_table(head, rows)
    if one.chosen_on:
        text += f"\nThe weights were chosen on {one.chosen_on} of these {one.videos} videos, which favours them.\n"
    return text + "\n" + (one.audit or "The split was not audited: the training store was not there.\n")


def _limits(about: About, evidence: Evidence) -> Iterator[str]:
    yield from map(_text, evidence.told.not_for)
    clip = about.settings.recipe.clip
    if about.classes:
        yield "A video of none of its classes gets one of them all the same: their probabilities add up to 1."
    yield (
        f"It sees {clip.length / about.parameters['fps']:.2f} s at a time: an order of events over longer than that is "
        "not seen."
    )
    if not evidence.judged:
        yield "How often it is right is not known."
    for one in evidence.judged:
        yield f"How often it is right is known for {_text(one.which)} alone, and not for videos from elsewhere."
        classes = sorted(one.whole["per_class"].items(), key=lambda item: item[1]["top1"])[:WORST]
        named = (f"{_text(name)} ({_percent(found['top1'])} of {found['videos']})" for name, found in classes)
        yield f"Least often right there: {', '.join(named)}."
    yield "Not measured: fairness towards groups of people, and videos made to deceive it."


def _licence(evidence: Evidence) -> str:
    told = evidence.told.licence
    text = f"The weights: {_text(told)}." if told else "Who published the weights does not state a licence."
    if evidence.origin and evidence.origin.started:
        text += " Weights that it started from have their own, above."
    return text


def _interval(scores: dict) -> str:
    low, high = (scores.get("interval") or {}).get("low"), (scores.get("interval") or {}).get("high")
    return "not measured" if low is None or high is None else f"{_percent(low)} to {_percent(high)}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f} %"


def _pixels(side: int | None) -> str:
    return "none" if side is None else f"{side} pixels"


def _all(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _text(value: object) -> str:
    """A name as Markdown shows it: signs that would begin a table's cell, a link or HTML are escaped."""
    return "".join(f"\\{sign}" if sign in "\\`*[]<>|#" else sign for sign in one_line(str(value)))
