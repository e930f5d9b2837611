"""FFmpeg's filters on decoded frames: deinterlacing, and cropping to the clean aperture."""

from collections import deque
from collections.abc import Iterator

import av
from av.filter import Graph

from preprocess.video.mp4 import Aperture
from preprocess.video.order import TimedFrame

DEINTERLACE = "mode=send_frame:parity=auto:deint=interlaced"  # one frame out for each one in
SMALLEST = 4  # pixels; bwdif refuses less


class FrameFilters:
    """Crops frames if there is an aperture, and deinterlaces from the first frame on that says it is interlaced."""

    def __init__(self, aperture: Aperture | None) -> None:
        self.has_interlaced = False
        self._aperture = aperture
        self._graph: Graph | None = None
        self._form: tuple | None = None  # of the frames that the graph takes
        self._waiting: deque[TimedFrame] = deque()  # in the graph, which is a frame late

    def push(self, frame: TimedFrame) -> Iterator[TimedFrame]:
        """Take a frame; yield those that are ready."""
        image = frame.image
        crop = self._aperture and self._aperture.rectangle(image.width, image.height)
        self.has_interlaced |= image.interlaced_frame and min(image.width, image.height) >= SMALLEST
        if not self.has_interlaced and crop is None:
            yield frame
            return
        form = (image.width, image.height, image.format.name, self.has_interlaced)
        if form != self._form:  # also in the middle: the size of a broadcast changes
            yield from self.finish()
            self._graph, self._form = self._make_graph(image, crop), form
        assert self._graph is not None
        self._waiting.append(frame)
        self._graph.push(image)
        yield from self._pull()

    def finish(self) -> Iterator[TimedFrame]:
        """Yield the rest."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = self._form = None

    def _pull(self) -> Iterator[TimedFrame]:
        assert self._graph is not None
        while self._waiting:
            try:
                image = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            frame = self._waiting.popleft()
            frame.image = image
            yield frame

    def _make_graph(self, image: av.VideoFrame, crop: tuple[int, int, int, int] | None) -> Graph:
        graph = Graph()
        graph.threads = 1  # worker processes run in parallel
        size = {"width": image.width, "height": image.height}
        filters = [graph.add_buffer(**size, format=image.format, time_base=image.time_base)]
        if self.has_interlaced:
            filters.append(graph.add("bwdif", DEINTERLACE))
        if crop is not None:
            filters.append(graph.add("crop", ":".join(map(str, (*crop, 0, 1)))))  # exact, also with halved chroma
        graph.link_nodes(*filters, graph.add("buffersink")).configure()
        return graph
