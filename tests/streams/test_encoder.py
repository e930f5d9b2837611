"""Tower and LSTM together."""

import pytest
import torch

from streams.encoder import Encoder

VISUAL = {"conv3d": (3, (3, 16, 32, 32)), "r2plus1d": (2, (2, 16, 32, 32))}
KINDS = VISUAL | {"conv1d": (16, (16, 64)), "conv2d": (16, (16, 64))}


def make(tower: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(tower=tower, channels=KINDS[tower][0], width=4, feature=12, dropout=0.5)


@pytest.mark.parametrize("tower", KINDS)
@torch.no_grad()
def test_the_sequence_is_an_lstms_over_the_towers_output_and_the_feature_is_its_mean(tower):
    encoder, clips = make(tower).eval(), torch.randn(3, *KINDS[tower][1])
    encoded = encoder(clips)
    torch.testing.assert_close(encoded.tower, encoder.tower(clips))
    assert encoded.sequence.shape[0] == 3 and encoded.sequence.shape[2] == 12
    assert encoded.sequence.shape[1] > 1
    torch.testing.assert_close(encoded.feature, encoded.sequence.mean(dim=1))
    # the oracle: an LSTM cell, step by step, from an empty state
    cell = torch.nn.LSTMCell(encoder.tower.features, 12)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in encoder.lstm.state_dict().items()})
    state, expected = None, []
    for step in encoded.tower.unbind(dim=1):
        state = cell(step, state)
        expected.append(state[0])
    torch.testing.assert_close(encoded.sequence, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_lstm_runs_one_way():
    encoder = make("conv1d").eval()
    mel = torch.randn(1, 16, 160)
    changed = mel.clone()
    changed[..., 120:] += 1
    before, after = encoder(mel).sequence, encoder(changed).sequence
    torch.testing.assert_close(before[:, :10], after[:, :10])  # the tower looks a few steps ahead, not forty rows
    assert not torch.allclose(before[:, -1], after[:, -1])


@pytest.mark.parametrize("tower", KINDS)
@torch.no_grad()
def test_the_tower_sees_each_segment_by_itself_and_the_lstm_all_of_them(tower):
    """The oracle: every segment through the tower alone, and one LSTM over what they gave."""
    encoder, clips = make(tower).eval(), torch.randn(2, *KINDS[tower][1])
    parts = torch.cat([clips, 3 * torch.randn_like(clips), torch.zeros_like(clips)], dim=2)
    encoder.segments = 3
    found = encoder(parts)
    alone = torch.cat([encoder.tower(part) for part in parts.chunk(3, dim=2)], dim=1)
    torch.testing.assert_close(found.tower, alone)
    torch.testing.assert_close(found.sequence, encoder.lstm(alone)[0])
    torch.testing.assert_close(found.feature, found.sequence.mean(dim=1))
    steps = alone.shape[1] // 3
    torch.testing.assert_close(found.sequence[:, :steps], encoder.lstm(encoder.tower(clips))[0])
    assert encoder(parts[:0]).tower.shape == (0, *alone.shape[1:])


def test_dropout_works_in_training_alone():
    encoder = make("conv1d")
    mel = torch.randn(2, 16, 64)
    assert not torch.equal(encoder(mel).feature, encoder(mel).feature)
    encoder.eval()
    assert torch.equal(encoder(mel).feature, encoder(mel).feature)
