"""--init: encoders that start from weights which were learned before."""

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file

from fusion.model import FusionModel, build_model
from fusion.settings import ModelSettings
from fusion.training.transfer import Report, initialise
from fusion.training.weights import parse_init
from preprocess.common.errors import UserError
from streams.towers.inflate import inflate_channels
from tests.support.cases import case
from tests.support.torchvision_networks import BORROWED, features, needs_torchvision, network

PARAMETERS = {"fps": 25.0, "short_side": 36, "mel_bands": 16}
ALL = ("rgb", "flow", "audio")


def make(streams=ALL, *, seed: int = 0, bands: int = 16, classes: int = 5, **settings) -> FusionModel:
    torch.manual_seed(seed)
    small, parameters = {"width": 4, "feature": 8} | settings, PARAMETERS | {"mel_bands": bands}
    return build_model(ModelSettings(**small), streams=streams, classes=classes, parameters=parameters)


def saved(path, model: FusionModel) -> str:
    """A run's folder with this model, whose batch norms have seen something."""
    for name, values in model.state_dict().items():
        if "running" in name:
            values.uniform_(0.5, 2.0)
    path.mkdir()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path / "best.safetensors")
    return str(path)


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies, as safetensors can save them, without batch norm's counters."""
    tensors = {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}


def assert_adds_up(report: Report, model: FusionModel, in_file: int) -> None:
    """`in_file` tensors are in the file, counters aside."""
    assert report.taken + sum(report.left_out.values()) == len(weights_of(model.encoders[report.stream]))
    assert report.taken + report.head + sum(report.unused.values()) == in_file
    assert all(count > 0 for count in report.unused.values())
    told = "\n".join(report.lines())
    for count in (report.taken, *report.left_out.values(), *report.unused.values()):
        assert f"{count} " in told
    assert (f"its own head's {report.head}" in told) == (report.head > 0)


def test_an_earlier_run_starts_a_run_with_more_streams_bit_for_bit(tmp_path):
    before = make(("rgb", "audio"), seed=1)
    run = saved(tmp_path / "run", before)
    model = make()
    rest = [model.encoders["flow"], model.auxiliary["flow"], model.head]
    untouched = [*map(weights_of, rest)]
    reports = initialise(model, (run,))
    assert [report.stream for report in reports] == ["rgb", "audio"]
    for report in reports:
        name = report.stream
        found, expected = weights_of(model.encoders[name]), weights_of(before.encoders[name])
        assert report.matched == report.taken == len(expected) and not report.left_out and report.head == 2
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        own, expected = weights_of(model.auxiliary[name]), weights_of(before.auxiliary[name])
        torch.testing.assert_close(own, expected, rtol=0, atol=0)
        assert_adds_up(report, model, len(weights_of(before)))
        other = "audio" if name == "rgb" else "rgb"
        assert report.unused[f"encoders.{other}"] == len(weights_of(before.encoders[other]))
        assert report.unused["auxiliary"] == 2  # the other stream's
    torch.testing.assert_close([*map(weights_of, rest)], untouched, rtol=0, atol=0)


@torch.no_grad()
def test_a_stream_that_starts_from_its_own_run_answers_alone_as_it_did_there(tmp_path):
    before, model = make(("audio",), seed=1), make(("rgb", "audio"))
    (report,) = initialise(model, (saved(tmp_path / "run", before),))
    assert report.head == 2 and "auxiliary" not in report.unused
    assert report.lines()[0].endswith("matched; and its own head's 2)")
    clips = {"rgb": torch.randn(3, 3, 4, 32, 32), "audio": torch.randn(3, 16, 40)}
    present = {name: torch.ones(3, dtype=torch.bool) for name in clips}
    here, there = (
        one.eval().encode({name: clips[name] for name in one.encoders}, present).logits["audio"]
        for one in (model, before)
    )
    torch.testing.assert_close(here, there, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("file", "init"),
    [
        ({"streams": ("rgb",), "classes": 7}, "{}"),
        ({"streams": ("rgb",), "feature": 16}, "{}"),
        ({"streams": ("flow",)}, "rgb={}"),  # another stream's head
    ],
    ids=["other classes", "other features", "other stream"],
)
def test_a_head_of_another_size_or_stream_is_not_taken(tmp_path, file, init):
    before, model = make(**file, seed=1), make(("rgb",))
    own = weights_of(model.auxiliary)
    (report,) = initialise(model, (init.format(saved(tmp_path / "run", before)),))
    torch.testing.assert_close(weights_of(model.auxiliary), own, rtol=0, atol=0)
    assert report.taken and report.head == 0 and report.unused["auxiliary"] == 2
    assert_adds_up(report, model, len(weights_of(before)))


def test_a_stream_with_a_file_of_its_own_is_not_taken_from_the_run_of_several(tmp_path):
    one, other, model = make(seed=1), make(("flow",), seed=2), make()
    both = (saved(tmp_path / "one", one), f"flow={saved(tmp_path / 'other', other)}")
    for texts in (both, both[::-1]):
        reports = {report.stream: report for report in initialise(model, texts)}
        assert set(reports) == set(ALL)
        torch.testing.assert_close(weights_of(model.encoders["flow"]), weights_of(other.encoders["flow"]))
        torch.testing.assert_close(weights_of(model.encoders["rgb"]), weights_of(one.encoders["rgb"]))


@torch.no_grad()
def test_flow_starts_from_an_rgb_run_by_its_first_layer_inflated(tmp_path):
    before, model = make(("rgb", "audio"), seed=1), make(("flow",))
    (report,) = initialise(model, (f"flow={saved(tmp_path / 'run', before)}",))
    assert report.inflated == 1 and report.matched == len(weights_of(before.encoders["rgb"])) - 1
    assert "encoders.rgb" in report.source and "1 inflated" in report.lines()[0]
    assert_adds_up(report, model, len(weights_of(before)))
    name = "tower.stages.0.0.weight"
    old = before.encoders["rgb"].state_dict()[name]
    torch.testing.assert_close(model.encoders["flow"].state_dict()[name], inflate_channels(old, 2))
    grey = torch.randn(2, 1, 4, 32, 32)
    rgb, flow = before.encoders["rgb"].eval(), model.encoders["flow"].eval()
    expected = rgb(grey.expand(-1, 3, -1, -1, -1)).sequence
    torch.testing.assert_close(flow(grey.expand(-1, 2, -1, -1, -1)).sequence, expected, atol=1e-5, rtol=1e-4)


def test_sound_with_other_mel_bands_starts_from_a_resized_first_layer(tmp_path):
    before, model = make(("audio",), seed=1), make(("audio",), bands=24)
    (report,) = initialise(model, (saved(tmp_path / "run", before),))
    assert report.resized == 5 and not report.left_out  # batch norm's four and the convolution
    assert_adds_up(report, model, len(weights_of(before)))


def test_a_tower_over_bands_and_time_keeps_its_convolutions_with_other_mel_bands(tmp_path):
    towers = ("audio=conv2d",)
    before, model = make(("audio",), seed=1, towers=towers), make(("audio",), bands=24, towers=towers)
    (report,) = initialise(model, (saved(tmp_path / "run", before),))
    assert report.resized == 3 * 4  # the batch norms of the bands
    assert list(report.left_out.values()) == [1]  # the layer over all bands
    assert_adds_up(report, model, len(weights_of(before)))
    stages = (weights_of(one.encoders["audio"].tower.stages) for one in (before, model))
    torch.testing.assert_close(*stages, rtol=0, atol=0)


def test_layers_of_another_size_are_left_out_whole_and_told_in_a_line(tmp_path):
    before, model = make(("rgb",), seed=1, feature=16), make(("rgb",))
    lstm = weights_of(model.encoders["rgb"].lstm)
    (report,) = initialise(model, (saved(tmp_path / "run", before),))
    ((why, count),) = report.left_out.items()
    assert count == 4 and why == "lstm, of another size (lstm.weight_ih_l0 is 64×32 there, 32×32 here)"
    assert sum("of another size" in line for line in report.lines()) == 1
    assert_adds_up(report, model, len(weights_of(before)))
    torch.testing.assert_close(weights_of(model.encoders["rgb"].lstm), lstm, rtol=0, atol=0)
    torch.testing.assert_close(weights_of(model.encoders["rgb"].tower), weights_of(before.encoders["rgb"].tower))


def test_a_layer_that_the_file_has_in_part_is_left_alone(tmp_path):
    weights = weights_of(make(("rgb",), seed=1).encoders["rgb"].tower)
    del weights["stages.1.1.running_var"]
    save_file(weights, tmp_path / "w.safetensors")
    model = make(("rgb",))
    before = weights_of(model.encoders["rgb"].tower.stages[1])
    (report,) = initialise(model, (f"rgb={tmp_path / 'w.safetensors'}",))
    assert report.left_out == {"tower, not in the file": 4, "lstm, not in the file": 4}
    assert_adds_up(report, model, len(weights))
    after = weights_of(model.encoders["rgb"].tower.stages[1])
    assert torch.equal(after["1.weight"], before["1.weight"]) and not torch.equal(after["0.weight"], before["0.weight"])


@pytest.mark.parametrize(
    ("suffix", "wrapped"), [(".pt", None), (".pth", "model"), (".pt", "state_dict"), (".safetensors", None)]
)
def test_the_usual_kinds_of_files_are_understood_whatever_stands_before_the_names(tmp_path, wrapped, suffix):
    expected = weights_of(make(("rgb",), seed=1).encoders["rgb"].tower)
    path = tmp_path / f"w{suffix}"
    for prefix in ("", "tower.", "module.", "model.encoders.rgb.tower."):
        weights = {prefix + name: values for name, values in expected.items()}
        if suffix == ".safetensors":
            save_file(weights, path)
        else:
            torch.save({wrapped: weights, "epoch": 7} if wrapped else weights, path)
        model = make(("rgb",))
        with case(prefix):
            (report,) = initialise(model, (f"rgb={path}",))
            assert report.matched == len(expected) and report.left_out == {"lstm, not in the file": 4}
            torch.testing.assert_close(weights_of(model.encoders["rgb"].tower), expected, rtol=0, atol=0)


@pytest.mark.slow
@needs_torchvision
@pytest.mark.parametrize("name", BORROWED)
@torch.no_grad()
def test_a_file_of_torchvision_gives_torchvisions_features(tmp_path, name):
    theirs = network(name)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    model = make(("rgb", "flow"), towers=(f"rgb={name}", f"flow={name}"))
    rgb, flow = initialise(model, (f"rgb={tmp_path / 'w.pth'}", f"flow={tmp_path / 'w.pth'}"))
    model.eval()
    for report in (rgb, flow):
        assert_adds_up(report, model, len(weights_of(theirs)))
        assert report.left_out == {"lstm, not in the file": 4}
        assert report.unused == {"classifier" if name == "s3d" else "fc": 2}
    assert (rgb.inflated, flow.inflated) == (0, 1)
    clip = torch.rand(2, 3, 14, 40, 48)
    expected = features(theirs, clip)
    close = {"atol": 1e-5 * float(expected.abs().max()), "rtol": 0}
    torch.testing.assert_close(model.encoders["rgb"].tower(clip), expected, **close)
    grey = clip[:, :1]
    found = model.encoders["flow"].tower(grey.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(found, features(theirs, grey.expand(-1, 3, -1, -1, -1)), **close)


@needs_torchvision
def test_a_file_of_another_network_of_torchvision_is_one_line(tmp_path):
    torch.save(network("s3d").state_dict(), tmp_path / "w.pth")
    says = r"nothing in .*w\.pth fits rgb: names that end in stem\.0\.weight were expected, it has features\.0"
    refused((f"rgb={tmp_path / 'w.pth'}",), says, towers=("rgb=r3d_18",))


@needs_torchvision
def test_kinetics_is_what_torchvision_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: network("s3d").state_dict()
    )
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "s3d-d76dad2f.pth").write_bytes(b"what was downloaded")
    (report,) = initialise(make(("rgb",), towers=("rgb=s3d",)), ("rgb=kinetics",))
    assert report.sha256 == hashlib.sha256(b"what was downloaded").hexdigest()
    assert "Kinetics-400" in report.lines()[0] and report.left_out == {"lstm, not in the file": 4}


class Bomb:
    """What pickle runs when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def refused(texts, says: str, **settings) -> str:
    model = make(("rgb", "flow"), **settings)
    before = weights_of(model)
    with pytest.raises(UserError, match=says) as caught:
        initialise(model, texts)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(weights_of(model), before, rtol=0, atol=0)
    return str(caught.value)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickled_file_with_code_is_refused_and_not_run(tmp_path, write):
    path, mark = tmp_path / "w.pt", tmp_path / "mark"
    write({"stages.0.0.weight": Bomb(mark)}, path)
    refused((f"rgb={path}",), r"w\.pt is damaged, or holds more than tensors, which could run code")
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_damaged_file_is_one_line(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    weights = weights_of(make(("rgb",)))
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    data = path.read_bytes()
    for damage in ("empty", "cut", "rubbish"):
        with case(damage):
            path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "rubbish": b"rubbish " * 50}[damage])
            refused((str(path),), rf"w\{suffix} is damaged")


def test_what_cannot_be_meant_is_one_line():
    for texts, says in (
        (("smell=w.pt",), "unknown stream smell; its streams are rgb, flow"),
        (("audio=w.pt",), "this run does not train audio; its streams are rgb, flow"),
        (("rgb=none.pt",), "there is no such run or file"),
        (("nothing",), "there is no such run or file"),
        (("rgb=a.pt", "rgb=b.pt"), "gives rgb twice"),
        (("kinetics",), "say for which stream, as in --init rgb=kinetics"),
        (("imagenet",), "say for which stream, as in --init rgb=imagenet"),
        (("rgb=imagenet",), "--towers rgb=efficientnet_lite2"),
        (("rgb=kinetics",), "--towers rgb=r3d_18"),
    ):
        with case((texts, says)):
            refused(texts, says)


def test_files_that_are_not_weights_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    refused((f"rgb={tmp_path / 'empty'}",), "no best.safetensors")
    (tmp_path / "w.npz").write_bytes(b"")
    refused((f"rgb={tmp_path / 'w.npz'}",), r"weights are read from \.safetensors, \.pt and \.pth")
    for value in ({"epoch": 3}, [torch.zeros(3)], {}, torch.zeros(3), {0: torch.zeros(3)}):
        torch.save(value, tmp_path / "w.pt")
        refused((f"rgb={tmp_path / 'w.pt'}",), "no dictionary of tensors by name")


def test_a_file_that_does_not_say_for_which_stream_has_to_be_told(tmp_path):
    save_file(weights_of(make(("rgb",)).encoders["rgb"]), tmp_path / "w.safetensors")
    refused((str(tmp_path / "w.safetensors"),), r"does not say for which stream .*--init rgb=.*w\.safetensors")
    refused((saved(tmp_path / "ears", make(("audio",))),), r"has encoders for audio: name one .*--init rgb=")


def test_two_runs_with_the_same_stream_are_not_taken_in_turn(tmp_path):
    one, other = (saved(tmp_path / name, make(("rgb",))) for name in "ab")
    with pytest.raises(UserError, match="holds rgb, as an earlier one does: say which with rgb=PATH"):
        initialise(make(), (one, other))


def test_weights_of_another_tower_or_width_are_one_line_that_says_what_was_expected(tmp_path):
    split = saved(tmp_path / "split", make(("rgb",), towers=("rgb=r2plus1d",)))
    refused((split,), r"nothing in .* fits rgb: names that end in stages\.0\.0\.weight were expected")
    wide = saved(tmp_path / "wide", make(("rgb",), width=8, feature=16))
    refused((wide,), r"nothing in .* fits rgb; .*--width.*stages\.0\.0\.weight is 8×3×3×5×5 there, 4×3×3×5×5 here")
    ears = saved(tmp_path / "ears", make(("audio",)))
    refused((f"rgb={ears}",), r"nothing in .* fits rgb")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = make(("rgb",))
    model.encoders["rgb"].tower.stages[2][0].weight.data[0, 0, 0, 0, 0] = float("nan")
    refused((saved(tmp_path / "run", model),), "not finite")


def test_a_head_that_is_not_finite_is_refused(tmp_path):
    model = make(("rgb",))
    model.auxiliary["rgb"].bias.data[0] = float("inf")
    with pytest.raises(UserError, match=r"not finite \(for auxiliary\.rgb\.bias\)"):
        initialise(make(("rgb",)), (saved(tmp_path / "run", model),))


def test_a_path_may_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "lr=3", make(("rgb",), seed=1))
    for text in ("lr=3", "rgb=lr=3"):
        (source,) = parse_init((text,), ("rgb",))
        assert source.text == "lr=3"
    initialise(make(("rgb",)), ("lr=3",))
