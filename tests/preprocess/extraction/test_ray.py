"""The same store from a Ray cluster as from one machine, also when nodes go in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.extraction.on_ray import RayJob, work_on_ray
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask
from preprocess.video.piece import PieceSettings
from preprocess.workers.pool import WorkerLimits
from tests.support.commands import command, environment, run
from tests.support.videos import drift, sound, tone, write_video

SMALL = ("--short-side", 64)
VIDEOS = 24
NODES = 3
HEAD_GONE = 6379  # a port of this machine at which nobody listens


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Videos of a few tenths of a second of work each; one cannot be used."""
    root = tmp_path_factory.mktemp("ray") / "videos"
    for label in ("run", "jump"):
        (root / label).mkdir(parents=True)
    for k in range(VIDEOS - 1):
        track = sound(tone(0.4), codec="aac") if k % 3 else None
        write_video(root / ("run", "jump")[k % 2] / f"{k}.mp4", drift(40 + k, seed=k, size=(96, 128)), track=track)
    (root / "jump/text.mp4").write_text("dear diary\n" * 50)
    return root


@pytest.fixture(scope="module")
def local(videos, tmp_path_factory) -> Path:
    """The store of one machine."""
    store = tmp_path_factory.mktemp("local") / "out.h5"
    result = run("preprocess.extract", videos, store, *SMALL)
    assert result.returncode == 0, result.stderr
    return store


@pytest.fixture(scope="module")
def whole_cluster():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tristream[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(whole_cluster):
    """A head without a CPU, and nodes of one each."""
    while len(whole_cluster.worker_nodes) < NODES:
        whole_cluster.add_node(num_cpus=1)
    return whole_cluster


@dataclass(frozen=True)
class Rough(VideoTask):
    """A unit in which the path of a source says what goes wrong."""

    def __call__(self, source, heartbeat=None) -> Outcome:
        way = Path(source.path).stem
        if way == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        elif way == "ray":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        elif way == "disk":
            raise OSError(28, "No space left on device", "piece.h5")
        return super().__call__(source, heartbeat)


def rough(tmp_path: Path) -> Rough:
    for name in ("pieces", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    return Rough(tmp_path / "pieces", tmp_path / "scratch", PieceSettings(short_side=32))


def on_cluster(cluster, videos: Path, out: Path) -> subprocess.Popen:
    address = ("--engine", "ray", "--ray-address", cluster.address)
    arguments = command("preprocess.extract", videos, out, *SMALL, *address)
    return subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_manifests(out: Path, count: int) -> None:
    """Until the journal has so many lines."""
    journal = out.with_name(out.name + ".partial") / "journal" / "1-of-1.jsonl"
    end = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.02)


def datasets(store: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(store) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same(store: Path, other: Path) -> None:
    """Every dataset of two stores is equal, and each video is in the report once."""
    a, b = datasets(store), datasets(other)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    rows = json.loads(store.with_name("out.report.json").read_text())["videos"]
    assert len({row["path"] for row in rows}) == len(rows) == VIDEOS


@pytest.mark.slow
def test_a_node_that_goes_in_the_middle_changes_nothing(cluster, videos, local, tmp_path):
    out = tmp_path / "out.h5"
    process = on_cluster(cluster, videos, out)
    wait_for_manifests(out, 5)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    assert process.poll() is None, "it was done before the node went"
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "raylet" not in errors and "Traceback" not in errors
    assert_same(out, local)
    assert not out.with_name("out.h5.partial").exists()


@pytest.mark.slow
def test_a_worker_or_one_of_ray_that_dies_costs_its_video_alone(cluster, videos, tmp_path):
    unit = rough(tmp_path)
    file = str(videos / "run/0.mp4")
    sources = [Source(file, path, None, None, None) for path in ("a", "worker", "b", "ray", "c", "d", "e", "f")]
    done = list(work_on_ray(sources, unit, workers=1, address=cluster.address, worker_limits=WorkerLimits()))
    reasons = {outcome.path: outcome.reason for outcome in done}
    assert len(done) == len(reasons) == len(sources)
    assert "SIGKILL" in reasons.pop("worker")
    assert reasons.pop("ray") == "crashed: 3 Ray workers died while they decoded it"
    assert reasons == dict.fromkeys("abcdef")
    assert len(list(unit.pieces.glob("*/*.h5"))) == 1  # they are the same file
    assert not list(unit.scratch.glob("probe-*"))


@pytest.mark.slow
def test_where_ray_dies_at_every_video_no_video_is_to_blame(cluster, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.extraction.on_ray.DEATHS", 1)  # or the test takes minutes
    file = str(videos / "run/0.mp4")
    sources = [Source(file, f"{k}/ray", None, None, None) for k in range(3)]
    done = work_on_ray(sources, rough(tmp_path), workers=1, address=cluster.address, worker_limits=WorkerLimits())
    with pytest.raises(UserError, match="die at every video"):
        next(done)


@pytest.mark.slow
def test_a_full_disk_on_a_node_ends_the_run_as_one_here_does(cluster, videos, tmp_path):
    source = Source(str(videos / "run/0.mp4"), "disk", None, None, None)
    with pytest.raises(OSError, match="No space left on device"):
        list(work_on_ray([source], rough(tmp_path), workers=1, address=cluster.address, worker_limits=WorkerLimits()))


@pytest.mark.slow
def test_when_no_node_is_left_nothing_is_lost(cluster, videos, local, tmp_path):
    out = tmp_path / "out.h5"
    process = on_cluster(cluster, videos, out)
    wait_for_manifests(out, 3)
    for node in cluster.worker_nodes.copy():
        cluster.remove_node(node, allow_graceful=False)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "error: no node of the Ray cluster has a CPU any more" in errors
    assert "Traceback" not in errors
    result = run("preprocess.extract", videos, out, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "kept from before" in result.stdout
    assert_same(out, local)


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_of_a_cluster_that_was_started_here(videos, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tristream[ray]'")
    out, mark = tmp_path / "out.h5", uuid4().hex
    process = subprocess.Popen(
        command("preprocess.extract", videos, out, *SMALL, "--engine", "ray", "--workers", 2),
        env=environment() | {"TEST_MARK": mark, "HOME": str(tmp_path)},  # Ray leaves a token there
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_manifests(out, 2)
    assert len(marked(mark)) > 4  # the driver, the cluster, its workers and ours
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1].startswith("stopped"), errors
    assert time.monotonic() - begun < 20
    while marked(mark):  # a killed process is there for a moment
        assert time.monotonic() - begun < 30, marked(mark)
        time.sleep(0.1)


def marked(mark: str) -> list[str]:
    """The processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it is gone, or another user's
            continue
    return found


def test_a_cluster_that_does_not_answer_is_one_line_at_once(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tristream[ray]'")
    begun = time.monotonic()
    for address in (f"127.0.0.1:{HEAD_GONE}", f"ray://127.0.0.1:{HEAD_GONE}", "nonsense"):
        with pytest.raises(UserError, match=f"no Ray cluster answers at --ray-address {address}"):
            next(
                work_on_ray([], rough(tmp_path / uuid4().hex), workers=1, address=address, worker_limits=WorkerLimits())
            )
    assert time.monotonic() - begun < 20


@pytest.mark.slow
def test_a_machine_without_ray_is_told_how_to_get_it(videos, tmp_path):
    code = "import sys; sys.modules['ray'] = None; sys.argv[0] = 'extract'\n"
    code += "from preprocess import extract; extract.run_command(extract.main)"
    arguments = [sys.executable, "-c", code, videos, tmp_path / "out.h5", *SMALL, "--engine", "ray"]
    result = subprocess.run(map(str, arguments), env=environment(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: --engine ray needs Ray: pip install 'tristream[ray]'"
    assert not list(tmp_path.iterdir())


def test_a_node_that_does_not_see_a_folder_names_itself_and_the_folder(tmp_path):
    unit = rough(tmp_path)
    RayJob(unit, WorkerLimits(), (unit.pieces,)).look()
    probe = unit.scratch / "probe"
    with pytest.raises(UserError, match=f"node .+ does not see {probe}"):
        RayJob(unit, WorkerLimits(), (unit.pieces, probe)).look()
