"""The command line of preprocess.extract."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from preprocess.common.command import available_cores
from preprocess.common.errors import UserError, at_least
from preprocess.video.settings import PieceSettings
from preprocess.workers.pool import WorkerLimits


@dataclass(frozen=True)
class ExtractSettings:
    """The command line of preprocess.extract."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """folder of videos: <class>/<video>, at any depth below the class"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """the store to write, for instance out.h5"""
    labels: Path | None = None
    """CSV file with columns path (relative to the folder), label, and optionally split (train, val, test) and group"""
    val: tuple[str, ...] = ()
    """patterns of the paths of validation videos, like '*_g1[23]_*' (in quotes); what matches neither these nor --test
    is for training"""
    test: tuple[str, ...] = ()
    """patterns of the paths of test videos, which no training reads, like '*_g0[1-7]_*' or '*/test/*'"""
    follow_links: bool = False
    """also take files and folders that links in VIDEOS lead to outside of it"""
    workers: int = field(default_factory=available_cores)
    """worker processes, one thread each; the default is one for each core"""
    part: str = "1/1"
    """do one part of the job, for instance 3/64; parts on a shared file system are joined by the one that ends last"""
    separate: bool = False
    """write the part as a store of its own, for machines without a common file system; join with preprocess.merge"""
    engine: Literal["local", "ray"] = "local"
    """engine that does the work: on this machine, or on a Ray cluster that shares its file system"""
    ray_address: str | None = None
    """the Ray cluster, for instance auto or ray://head:10001; without it one is started on this machine"""
    overwrite: bool = False
    """start over, and replace the store if there is one"""
    retry_rejected: bool = False
    """try files again that an earlier run rejected; those that could not be read are always tried again"""
    dry_run: bool = False
    """say what would be done, how long it will take and how large it will be; nothing is written"""
    profile: bool = False
    """print how much of the CPU time each stage took"""
    strict: bool = False
    """end with status 1 if any video could not be used"""
    shard_size: float = 2.0
    """GB of a file of the store; what is more goes to others in OUT.shards"""
    store: Annotated[PieceSettings, tyro.conf.arg(name="")] = field(default_factory=PieceSettings)
    worker_limits: Annotated[WorkerLimits, tyro.conf.arg(name="")] = field(default_factory=WorkerLimits)


def validate(settings: ExtractSettings) -> dict:
    """The parameters that the store will record.

    Raises UserError for settings that cannot be used.
    """
    if not settings.videos.is_dir():
        raise UserError(f"{settings.videos} is no folder of videos")
    out = settings.out
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder does not exist'}")
    at_least(1, workers=settings.workers, mel_bands=settings.store.mel_bands)
    at_least(8, short_side=settings.store.short_side)
    at_least(0.0001, shard_size=settings.shard_size)
    if not 0 < settings.store.fps <= 1000:
        raise UserError(f"--fps must be positive, and 1000 at most, not {settings.store.fps}")
    number, slash, count = settings.part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part is a number and a count like 3/64, not {settings.part}")
    try:
        return settings.store.parameters()
    except ValueError as error:
        raise UserError(str(error)) from error
