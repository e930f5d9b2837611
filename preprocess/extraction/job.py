"""One run of an extraction: load saved outcomes, extract the other videos, write the store."""

import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from preprocess.common.console import progress
from preprocess.common.errors import UserError, one_line
from preprocess.common.stopping import Stopping
from preprocess.extraction.local import work_here
from preprocess.extraction.partial import PartialStore
from preprocess.extraction.report import (
    Progress,
    duplicate_notes,
    find_duplicates,
    remembered,
    row,
    write_report,
)
from preprocess.extraction.settings import ExtractSettings
from preprocess.extraction.sources import Catalog, Source, part_of
from preprocess.extraction.task import Outcome, VideoTask, is_whole
from preprocess.store import Store
from preprocess.store.index import Rejected, Video, notes_on_videos
from preprocess.store.locations import Locations
from preprocess.store.writer import StoreWriter


class Extraction:
    """One run: saved outcomes, videos to extract, and the store made of both."""

    def __init__(self, settings: ExtractSettings, parameters: dict, found: Catalog) -> None:
        self.settings = settings
        self.parameters = parameters
        self.found = found
        self.partial_store = PartialStore(settings.out)
        self.locations = Locations(parameters)
        self.part = settings.part.replace("/", "-of-")
        self.alone = self.part == "1-of-1"
        self.outcomes: dict[str, Outcome] = {}
        self.progress = Progress()
        self.stopping = Stopping()

    def run(self) -> Store | None:
        """Do this part; return the store if it is complete then, None if other parts are not or no video can be used.

        Raises UserError where the user must act before running again; OSError for what is not a video's fault;
        KeyboardInterrupt, between two videos, after Ctrl-C or SIGTERM.
        """
        settings, partial_store = self.settings, self.partial_store
        partial_store.check(self.parameters, overwrite=settings.overwrite)
        with partial_store.begin(self.part, parameters=self.parameters, overwrite=settings.overwrite):
            if self.alone:
                with partial_store.joining(), self.stopping.listening(), self._writer() as writer:
                    self.load_known()
                    self._extract(writer)
                    return self._publish(writer)
            with self.stopping.listening():
                self.load_known()
                self._extract(None)
            with partial_store.joining(), self.stopping.listening():  # here a signal interrupts the wait for others
                return self._join()

    def _newer_than(self) -> int | None:
        return self.partial_store.job_time() if self.settings.overwrite and self.partial_store.exists() else None

    def todo(self) -> list[Source]:
        """The sources of this part that have no outcome yet."""
        mine = [source for source in self.found.sources if self.alone or part_of(source.path, self.settings.part)]
        return [source for source in mine if source.path not in self.outcomes]

    def what_is_kept(self) -> str:
        """The message for a run that ends early: how much is saved."""
        done = sum(outcome.signature is not None for outcome in self.outcomes.values())
        return f"{done} of {len(self.found.sources)} videos are done, and the same command goes on from there"

    def load_known(self) -> None:
        """Load the outcomes of earlier runs for files that have not changed. Nothing is written."""
        self.locations.add_store(self.settings.out, newer_than=self._newer_than())
        known = [self.partial_store.outcomes()]
        if not self.settings.overwrite:
            known.append(remembered(self.settings.out))
        for source in self.found.sources:
            self.stopping.check()
            for outcomes in known:
                outcome = outcomes.of(source)
                if outcome and self._stands(outcome):
                    self.outcomes[source.path] = outcome
                    break

    def _stands(self, outcome: Outcome) -> bool:
        if outcome.reason is not None:
            return outcome.signature is not None and not self.settings.retry_rejected
        return self._have(outcome.content)

    def _have(self, content: str | None) -> bool:
        return content is not None and (content in self.locations or is_whole(self.partial_store.piece(content)))

    def _extract(self, writer: StoreWriter | None) -> None:
        """Extract the sources without an outcome; place finished videos in the order of paths."""
        settings, partial_store = self.settings, self.partial_store
        todo = self.todo()
        known = self.locations.contents()
        unit = VideoTask(partial_store.pieces, partial_store.scratch(self.part), settings.store, known)
        mine = len(todo) + len(self.outcomes)
        pieces = any(m.reason is None and m.content not in self.locations for m in self.outcomes.values())
        # where nothing is new the store may be complete already, and copying from its own file would be useless work
        placing = self._placing(writer) if writer and (todo or pieces) else None
        with (
            progress(total=mine, done=len(self.outcomes), unit="video", name="extract") as bar,
            partial_store.journal(self.part) as journal,
            closing(self._work(todo, unit)) as done,
        ):
            if placing:
                placing.place_ready()
            for outcome in done:
                self._check_still_there(outcome)
                journal.add(outcome)
                self.outcomes[outcome.path] = outcome
                self.progress.add(outcome)
                if outcome.reason:
                    bar.write(f"not used: {one_line(outcome.path)}: {one_line(outcome.reason)}")
                if placing:
                    placing.place_ready()
                bar.update()

    def _work(self, todo: list[Source], unit: VideoTask) -> Generator[Outcome, None, None]:
        settings = self.settings
        if not todo:
            return (outcome for outcome in ())
        workers = min(settings.workers, len(todo))
        common = {"workers": workers, "worker_limits": settings.worker_limits, "stopping": self.stopping}
        if settings.engine == "ray":
            from preprocess.extraction.on_ray import work_on_ray

            return work_on_ray(todo, unit, address=settings.ray_address, **common)
        return work_here(todo, unit, **common)

    def _placing(self, writer: StoreWriter) -> "Placing":
        return Placing(self.found.sources, self.outcomes, writer, self.partial_store, self.stopping)

    def _join(self) -> Store | None:
        """Write the store if no part has anything left to do."""
        self.locations = Locations(self.parameters)
        self.locations.add_store(self.settings.out, newer_than=self._newer_than())
        known = self.partial_store.outcomes()
        for source in self.found.sources:
            self.stopping.check()
            outcome = known.of(source)
            if outcome and (outcome.reason is not None or self._have(outcome.content)):
                self.outcomes.setdefault(source.path, outcome)
        left = len(self.found.sources) - len(self.outcomes)
        if left:
            print(f"part {self.settings.part} is done; {left} of {len(self.found.sources)} videos are left to others")
            return None
        with self._writer() as writer:
            self._placing(writer).place_ready()
            return self._publish(writer)

    def _writer(self) -> StoreWriter:
        settings = self.settings
        scratch = self.partial_store.scratch(self.part)
        return StoreWriter(
            settings.out, locations=self.locations, scratch=scratch, shard_bytes=settings.shard_size * 1e9
        )

    def _publish(self, writer: StoreWriter) -> Store | None:
        settings, sources = self.settings, self.found.sources
        videos, rejected = [], []
        for source in sources:
            outcome = self.outcomes[source.path]
            if outcome.reason is None:
                named = {name: getattr(source, name) for name in ("path", "label", "group", "split")}
                videos.append(Video(**vars(self.locations.facts(str(outcome.content))), **named))
            else:
                rejected.append(Rejected(source.path, outcome.reason))
        if not videos:
            self.partial_store.discard()
            return None
        duplicates = find_duplicates(sources, self.outcomes)
        warnings = duplicate_notes(duplicates)
        notes = self.found.notes + warnings
        if self._is_published(videos, rejected, notes):
            writer.sweep(Store(settings.out).shards)  # a killed run may not have got this far
        else:
            writer.publish(videos, rejected, notes=notes)
        for note in [*warnings, *notes_on_videos((video.path, video.notes) for video in videos)]:
            print(f"note: {one_line(note)}")
        same = [[source.path for source in group] for group in duplicates]
        used = {video.path: video for video in videos}
        rows = (row(self.outcomes[source.path], used.get(source.path)) for source in sources)
        facts = {"parameters": self.parameters, "workers": settings.workers, "engine": settings.engine}
        write_report(settings.out, rows, progress=self.progress, duplicates=same, **facts)
        self.partial_store.discard()
        return Store(settings.out)

    def _is_published(self, videos: list[Video], rejected: list[Rejected], notes: list[str]) -> bool:
        """True if the published store already holds exactly this."""
        if not self.settings.out.exists() or self.settings.overwrite:
            return False
        store = Store(self.settings.out)
        if (store.parameters, store.rejected, store.notes) != (self.parameters, rejected, notes):
            return False
        return store.videos == videos and all(shard.exists() for shard in store.shards)

    def _check_still_there(self, outcome: Outcome) -> None:
        """Raises UserError if not just one video is missing but all of them."""
        if outcome.signature is None and not os.path.isabs(outcome.path) and _is_gone(self.settings.videos):
            raise UserError(f"{self.settings.videos} is gone: bring it back and run the same command again")


class Placing:
    """Hands videos to the writer in the order of paths, whatever the order in which they finish."""

    def __init__(
        self,
        sources: Sequence[Source],
        outcomes: Mapping[str, Outcome],
        writer: StoreWriter,
        partial_store: PartialStore,
        stopping: Stopping,
    ) -> None:
        self._waiting = deque(sources)
        self._outcomes = outcomes  # grows while the run goes on
        self._writer = writer
        self._partial_store = partial_store
        self._stopping = stopping

    def place_ready(self) -> None:
        """Place the next videos, up to the first that has no outcome yet."""
        while self._waiting and (outcome := self._outcomes.get(self._waiting[0].path)):
            self._stopping.check()
            self._waiting.popleft()
            if outcome.reason is None:
                self._place(str(outcome.content))

    def _place(self, content: str) -> None:
        locations, piece = self._writer.locations, self._partial_store.piece(content)
        if content not in locations and not locations.add_file(piece):
            raise UserError(f"{piece} is damaged: remove it and run the same command again")
        self._writer.place(content)


def _is_gone(folder: Path) -> bool:
    """True if a folder is missing, or empty like the mount point of a disk that is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True
