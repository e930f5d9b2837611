"""Watch a live video: an alarm is told when it begins, and again, with its length, when it is over."""

import sys
from collections.abc import Iterator

import numpy as np

from preprocess.common.errors import one_line
from preprocess.common.stopping import Stopping
from preprocess.store.format import MEL_RATE
from preprocess.video.capture import capture
from preprocess.video.decoded import Item
from preprocess.video.live import LiveVideo
from tasks.anomaly.alarms import JOIN, SMOOTH, alarms
from tasks.anomaly.detector import Detector, Scored
from tasks.anomaly.moments import HEARD, Reader
from tasks.anomaly.settings import WatchAnomaly
from tasks.events.event import Event

PATIENCE = 1.0  # seconds that sound may lag behind the pictures
LONGEST = 60.0  # seconds after which an alarm that goes on is told as if it were over


class LiveAlarms:
    """Alarms of moments that come one by one: the same as of the whole video, but for those cut at LONGEST."""

    def __init__(self, detector: Detector, *, video: str, threshold: float) -> None:
        self._detector, self._threshold = detector, threshold
        self._shape = {"video": video, "step": detector.seconds, "threshold": threshold}
        self._around = round(4 * SMOOTH / detector.seconds + 0.5)  # moments to each side that smoothing takes in
        self._parts: list[Scored] = []
        self._done = 0  # moments before these have been told
        self.is_on = False

    def push(self, part: Scored) -> list[Event]:
        """Take the next moments; the alarms that are over by now."""
        self._parts.append(part)
        return self._found(is_last=False)

    def end(self) -> list[Event]:
        """Those of the last moments."""
        return self._found(is_last=True)

    def _found(self, *, is_last: bool) -> list[Event]:
        """The alarms among the moments that no later one changes, if the last of them is over."""
        if not self._parts:
            return []
        scored = Scored.joined(self._parts)
        until = len(scored.times) if is_last else len(scored.times) - self._around
        if until <= self._done:
            return []
        rated = self._detector.rate(scored)
        scores, times = rated.score, rated.times
        high = np.nonzero(scores[self._done : until] > self._threshold)[0] + self._done
        self.is_on = bool(len(high)) and times[until - 1] - times[high[-1]] <= JOIN + self._detector.seconds
        if self.is_on and not is_last and times[until - 1] - times[high[0]] < LONGEST:
            self._parts = [scored]
            return []
        inside = slice(self._done, until)
        found = alarms(times[inside], scores[inside], rated.causes[inside], **self._shape)
        drop = max(0, until - self._around)  # what is left smooths what comes next
        streams = {name: of[drop:] for name, of in scored.streams.items()}
        self._parts = [Scored(times[drop:], streams, {})]
        self._done, self.is_on = until - drop, False
        return found


def watch_live(settings: WatchAnomaly, detector: Detector, reader: Reader, *, threshold: float) -> list[Event]:
    """Tell the alarms of a live source until it ends or Ctrl-C; return them all.

    Raises UserError for a source that cannot be reached or decoded.
    """
    assert settings.live is not None
    name, found, was_on = settings.live, [], False

    def note(text: str) -> None:
        print(f"{name}: {one_line(text)}", file=sys.stderr, flush=True)

    def tell(events: list[Event]) -> None:
        for event in events:
            print(f"{event.start:8.2f} – {event.end:8.2f} s  unusual {event.label}, {event.score:.2f}", flush=True)
        found.extend(events)

    live = LiveAlarms(detector, video=name, threshold=threshold)
    with Stopping().listening() as stopping:
        source = capture(
            name,
            parameters=detector.parameters,
            in_time=True,
            seconds=settings.seconds,
            note=note,
            stop=lambda: stopping.asked,
        )
        for part in live_moments(source, detector, reader):
            tell(live.push(part))
            if live.is_on and not was_on:
                print(f"{part.times[-1]:8.2f} s  alarm", flush=True)
            was_on = live.is_on
    tell(live.end())
    return found


def live_moments(items: Iterator[Item], detector: Detector, reader: Reader) -> Iterator[Scored]:
    """The score of each moment as soon as all of it has come; memory does not grow."""
    live, first, step = LiveVideo(detector.parameters), 0, detector.step

    def is_there() -> bool:
        if live.frames_so_far <= first + step:  # flow needs one frame more
            return False
        end = first / live.fps + HEARD
        late = live.frames_so_far / live.fps >= end + PATIENCE
        heard = "audio" not in reader.streams or live.until("audio") >= end
        seen = not {"rgb", "flow"} & {*reader.streams} or live.until("flow") >= (first + step) / live.fps
        return late or (seen and (heard or live.has_stopped("audio", patience=PATIENCE)))

    def scored() -> Scored:
        begin, end = first / live.fps, (first + step) / live.fps
        reaches = {"rgb": [(begin, end)], "flow": [(begin, end)], "audio": [(begin, begin + HEARD)]}
        part = reader.read(live, live.within(reaches), first, step)
        live.forget(frame=first, row=int(begin * MEL_RATE))
        return detector.score(part, streams=reader.streams)

    for item in items:
        live.push(item)
        while is_there():
            yield scored()
            first += step
    live.end()
    while first < live.frames_so_far:
        yield scored()
        first += step
