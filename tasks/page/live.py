"""What the page of a live source shows."""

from preprocess.store.codec import encode_rgb
from preprocess.video.buffer import LiveBuffer
from tasks.live_answers import LiveAnswers
from tasks.page.server import SHOWN
from tasks.timeline import Timeline, joined


class LivePage:
    """The state of a running tasks.live, for tasks.page.server."""

    def __init__(self, name: str, answers: LiveAnswers, source: LiveBuffer) -> None:
        self.name = name
        self._answers, self._source = answers, source

    def timeline(self) -> Timeline | None:
        """The answers of the last SHOWN seconds."""
        parts = self._answers.recent.copy()  # in one step: another thread adds to it
        return joined([part for part in parts if part.seconds > parts[-1].seconds - SHOWN]) if parts else None

    def still(self) -> bytes | None:
        """The newest picture, as the model sees it, a JPEG."""
        picture = self._source.latest
        return None if picture is None else encode_rgb(picture).tobytes()
