"""What the README shows must run as it stands."""

import re
from pathlib import Path

import h5py
import numpy as np

from tests.support.stores import Spec, make_store

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_readmes_five_lines_of_h5py_read_the_first_clip_of_a_video(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 5
    store = make_store(tmp_path / "out.h5", [Spec("Archery/a.mp4"), Spec("Archery/v_Archery_g08_c01.mp4", frames=30)])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    expected = store.frames(store.videos[1], "rgb", range(16))
    np.testing.assert_array_equal(np.stack(names["clip"])[..., ::-1], expected)  # OpenCV gives BGR


def test_every_module_that_the_readme_tells_to_run_is_there():
    modules = set(re.findall(r"python -m ([\w.]+)", README))
    assert {"preprocess.extract", "tasks.ablate"} <= modules
    root = Path(__file__).parent.parent
    files = {name: root / name.replace(".", "/") for name in modules}
    runs = (path.with_suffix(".py").exists() or (path / "__main__.py").exists() for path in files.values())
    assert [name for name, there in zip(files, runs, strict=True) if not there] == []


def test_every_column_of_the_index_is_named_in_the_readme(tmp_path):
    make_store(tmp_path / "out.h5", [Spec("a.mp4")])
    (section,) = re.findall(r"\n## The store\n(.*?)\n## ", README, flags=re.DOTALL)
    with h5py.File(tmp_path / "out.h5") as file:
        names = {re.sub("_(rgb|flow|audio)$", "_*stream*", name) for name in file["index"]}
        names |= {*file.attrs, *file["shards"], *file["rejected"], *next(iter(file["videos"].values()))["rgb"]}
    assert [name for name in names if name not in section] == []
