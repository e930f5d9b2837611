"""One run of an extraction: what is known already, what is done now, and the store that comes of both."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.common.errors import UserError, one_line
from preprocess.extraction.local import work_here
from preprocess.extraction.partial import Ledger
from preprocess.extraction.report import Progress, duplicate_notes, find_duplicates, remembered, row, write_report
from preprocess.extraction.sources import Catalog, Source
from preprocess.extraction.task import Manifest, Unit, is_whole
from preprocess.progress import progress
from preprocess.store import Store
from preprocess.store.index import Rejected, Video
from preprocess.store.locations import Archive
from preprocess.store.writer import StoreWriter

if TYPE_CHECKING:
    from preprocess.extract import ExtractSettings


class Extraction:
    """One run: what is known already, what is done now, and the store that comes of both."""

    def __init__(self, settings: "ExtractSettings", parameters: dict, found: Catalog) -> None:
        self.settings = settings
        self.parameters = parameters
        self.found = found
        self.ledger = Ledger(settings.out)
        self.archive = Archive(parameters)
        self.part = settings.part.replace("/", "-of-")
        self.alone = self.part == "1-of-1"
        self.outcomes: dict[str, Manifest] = {}
        self.progress = Progress()

    def run(self) -> Store | None:
        """Do this part. The store, if it is complete by then; None if other parts are not, or no video can be used.

        Raises UserError where the user must do something first, and then the same again; OSError for what is not a
        video's fault.
        """
        settings, ledger = self.settings, self.ledger
        ledger.check(self.parameters, overwrite=settings.overwrite)
        with ledger.begin(self.part, parameters=self.parameters, overwrite=settings.overwrite):
            self.look()
            if self.alone:
                with ledger.joining(), self._writer() as writer:
                    self._extract(writer)
                    return self._publish(writer)
            self._extract(None)
            with ledger.joining():
                return self._join()

    def _newer_than(self) -> int | None:
        return self.ledger.job_time() if self.settings.overwrite and self.ledger.exists() else None

    def todo(self) -> list[Source]:
        """The sources of this part that are not settled."""
        mine = [source for source in self.found.sources if self.alone or part_of(source.path, self.settings.part)]
        return [source for source in mine if source.path not in self.outcomes]

    def what_is_kept(self) -> str:
        """What to say when the run ends before its time."""
        done = sum(manifest.signature is not None for manifest in self.outcomes.values())
        return f"{done} of {len(self.found.sources)} videos are done, and the same command goes on from there"

    def look(self) -> None:
        """Settle what earlier runs settled, if the file is as it was. Nothing is written."""
        self.archive.add_store(self.settings.out, newer_than=self._newer_than())
        known = [self.ledger.manifests()]
        if not self.settings.overwrite:
            known.append(remembered(self.settings.out))
        for source in self.found.sources:
            for manifests in known:
                manifest = manifests.of(source)
                if manifest and self._stands(manifest):
                    self.outcomes[source.path] = manifest
                    break

    def _stands(self, manifest: Manifest) -> bool:
        if manifest.reason is not None:
            return manifest.signature is not None and not self.settings.retry_rejected
        return self._have(manifest.content)

    def _have(self, content: str | None) -> bool:
        return content is not None and (content in self.archive or is_whole(self.ledger.piece(content)))

    def _extract(self, writer: StoreWriter | None) -> None:
        """Do what is not settled, and place what is ready, in the order of paths."""
        settings, ledger = self.settings, self.ledger
        todo = self.todo()
        known = self.archive.contents()
        unit = Unit(ledger.pieces, ledger.scratch(self.part), settings.store, known)
        mine = len(todo) + len(self.outcomes)
        pieces = any(m.reason is None and m.content not in self.archive for m in self.outcomes.values())
        # where nothing is new the store may be as it shall be, and copying what is in its own file would be in vain
        placing = self._placing(writer) if writer and (todo or pieces) else iter(())
        with (
            progress(total=mine, done=len(self.outcomes), unit="video", name="extract") as bar,
            ledger.journal(self.part) as journal,
            closing(self._work(todo, unit)) as done,
        ):
            next(placing, None)
            for manifest in done:
                self._check_still_there(manifest)
                journal.add(manifest)
                self.outcomes[manifest.path] = manifest
                self.progress.add(manifest)
                if manifest.reason:
                    bar.write(f"not used: {one_line(manifest.path)}: {one_line(manifest.reason)}")
                next(placing, None)
                bar.update()

    def _work(self, todo: list[Source], unit: Unit) -> Generator[Manifest, None, None]:
        settings = self.settings
        workers = min(settings.workers, len(todo))
        if not todo:
            return (manifest for manifest in ())
        if settings.engine == "ray":
            from preprocess.extraction.on_ray import work_on_ray

            address = settings.ray_address
            most = workers if address is None else None  # on a cluster, as many as it has CPUs
            return work_on_ray(todo, unit, address=address, workers=most, containment=settings.containment)
        return work_here(todo, unit, workers=workers, containment=settings.containment)

    def _placing(self, writer: StoreWriter) -> Iterator[None]:
        """Place every source whose turn it is; stop at the first that is not settled, until the next call."""
        for source in self.found.sources:
            while source.path not in self.outcomes:
                yield
            manifest = self.outcomes[source.path]
            if manifest.reason is None:
                self._place(writer, manifest.content)

    def _place(self, writer: StoreWriter, content: str | None) -> None:
        assert content is not None
        if content not in self.archive and not self.archive.add_file(self.ledger.piece(content)):
            raise UserError(f"{self.ledger.piece(content)} is damaged: remove it and run the same command again")
        writer.place(content)

    def _join(self) -> Store | None:
        """Make the store if no part has anything left to do."""
        self.archive = Archive(self.parameters)
        self.archive.add_store(self.settings.out, newer_than=self._newer_than())
        known = self.ledger.manifests()
        for source in self.found.sources:
            manifest = known.of(source)
            if manifest and (manifest.reason is not None or self._have(manifest.content)):
                self.outcomes.setdefault(source.path, manifest)
        left = len(self.found.sources) - len(self.outcomes)
        if left:
            print(f"part {self.settings.part} is done; {left} of {len(self.found.sources)} videos are left to others")
            return None
        with self._writer() as writer:
            for _ in self._placing(writer):
                pass
            return self._publish(writer)

    def _writer(self) -> StoreWriter:
        settings = self.settings
        scratch = self.ledger.scratch(self.part)
        return StoreWriter(settings.out, archive=self.archive, scratch=scratch, shard_bytes=settings.shard_size * 1e9)

    def _publish(self, writer: StoreWriter) -> Store | None:
        settings, sources = self.settings, self.found.sources
        videos, rejected = [], []
        for source in sources:
            manifest = self.outcomes[source.path]
            if manifest.reason is None:
                named = {name: getattr(source, name) for name in ("path", "label", "group", "split")}
                videos.append(Video(**vars(self.archive.facts(str(manifest.content))), **named))
            else:
                rejected.append(Rejected(source.path, manifest.reason))
        if not videos:
            self.ledger.discard()
            return None
        duplicates = find_duplicates(sources, self.outcomes)
        warnings = duplicate_notes(duplicates)
        notes = self.found.notes + warnings
        if self._is_published(videos, rejected, notes):
            writer.sweep(Store(settings.out).shards)  # which a run that was killed then has not done
        else:
            writer.publish(videos, rejected, notes=notes)
        for note in warnings:
            print(f"note: {one_line(note)}")
        same = [[source.path for source in group] for group in duplicates]
        used = {video.path: video for video in videos}
        rows = (row(self.outcomes[source.path], used.get(source.path)) for source in sources)
        facts = {"parameters": self.parameters, "workers": settings.workers, "engine": settings.engine}
        write_report(settings.out, rows, progress=self.progress, duplicates=same, **facts)
        self.ledger.discard()
        return Store(settings.out)

    def _is_published(self, videos: list[Video], rejected: list[Rejected], notes: list[str]) -> bool:
        """Whether the store that is there says all this already."""
        if not self.settings.out.exists() or self.settings.overwrite:
            return False
        store = Store(self.settings.out)
        if (store.parameters, store.rejected, store.notes) != (self.parameters, rejected, notes):
            return False
        return store.videos == videos and all(shard.exists() for shard in store.shards)

    def _check_still_there(self, manifest: Manifest) -> None:
        """Raises UserError if it is not one video that is missing, but all of them."""
        if manifest.signature is None and not os.path.isabs(manifest.path) and _is_gone(self.settings.videos):
            raise UserError(f"{self.settings.videos} is gone: bring it back and run the same command again")


def _is_gone(folder: Path) -> bool:
    """Whether a folder is not there, or empty, as where a disk was mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def part_of(path: str, part: str) -> bool:
    """Whether a video belongs to a part like "3/64". Adding videos moves none to another part."""
    number, count = map(int, part.split("/"))
    digest = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count == number - 1
