"""What a run tells of its epochs."""

import pytest

from fusion.training import log as logging
from fusion.training.log import Log

ROW = {
    **{"epoch": 1, "loss": 2.0, "val_loss": 1.5, "val_top1": 0.5, "val_top1_rgb": 0.25},
    **{"clips_per_second": 8.0, "frames_per_second": 64.0, "waiting_share": 0.1, "memory_gb": 0.5},
}


@pytest.mark.parametrize(("every", "drawn"), [(1e9, [3]), (0.0, [1, 2, 3])])
def test_the_curves_are_drawn_now_and_then_and_at_the_end(tmp_path, monkeypatch, every, drawn):
    monkeypatch.setattr(logging, "PLOT_EVERY", every)
    found, real = [], logging.plot_curves

    def plot(rows, path):
        found.append(len(rows))
        real(rows, path)

    monkeypatch.setattr(logging, "plot_curves", plot)
    with Log(tmp_path, epochs_done=0) as log:
        for epoch in (1, 2, 3):
            log.add(ROW | {"epoch": epoch})
    assert found == drawn and (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with Log(tmp_path, epochs_done=3) as log:
        assert [row["epoch"] for row in log.rows] == [1, 2, 3]
    assert found == drawn
