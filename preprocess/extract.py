"""Turn a folder of videos into one store of RGB, TV-L1 optical flow and log-mel sound.

    python -m preprocess.extract videos/ out.h5                       # videos/<class>/<video>, at any depth
    python -m preprocess.extract videos/ out.h5 --labels labels.csv   # columns: path,label[,split][,group]
    python -m preprocess.extract videos/ out.h5 --test '*_g0[1-7]_*'  # a split by patterns of paths
    python -m preprocess.extract videos/ out.h5 --part 3/64           # one part of a job array; the last joins all

Run it again after it was interrupted, or after videos were added or changed: only what is missing is done.
Look at the result with python -m preprocess.info out.h5 and python -m preprocess.show out.h5 VIDEO.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import errno
import sys
from dataclasses import replace

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError, one_line
from preprocess.extraction import sources
from preprocess.extraction.job import Extraction
from preprocess.extraction.report import print_run, print_stages
from preprocess.extraction.settings import ExtractSettings, validate
from preprocess.extraction.sources import Catalog, part_of
from preprocess.info import print_summary
from preprocess.store import Store

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def prepare_job(settings: ExtractSettings) -> Extraction:
    """The extraction that the settings describe.

    Raises UserError for input that cannot be used.
    """
    parameters = validate(settings)
    found = find(settings)
    for note in found.notes:
        print(f"note: {one_line(note)}")
    if settings.separate:
        mine = [source for source in found.sources if part_of(source.path, settings.part)]
        found, settings = replace(found, sources=mine), replace(settings, part="1/1")
    return Extraction(settings, parameters, found)


def extract(settings: ExtractSettings) -> Store | None:
    """Extract every video and write the store; None if it is not complete yet, or no video can be used.

    Raises UserError for input that cannot be used.
    """
    extraction = prepare_job(settings)
    try:
        store = extraction.run()
        extraction.stopping.check()
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(extraction.what_is_kept()) from stop
    except OSError as error:  # not a video's fault: the disk is full, the target is read-only
        what = f"{error.strerror or error}: {error.filename or settings.out}"
        do = f"make room for {settings.out}: " if error.errno in FULL else ""
        raise UserError(f"{what}; {do}{extraction.what_is_kept()}") from error
    print_run(extraction.progress, len(extraction.outcomes) - extraction.progress.done)
    if settings.profile:
        print_stages(extraction.progress.cpu)
    return store


def find(settings: ExtractSettings) -> Catalog:
    """The videos that the settings name."""
    links = {"follow_links": settings.follow_links}
    if settings.labels:
        found = sources.from_csv(settings.videos, settings.labels, **links)
    else:
        found = sources.from_folder(settings.videos, **links)
    return sources.with_splits(found, val=settings.val, test=settings.test)


def main(settings: ExtractSettings | None = None) -> int:
    settings = settings or parse_command(ExtractSettings, prog="python -m preprocess.extract", doc=__doc__)
    if settings.dry_run:
        from preprocess.extraction.estimate import print_plan

        extraction = prepare_job(settings)
        extraction.load_known()
        print_plan(extraction.todo(), total=len(extraction.found.sources), settings=settings)
        return 0
    store = extract(settings)
    if store is None:
        if settings.part == "1/1":
            print(f"error: none of the videos in {settings.videos} can be used; no store was written", file=sys.stderr)
            return 1
        return 0
    print_summary(store)
    return 1 if settings.strict and store.rejected else 0


if __name__ == "__main__":
    run_command(main)
