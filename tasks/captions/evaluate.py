"""A judgement of a captioner, from every subset of its streams."""

from fusion.training.run import write_json
from preprocess.common.console import plural, print_table
from preprocess.common.errors import at_least
from preprocess.store import Store
from streams.registry import subset_name, subsets
from tasks.captions.captioner import load_captioner
from tasks.captions.predict import Told, tell
from tasks.captions.references import read_captions, videos_with_captions
from tasks.captions.scores import score_captions
from tasks.captions.settings import EvaluateCaption
from tasks.folder import output_folder
from tasks.sources import named_videos


def evaluate(settings: EvaluateCaption) -> dict[str, dict[str, float]]:
    """Caption each video as a whole, print and write the scores by subset; a caption for a video with none is empty.

    Raises UserError for a captioner, a store or captions that cannot be judged.
    """
    at_least(1, beam=settings.beam)
    captioner = load_captioner(settings.captioner, device=settings.device)
    chosen = subsets(captioner.model.choose(settings.streams))[::-1]
    out = settings.out or settings.captioner / f"judged-{settings.data.stem}"
    with output_folder(out):
        store = Store(settings.data)
        known = videos_with_captions(store, read_captions(settings.captions), path=settings.captions)
        videos = named_videos([settings.data], parameters=captioner.model.parameters)
        judged = {video.path for video, _ in known}
        told = tell(
            captioner, [one for one in videos if one.video in judged], chosen, beam=settings.beam, bar="captions"
        )
        report = {}
        out.mkdir(parents=True, exist_ok=True)
        for subset in chosen:
            texts = {video.path: _whole(told[subset][video.path]) for video, _ in known}
            report[subset_name(subset)] = score_captions(list(texts.values()), [its for _, its in known])
            write_json(out / f"{subset_name(subset)}.json", texts)
        write_json(out / "report.json", report)
    print(f"{plural(len(known), 'video')} of {settings.data}")
    names = list(next(iter(report.values())))
    rows = [[name, *(f"{values[one]:.3f}" for one in names)] for name, values in report.items()]
    print_table(["streams", *names], rows)
    print(f"wrote {out}/report.json, and the captions of each subset")
    return report


def _whole(parts: list[Told]) -> str:
    """The sentences of a video's windows, one after the other, each once."""
    return " ".join(dict.fromkeys(one.text for one in parts))
