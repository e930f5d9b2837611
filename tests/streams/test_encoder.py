"""Tower and LSTM together."""

import pytest
import torch

from streams.encoder import Encoder

KINDS = {"conv3d": (3, (3, 16, 32, 32)), "r2plus1d": (2, (2, 16, 32, 32)), "conv1d": (16, (16, 64))}


def make(tower: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(tower=tower, channels=KINDS[tower][0], width=4, feature=12, dropout=0.5)


@pytest.mark.parametrize("tower", KINDS)
def test_the_feature_is_the_mean_of_the_sequence(tower):
    encoder, clips = make(tower).eval(), torch.randn(3, *KINDS[tower][1])
    encoded = encoder(clips)
    torch.testing.assert_close(encoded.tower, encoder.tower(clips))
    assert encoded.sequence.shape[0] == 3 and encoded.sequence.shape[2] == 12
    assert encoded.sequence.shape[1] > 1
    torch.testing.assert_close(encoded.feature, encoded.sequence.mean(dim=1))


@pytest.mark.parametrize("tower", KINDS)
@torch.no_grad()
def test_chunk_by_chunk_with_the_state_is_the_same_as_the_whole_sequence_at_once(tower):
    encoder = make(tower).eval()
    chunks = torch.randn(3, 2, *KINDS[tower][1])
    # the oracle: an LSTM cell, step by step over what the tower makes of one chunk after the other
    cell = torch.nn.LSTMCell(encoder.tower.features, 12)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in encoder.lstm.state_dict().items()})
    state, expected = None, []
    for step in torch.cat([encoder.tower(chunk) for chunk in chunks], dim=1).unbind(dim=1):
        state = cell(step, state)
        expected.append(state[0])
    followed, state = [], None
    for chunk in chunks:
        encoded = encoder(chunk, state)
        followed.append(encoded.sequence)
        state = encoded.state
    torch.testing.assert_close(torch.cat(followed, dim=1), torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tower", KINDS)
@torch.no_grad()
def test_without_its_state_the_second_chunk_is_another(tower):
    encoder = make(tower).eval()
    first, second = torch.randn(2, 2, *KINDS[tower][1])
    assert not torch.allclose(encoder(second).sequence, encoder(second, encoder(first).state).sequence)


@torch.no_grad()
def test_the_lstm_runs_one_way():
    encoder = make("conv1d").eval()
    mel = torch.randn(1, 16, 160)
    changed = mel.clone()
    changed[..., 120:] += 1
    before, after = encoder(mel).sequence, encoder(changed).sequence
    torch.testing.assert_close(before[:, :10], after[:, :10])  # the tower looks a few steps ahead, not forty rows
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_dropout_works_in_training_alone():
    encoder = make("conv1d")
    mel = torch.randn(2, 16, 64)
    assert not torch.equal(encoder(mel).feature, encoder(mel).feature)
    encoder.eval()
    assert torch.equal(encoder(mel).feature, encoder(mel).feature)
