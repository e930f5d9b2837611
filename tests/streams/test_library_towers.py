"""Towers by the names of libraries: timm:NAME, torchvision:NAME and hf:NAME; small ones, with weights made here."""

import json

import pytest
import torch

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.transfer import initialise, sha256_of
from preprocess.common.errors import UserError
from streams.towers import create_tower
from tests.support.torchvision_networks import needs_pretrained, needs_torchvision

PARAMETERS = {"mel_bands": 64, "short_side": 128, "fps": 25}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def saved(folder, kind: str):
    """A small random encoder of transformers, with a licence in its card; its folder, and the encoder."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = {
        "videomae": lambda: transformers.VideoMAEConfig(image_size=32, num_frames=4, use_mean_pooling=False, **SMALL),
        "vjepa2": lambda: transformers.VJEPA2Config(
            crop_size=32, frames_per_clip=4, pred_hidden_size=12, pred_num_attention_heads=2, pred_num_hidden_layers=1,
            mlp_ratio=1.0, **{name: value for name, value in SMALL.items() if name != "intermediate_size"},
        ),
        "audio-spectrogram-transformer": lambda: transformers.ASTConfig(max_length=64, num_mel_bins=128, **SMALL),
    }[kind]()  # fmt: skip
    network = transformers.AutoModel.from_config(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder, network.eval()


@pytest.mark.parametrize("kind", ["videomae", "vjepa2"])
@torch.no_grad()
def test_a_video_transformer_of_a_folder_gives_its_tokens_averaged_over_space(tmp_path, kind):
    folder, network = saved(tmp_path, kind)
    settings = ModelSettings(feature=4, towers=(f"rgb=hf:{folder}",))
    model = build_model(settings, streams=("rgb",), classes=3, parameters=PARAMETERS).eval()
    (report,) = initialise(model, ())
    assert report.licence == "cc-by-nc-4.0" and report.sha256 == sha256_of(folder / "model.safetensors")
    assert list(report.left_out) == ["lstm, not in the file"]
    clip = torch.rand(2, 3, 4, 32, 32) * 2 - 1
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    pictures = ((clip.transpose(1, 2) + 1) / 2 - mean) / std
    tokens = (network.encoder if kind == "vjepa2" else network)(pictures).last_hidden_state  # 2 steps of 2 × 2 places
    expected = torch.stack([tokens[:, :4].mean(dim=1), tokens[:, 4:].mean(dim=1)], dim=1)
    assert expected.std() > 0.1
    tower = model.encoders["rgb"].tower
    torch.testing.assert_close(tower(clip), expected, atol=1e-5, rtol=1e-4)
    longer = clip.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    assert tower(longer).shape == (2, 2, 16)  # another number of pictures, another size


@torch.no_grad()
def test_a_spectrogram_transformer_of_a_folder_gives_a_step_each_patch_without_added_silence(tmp_path):
    folder, network = saved(tmp_path, "audio-spectrogram-transformer")
    settings = ModelSettings(feature=4, towers=(f"audio=hf:{folder}",))
    model = build_model(settings, streams=("audio",), classes=3, parameters=PARAMETERS).eval()
    initialise(model, ())
    tower = model.encoders["audio"].tower
    sound = torch.randn(2, 128, 64)
    values = (sound * 4 - 6 + 4.2677393) / (2 * 4.5689974)
    tokens = network(values.transpose(1, 2)).last_hidden_state[:, 2:]
    bands, times = 12, 5  # patches of 16, a step of 10: of 128 bands and of 64 rows
    torch.testing.assert_close(tower(sound), tokens.view(2, bands, times, 16).mean(dim=1), atol=1e-5, rtol=1e-4)
    assert tower(torch.randn(2, 64, 40)).shape == (2, 3, 16)  # shorter, of other bands
    assert tower(torch.randn(2, 64, 900)).shape == (2, times, 16)


def test_a_tower_of_the_wrong_kind_or_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    saved(tmp_path / "ears", "audio-spectrogram-transformer")
    for given, says in (
        (tmp_path / "none", "none"),
        (tmp_path, "bert"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            create_tower(f"hf:{given}", channels=3, width=4)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="sound"):
        create_tower(f"hf:{tmp_path / 'ears'}", channels=3, width=4)(torch.zeros(1, 3, 4, 32, 32))


@needs_pretrained
@torch.no_grad()
def test_a_network_of_timm_by_name_sees_pictures_as_it_was_trained_to(monkeypatch):
    import timm

    tower = create_tower("timm:resnet10t", channels=3, width=4).eval()
    settings = tower.layers.pretrained_cfg
    clip = torch.rand(2, 3, 3, tower.side, tower.side) * 2 - 1
    mean, std = (torch.tensor(settings[part]).view(3, 1, 1) for part in ("mean", "std"))
    expected = tower.layers(((clip[:, :, 1] + 1) / 2 - mean) / std)
    torch.testing.assert_close(tower(clip)[:, 1], expected, atol=1e-4, rtol=1e-4)
    fixed = create_tower("timm:test_vit", channels=3, width=4)
    assert fixed(torch.randn(1, 3, 2, 200, 200)).shape == (1, 2, fixed.features)  # it takes 160 pixels, no more
    assert create_tower("timm:resnet10t", channels=2, width=4)(torch.randn(1, 2, 2, 64, 64)).shape == (1, 2, 512)
    with pytest.raises(UserError, match="resnet11x"):
        create_tower("timm:resnet11x", channels=3, width=4)

    def no_network(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(UserError, match=r"resnet10t.*no network") as caught:
        tower.published()
    assert "\n" not in str(caught.value)


@needs_torchvision
@pytest.mark.parametrize(("name", "steps"), [("resnet18", 4), ("mc3_18", 1)])
@torch.no_grad()
def test_a_network_of_torchvision_by_name_gives_what_its_classifier_reads(name, steps):
    from torchvision.models import get_model, get_model_weights

    network = get_model(name, weights=None).eval()
    tower = create_tower(f"torchvision:{name}", channels=3, width=4).eval()
    tower.layers.load_state_dict(network.state_dict(), strict=False)
    weights = get_model_weights(name).DEFAULT.transforms()
    clip = torch.rand(2, 3, 4, *2 * [weights.crop_size[0]]) * 2 - 1
    mean, std = (torch.tensor(part).view(3, 1, 1, 1) for part in (weights.mean, weights.std))
    clips = ((clip + 1) / 2 - mean) / std
    seen = []
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(clips if steps == 1 else clips[:, :, 2])
    sequence = tower(clip)
    assert sequence.shape == (2, steps, tower.features)
    torch.testing.assert_close(sequence[:, 0 if steps == 1 else 2], seen[0], atol=1e-4, rtol=1e-4)


@needs_torchvision
@pytest.mark.parametrize("name", ["nothing18", "fcn_resnet50"])
def test_what_torchvision_cannot_give_is_one_line(name):
    with pytest.raises(UserError, match=name):
        create_tower(f"torchvision:{name}", channels=3, width=4)
