"""What a card says of a run: its videos, the reports that judged its weights, an ablation."""

import json
from pathlib import Path

from fusion.training.run import read_settings, read_split
from fusion.training.transfer import sha256_of
from preprocess.common.console import markdown_table
from preprocess.common.errors import UserError
from tasks.audit import Audit, Leak, Shortcut, audit_table, warnings
from tasks.bootstrap import Interval
from tasks.hub.card import Judged, Origin


def origin_of(run: Path) -> Origin:
    """Raises UserError if the folder is no run of this version."""
    _, saved = read_settings(run)
    split = read_split(run)
    return Origin(len(split.train), len(split.val), split.how, saved.get("init", []))


def reports_of(run: Path) -> list[Path]:
    """The folders of a run's own reports, in the order of their names."""
    return sorted(path.parent for path in run.glob("judged/*/report.json"))


def read_judged(folder: Path, weights: Path) -> Judged | None:
    """A report of tasks.evaluate; None if it judged other weights than those in this file.

    Raises UserError if there is no report, or it is of another version.
    """
    path = folder / "report.json"
    report = _read(path, "tasks.evaluate")
    try:
        if report.get("weights_sha256") != sha256_of(weights):
            return None
        audit = report["audit"] and _audit_text(audit_from_json(report["audit"]))
        data = report["data"]
        which = report["which"].replace(data, Path(data).name)
        numbers = {name: report[name] for name in ("views", "videos", "chosen_on", "subsets")}
        return Judged(which=which, data=Path(data).name, audit=audit, **numbers)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what this version of tasks.evaluate writes ({error}): judge again") from error


def read_ablation(folder: Path) -> str:
    """The tables of a folder of tasks.ablate as Markdown, under a sentence about them.

    Raises UserError if there are none.
    """
    found = _read(folder / "ablation.json", "tasks.ablate")
    try:
        text = (folder / "table.md").read_text(encoding="utf-8")
        data = str(found["data"])
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no folder of tasks.ablate: it lacks table.md, or the name of its data") from error
    about = "Runs of each subset of the streams, and their controls; the weights here need not be one of them."
    return f"{about}\n\n{text.replace(data, Path(data).name)}"


def audit_from_json(values: dict) -> Audit:
    """Raises KeyError or TypeError for an audit of another version."""
    shortcuts = {
        kind: Shortcut(**found | {"gain": Interval(**found["gain"])}) for kind, found in values["shortcuts"].items()
    }
    leaks = {name: [Leak(**leak) for leak in values[name]] for name in ("groups", "identical")}
    return Audit(**values | leaks | {"shortcuts": shortcuts})


def _audit_text(audit: Audit) -> str:
    head, rows = audit_table(audit)
    shown = markdown_table(head, [[cell.replace("|", "\\|") for cell in row] for row in rows])
    return "\n\n".join([shown.strip(), *warnings(audit)]) + "\n"


def _read(path: Path, command: str) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is no folder of {command}: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
