"""A connection to a Ray cluster, or a cluster on this machine for as long as it is needed."""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from preprocess.common.errors import UserError

ROOT = Path(__file__).resolve().parents[1]  # where the nodes find this code
REACHED = 5.0  # seconds in which a cluster must answer
STORE = 100 << 20  # bytes of Ray's object store; no frame goes through it


@contextmanager
def cluster(address: str | None, *, cpus: int | None) -> Iterator[ModuleType]:
    """The module ray, connected to the cluster at `address`, or to one that is started here and stopped in the end.

    Raises UserError if Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'tristream[ray]'") from error
    if address is not None:
        _reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what it is going to be; a warning says so
    stop = signal.getsignal(signal.SIGTERM)
    try:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        runtime = {"env_vars": {"PYTHONPATH": path}}
        common = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": runtime}
        if address is None:  # "local", for None may mean the cluster in RAY_ADDRESS
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **common)
        else:
            ray.init(address, **common)
    except Exception as error:  # of many kinds, plain Exception among them
        ray.shutdown()
        where = "does not start on this machine" if address is None else f"at {address} cannot be used"
        hint = "" if address is None else "; one that asks for a token needs RAY_AUTH_MODE=token here"
        raise UserError(f"the Ray cluster {where}: {first_line(error)}{hint}") from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has put its own there
        yield ray
    finally:
        ray.shutdown()


def first_line(error: Exception) -> str:
    """What an error says, in one line: Ray's have pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reach(address: str) -> None:
    """Raises UserError at once if nobody answers: Ray tries for minutes."""
    known = None
    if address == "auto":
        known = os.environ.get("RAY_ADDRESS")
        with suppress(OSError):  # where `ray start` writes it, and leaves it
            known = (
                known or Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
            )
        if not known:
            return  # Ray says so itself
    place = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d{1,5})", known or address)
    if place:
        with suppress(OSError, OverflowError):
            socket.create_connection((place[1], int(place[2])), timeout=REACHED).close()
            return
    raise UserError(f"no Ray cluster answers at --ray-address {address}: give auto, host:port or ray://host:port")
