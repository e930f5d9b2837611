"""Publish a run: a folder that others load, with a card that says what was measured, here or on the Hugging Face hub.

    python -m tasks.publish runs/NAME out/
    python -m tasks.publish runs/NAME out/ --licence cc-by-4.0 --ablation runs/ablation
    python -m tasks.publish runs/NAME out/ --repo OWNER/NAME      # also upload it; 'hf auth login' comes first

The card, README.md, shows what tasks.evaluate has found about these weights, and tasks.ablate in the folder that is
given; what was not measured or stated is called so. The other way: tristream.load("out/") or
tristream.load("hf:OWNER/NAME"), and likewise in predict and the other commands that ask a run about videos.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from pathlib import Path

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError
from tasks.hub.settings import PublishSettings


def main(settings: PublishSettings | None = None) -> int:
    settings = settings or parse_command(PublishSettings, prog="python -m tasks.publish", doc=__doc__)
    from tasks.hub.card import Evidence, Told  # these load PyTorch, for which --help must not wait
    from tasks.hub.fetch import check_name, push
    from tasks.hub.results import origin_of, read_ablation, reports_of
    from tasks.model import load

    if settings.repo:
        check_name(settings.repo)
    if not settings.run.is_dir():
        raise UserError(f"{settings.run} is no folder of a run: a card needs its settings.json and split.json")
    model = load(settings.run, weights=settings.weights, device="cpu")
    folders = list(settings.judged) or reports_of(settings.run)
    evidence = Evidence(
        told=Told(settings.licence, settings.data, settings.not_for),
        origin=origin_of(settings.run),
        judged=_judged(folders, model.path, needed=bool(settings.judged)),
        ablation=settings.ablation and read_ablation(settings.ablation),
    )
    title = settings.repo.partition("/")[2] if settings.repo else settings.out.name
    model.save_pretrained(settings.out, evidence=evidence, title=title, repo=settings.repo)
    print(f"{settings.out}: {', '.join(sorted(path.name for path in settings.out.iterdir()))}")
    if not evidence.judged:
        print(f"note: nothing is known of how good it is: python -m tasks.evaluate {settings.run} --data test.h5")
    if not settings.licence:
        print("note: without --licence nobody knows what they may do with it")
    if settings.repo:
        print(push(settings.out, settings.repo, private=settings.private, message=f"{title} by tristream"))
    return 0


def _judged(folders: list[Path], weights: Path, *, needed: bool) -> list:
    """Those reports that judged these weights, with a note on each other one.

    Raises UserError for another one if they are `needed`.
    """
    from tasks.hub.results import read_judged

    found = []
    for folder in folders:
        one = read_judged(folder, weights)
        if one is None:
            why = f"{folder} judged other weights than {weights}"
            if needed:
                raise UserError(f"{why}: judge these with tasks.evaluate, and name that folder")
            print(f"note: {why}: left out")
        else:
            found.append(one)
    return found


if __name__ == "__main__":
    run_command(main)
