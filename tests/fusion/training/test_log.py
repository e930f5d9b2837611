"""What a run tells of its epochs."""

import pytest

from fusion.training import log as logging
from fusion.training.log import Log

ROW = {
    **{
        "epoch": 1,
        "loss": 2.0,
        "train_top1": 0.4,
        "objective": 3.0,
        "val_loss": 1.5,
        "val_top1": 0.5,
        "val_top1_rgb": 0.25,
    },
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
    with Log(tmp_path, epochs_done=0, settings={}) as log:
        for epoch in (1, 2, 3):
            log.add(ROW | {"epoch": epoch})
    assert found == drawn and (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with Log(tmp_path, epochs_done=3, settings={}) as log:
        assert [row["epoch"] for row in log.rows] == [1, 2, 3]
    assert found == drawn


def test_tensorboard_has_the_settings_beside_what_came_of_them_in_the_runs_own_folder(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    settings = {"lr": 0.01, "towers": ("rgb=r2plus1d", "flow=s3d"), "head": "mean", "batch": 8, "cut": True}
    with Log(tmp_path, epochs_done=0, settings=settings) as log:
        log.add(ROW)
        log.add(ROW | {"epoch": 2, "val_top1": 0.75})
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    begin = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in begin.session_start_info.hparams.items()}
    assert found == settings | {"towers": "rgb=r2plus1d flow=s3d"}
    about = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    judged = [metric.name.tag for metric in about.experiment.metric_infos]
    assert judged == ["val_top1", "val_loss"]
    assert [events.Scalars(name)[-1].value for name in judged] == [0.75, 1.5]
