"""What the README and the other documents show must run as it stands."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.console import COMMANDS
from tests.support.stores import Spec, make_store

ROOT = Path(__file__).parent.parent
README, STORE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "store.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_the_five_lines_of_h5py_read_the_first_clip_of_a_video(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", STORE, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 5
    store = make_store(tmp_path / "out.h5", [Spec("Archery/a.mp4"), Spec("Archery/v_Archery_g08_c01.mp4", frames=30)])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    expected = store.frames(store.videos[1], "rgb", range(16))
    np.testing.assert_array_equal(np.stack(names["clip"])[..., ::-1], expected)  # OpenCV gives BGR


def test_every_column_of_the_index_is_named(tmp_path):
    make_store(tmp_path / "out.h5", [Spec("a.mp4")])
    with h5py.File(tmp_path / "out.h5") as file:
        names = {re.sub("_(rgb|flow|audio)$", "_*stream*", name) for name in file["index"]}
        names |= {*file.attrs, *file["shards"], *file["rejected"], *next(iter(file["videos"].values()))["rgb"]}
    assert [name for name in names if name not in STORE] == []


@each_page
def test_every_module_command_path_file_and_heading_that_a_page_names_is_there(page):
    text = page.read_text()
    modules = {name.rstrip(".") for name in re.findall(r"python -m ([\w.]+)", text)} - {"tasks.NAME", "pytest"}
    places = [(ROOT / name.replace(".", "/")) for name in modules]
    assert [at for at in places if not (at.with_suffix(".py").exists() or (at / "__main__.py").exists())] == []
    assert set(re.findall(r"(?:^|`) *tristream ([a-z]\w*)", text, flags=re.MULTILINE)) <= COMMANDS.keys()

    named = re.findall(r"`((?:preprocess|streams|fusion|tasks|tests|benchmarks)/[\w/.]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    for link in re.findall(r"\]\(([^)]+)\)", text):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end with."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short_and_names_every_command():
    assert len(README.splitlines()) <= 120
    assert {"preprocess.extract", "tasks.ablate"} <= set(re.findall(r"python -m ([\w.]+)", README))
    assert [name for name in COMMANDS if f"`tristream {name} " not in README] == []
