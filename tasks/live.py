"""Answer about a live video while it comes: a camera, an address on the network, or a file as if it were one.

    python -m tasks.live runs/NAME 0                                # camera 0 of this machine
    python -m tasks.live runs/NAME rtsp://192.168.0.20/stream1      # also http, https, rtmp, udp, tcp, srt
    python -m tasks.live runs/NAME video.mp4 --paced                # a file in real time
    python -m tasks.live runs/NAME 0 --json --log today.jsonl       # one JSON object an answer
    python -m tasks.live runs/NAME 0 --page                         # and a page to watch, on this machine

Ctrl-C ends it, and shows how long answers took. Pictures that cannot be used in time are dropped, the oldest first.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, one_line
from preprocess.common.stopping import Stopping
from preprocess.video.buffer import LiveBuffer
from preprocess.video.capture import capture
from tasks.live_answers import Delay, LiveAnswers
from tasks.model import Model, load
from tasks.page.live import LivePage
from tasks.page.server import serve
from tasks.settings import LiveSettings
from tasks.timeline import Timeline


def as_dict(part: Timeline, delay: Delay) -> dict:
    """One answer, JSON-ready: a stream that is not there is null."""

    def best(answer) -> dict:
        row = int(answer.argmax())
        return {"class": part.classes[row], "probability": round(float(answer[row]), 6)}

    streams = {
        name: best(alone[-1]) | {"share": round(float(part.shares[name][-1]), 6)} if part.present[name][-1] else None
        for name, alone in part.streams.items()
    }
    begin, end = (round(second, 3) for second in part.times[-1].tolist())
    delays = {stage: round(seconds, 4) for stage, seconds in delay.stages.items()}
    return {"begin": begin, "end": end, **best(part.answer[-1]), "streams": streams, "delay": delays}


def print_answer(found: dict) -> None:
    """The same for people."""
    streams = [
        f"{name} –" if one is None else f"{name} {one['class']} {one['probability']:.0%} ({one['share']:+.2f})"
        for name, one in found["streams"].items()
    ]
    when = f"{found['begin']:8.2f} – {found['end']:8.2f} s"
    answer = f"{found['class']} {found['probability']:.0%}"
    print(f"{when}  {answer}   {', '.join(streams)}   {found['delay']['total']:.2f} s later", flush=True)


def summary(answers: LiveAnswers, source: LiveBuffer, *, count: int) -> dict:
    """What the end says, JSON-ready."""
    counts = {"answers": count, "dropped": source.dropped, "stalls": source.stalls, "reconnects": source.reconnects}
    return counts | {"delay": answers.quantiles()}


def print_summary(found: dict) -> None:
    """The same for people."""
    found = found["summary"]
    counts = [plural(found["dropped"], "picture") + " dropped", plural(found["stalls"], "stall")]
    print(f"{plural(found['answers'], 'answer')}; {', '.join(counts)}, {plural(found['reconnects'], 'reconnect')}")
    if found["delay"]:
        rows = [[name, f"{of['p50']:.3f}", f"{of['p95']:.3f}"] for name, of in found["delay"].items()]
        print_table(["delay (s)", "p50", "p95"], rows)


class Log:
    """JSON lines at the end of a file, which is opened for the first of them."""

    def __init__(self, path: Path | None) -> None:
        """Without a path nothing is written."""
        self._path = path
        self._file: TextIO | None = None

    def write(self, line: str) -> None:
        """Raises UserError if the file cannot be written."""
        if self._path is None:
            return
        try:
            self._file = self._file or open(self._path, "a", encoding="utf-8")
            print(line, file=self._file, flush=True)
        except OSError as error:
            raise UserError(f"--log {self._path}: {error.strerror}") from error


def main(settings: LiveSettings | None = None) -> int:
    settings = settings or parse_command(LiveSettings, prog="python -m tasks.live", doc=__doc__)
    model = load(settings.run, weights=settings.weights, device=settings.device)
    with Stopping().listening() as stopping:
        source = open_source(settings, model, stopping)
        chosen = None if settings.streams is None else model.choose(settings.streams)
        answers = LiveAnswers(model, source, length=settings.length, hop=settings.hop, streams=chosen)
        with ExitStack() as stack:
            if settings.page:
                state = LivePage(settings.source, answers, source)
                url = stack.enter_context(serve(state, host=settings.host, port=settings.port))
                print(f"watch it at {url}", file=sys.stderr, flush=True)
            tell(answers, source, settings)
    return 0


def open_source(settings: LiveSettings, model: Model, stopping: Stopping) -> LiveBuffer:
    """The source, which ends when a signal has come."""

    def note(text: str) -> None:
        print(f"{settings.source}: {one_line(text)}", file=sys.stderr, flush=True)

    return capture(
        settings.source,
        parameters=model.parameters,
        in_time=settings.paced,
        patience=settings.patience,
        reconnect=settings.reconnect,
        seconds=settings.seconds,
        note=note,
        stop=lambda: stopping.asked,
    )


def tell(answers: LiveAnswers, source: LiveBuffer, settings: LiveSettings) -> None:
    """Show and log each answer, and at the end the summary."""
    log, count = Log(settings.log), 0

    def write(found: dict, show: Callable[[dict], None]) -> None:
        line = json.dumps(found, ensure_ascii=False)
        if settings.json:
            print(line, flush=True)
        else:
            show(found)
        log.write(line)

    for part, delay in answers:
        write(as_dict(part, delay), print_answer)
        count += 1
    write({"summary": summary(answers, source, count=count)}, print_summary)


if __name__ == "__main__":
    run_command(main)
