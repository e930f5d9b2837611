"""The command lines of tasks.index and tasks.search, apart from their code: --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class IndexSettings:
    """The command line of tasks.index."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run whose towers describe the videos, or a .safetensors file of it; to remove, that of the index"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS INDEX")] = ()
    """video files, folders of them, or stores; then the folder of the index, new or to add to"""
    length: float | None = None
    """seconds of a window; the default is that of the training clips"""
    hop: float | None = None
    """seconds from one window to the next; the default is half a window"""
    size: int = 512
    """numbers that describe what one stream shows in a window; a tower that gives more is projected to so many"""
    remove: tuple[str, ...] = ()
    """paths of videos to take out of the index, or patterns of them (in quotes)"""
    remove_missing: bool = False
    """take out the videos whose file or store is not where it was any more"""
    graph: bool = False
    """make graphs of near neighbours, or add to them what is new, so that tasks.search need not compare all windows:
    for millions of them. Also of an index alone: INDEX --graph. Needs pip install 'tristream[search]'"""
    weights: str = "best"
    """best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class SearchSettings:
    """The command line of tasks.search."""

    index: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INDEX")]
    """folder that tasks.index wrote"""
    queries: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="QUERY")] = ()
    """videos, folders of them, or stores to find the like of; without any, every video of the index asks the others"""
    start: Annotated[float, tyro.conf.arg(name="from")] = 0.0
    """ask with the part of the query from this second on"""
    to: float | None = None
    """and up to this one"""
    by: Literal["content", "class"] = "content"
    """find what looks, moves and sounds alike (the towers' features), or what the run takes for the same class"""
    streams: str | None = None
    """compare only these, separated by commas: streams of the run, and colours"""
    weights: str | None = None
    """how much each stream counts, and the colours, as in rgb=1,audio=2; the default is 2 for rgb and 1 for all
    others"""
    exact: bool = False
    """compare all windows, though the index has graphs"""
    top: int = 10
    """videos to show for a query"""
    json: bool = False
    """print one JSON document instead of tables"""
    page: Path | None = None
    """also write a page of stills, to open in a browser"""
    ranking: Path | None = None
    """also write a JSON file: {query: [all videos of the index, the likest first]}"""
    video: str | None = None
    """of a store ask only with this video: its path, or a part of it that no other has"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
