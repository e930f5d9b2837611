"""Each fusion head beside what is known of it."""

import math

import numpy as np
import pytest
import torch

from fusion.heads.attention import PARTS, WAVES
from fusion.heads.binding import WINDOWS
from fusion.heads.lowrank import RANK
from fusion.heads.weighted import Weighting, Weightings
from streams.registry import subsets
from tests.support.encodings import CHANNELS, STEPS, STREAMS, B, D, K, change, everywhere, inputs, make

TIGHT = {"rtol": 1e-5, "atol": 1e-6}


def test_the_mean_head_is_the_mean_of_the_present_streams_logits():
    encoding, present = inputs()
    answer = make("mean")(encoding, present)
    for row in range(B):
        there = [encoding.logits[stream][row] for stream in STREAMS if present[stream][row]]
        expected = torch.stack(there).mean(dim=0) if there else torch.zeros(K)
        torch.testing.assert_close(answer[row], expected, **TIGHT)


@pytest.mark.parametrize("name", ["mean", "weighted", "stacked"])
def test_a_head_of_opinions_learns_nothing_in_training(name):
    assert not list(make(name).parameters())


def weightings() -> Weightings:
    """Other weights for each combination, and temperatures."""
    numbers = torch.rand(7, 4, generator=torch.Generator().manual_seed(5)).double() + 0.2
    return Weightings(
        {
            subset: Weighting({name: row[STREAMS.index(name)].item() for name in subset}, row[3].item())
            for subset, row in zip(subsets(STREAMS), numbers, strict=True)
        }
    )


def test_the_weighted_head_with_equal_weights_is_the_mean():
    head = make("weighted")
    assert torch.equal(head(*inputs()), make("mean")(*inputs()))
    same = {subset: Weighting(dict.fromkeys(subset, 0.3), 1.0) for subset in subsets(STREAMS)}
    head.take(Weightings(same))
    torch.testing.assert_close(head(*inputs()), make("mean")(*inputs()), **TIGHT)
    head.take(weightings())
    head.forget()
    assert torch.equal(head(*inputs()), make("mean")(*inputs()))


def test_the_weighted_head_weighs_by_name_and_by_what_is_there():
    head = make("weighted")
    head.take(weightings())
    encoding, present = inputs(rows=40)
    answer = head(encoding, present)
    seen = set()
    for row in range(40):
        there = tuple(stream for stream in STREAMS if present[stream][row])
        seen.add(there)
        expected = torch.zeros(K)
        if there:
            one = weightings().of[there]
            total = sum(one.weights[stream] * encoding.logits[stream][row] for stream in there)
            expected = total / sum(one.weights.values()) / one.temperature
        torch.testing.assert_close(answer[row], expected, **TIGHT)
    assert len(seen) == 8
    torch.testing.assert_close(answer.log_softmax(dim=1).double(), weightings()(encoding.logits, present), **TIGHT)


def test_the_weighted_head_is_the_mean_in_training_whatever_was_fitted():
    head = make("weighted")
    head.take(weightings())
    assert torch.equal(head.train()(*inputs()), make("mean")(*inputs()))
    assert not torch.allclose(head.eval()(*inputs()), make("mean")(*inputs()))


def test_the_stacked_head_is_the_mean_in_training_and_else_the_sum_of_the_mapped_opinions():
    head = make("stacked")
    torch.nn.init.normal_(head.maps)
    torch.nn.init.normal_(head.offsets)
    encoding, present = inputs()
    encoding.logits["two"][0] = torch.tensor([0.0, -3.0, -30.0, -300.0, 1.0])  # below the floor it makes no difference
    assert torch.equal(head.train()(encoding, present), make("mean")(encoding, present))
    answer = head.eval()(encoding, present)
    for row in range(B):
        expected = torch.zeros(K)
        for at, name in enumerate(STREAMS):
            opinion = encoding.logits[name][row].log_softmax(dim=0).clamp(min=-10)
            expected += present[name][row] * (opinion @ head.maps[at] + head.offsets[at])
        torch.testing.assert_close(answer[row], expected, **TIGHT)


def test_the_concat_head_tells_an_absent_stream_from_a_feature_of_zeros():
    head = make("concat")
    encoding, _ = inputs()
    encoding.features["two"] = torch.zeros(B, D)
    absent = everywhere() | {"two": torch.zeros(B, dtype=torch.bool)}
    assert not torch.allclose(head(encoding, everywhere()), head(encoding, absent))


def test_the_gated_head_with_saturated_gates_picks_a_stream():
    head = make("gated")
    encoding, _ = inputs()
    for picked in STREAMS:
        for name, gate in head.gates.items():
            torch.nn.init.constant_(gate.bias, 1e4 if name == picked else -1e4)
        expected = torch.tanh(head.units[picked](encoding.features[picked]))
        assert torch.equal(head.join(encoding, everywhere()), expected)


def test_the_gated_head_is_written_out_in_numpy():
    head = make("gated").double()
    encoding, present = inputs()
    encoding = change(encoding, lambda stream, part: part.double())
    weights = {name: value.numpy() for name, value in head.state_dict().items()}

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ values + weights[f"{name}.bias"]

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    for row, answer in enumerate(head(encoding, present).detach().numpy()):
        x = {name: encoding.features[name][row].numpy() * bool(present[name][row]) for name in STREAMS}
        everything = np.concatenate([*x.values(), [float(present[name][row]) for name in STREAMS]])
        h = np.zeros(D)
        for name in STREAMS:
            if present[name][row]:
                h += sigmoid(linear(f"gates.{name}", everything)) * np.tanh(linear(f"units.{name}", x[name]))
        gated = sigmoid(linear("context", h)) * h
        np.testing.assert_allclose(answer, linear("classify.1", gated), rtol=1e-12, atol=1e-12)


def test_the_low_rank_head_is_the_product_with_the_whole_tensor_of_weights():
    head = make("lowrank").double()
    encoding, _ = inputs()
    encoding = change(encoding, lambda stream, part: part.double())
    one, two, three = (head.factors[name].detach() for name in STREAMS)
    tensor = torch.einsum("rid,rjd,rkd->ijkd", one, two, three) / RANK
    assert tensor.shape == (D + 1, D + 1, D + 1, D)
    a, b, c = (torch.cat([encoding.features[name], torch.ones(B, 1)], dim=1) for name in STREAMS)
    expected = torch.einsum("bi,bj,bk,ijkd->bd", a, b, c, tensor)
    torch.testing.assert_close(head.features(encoding, everywhere()), expected, rtol=1e-12, atol=1e-12)
    # of two streams it is the product of a matrix; the third is left out, not taken for zeros
    use = everywhere() | {"three": torch.zeros(B, dtype=torch.bool)}
    expected = torch.einsum("bi,bj,ijd->bd", a, b, torch.einsum("rid,rjd->ijd", one, two) / RANK)
    torch.testing.assert_close(head.features(encoding, use), expected, rtol=1e-12, atol=1e-12)


def test_the_low_rank_heads_neutral_element_is_one():
    none = {name: ~mask for name, mask in everywhere().items()}
    assert torch.equal(make("lowrank").features(inputs()[0], none), torch.ones(B, D))


def tokens_of(encoding, present, row: int, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the attention head may look at in a row, (n, D), and what each token counts, (n,): those present alone."""
    tokens, counts = [], []
    for name in STREAMS:
        for step in range(STEPS[name] if present[name][row] else 0):
            place = (step + 0.5) / STEPS[name] - 0.5
            waves = [math.sin(math.pi * place * 2**wave) for wave in range(WAVES)]
            waves += [math.cos(math.pi * place * 2**wave) for wave in range(WAVES)]
            said = weights[f"embed.{name}.weight"] @ encoding.sequences[name][row, step].numpy()
            tokens.append(said + weights[f"embed.{name}.bias"] + weights["moment.weight"] @ np.array(waves))
            counts.append(1 / STEPS[name])
    return np.array(tokens).reshape(-1, D), np.array(counts)


def test_the_attention_head_is_a_softmax_written_out_in_numpy_over_the_tokens_that_are_there():
    head = make("attention").double()
    encoding, present = inputs()
    encoding = change(encoding, lambda stream, part: part.double())
    weights = {name: value.numpy() for name, value in head.state_dict().items()}
    assert math.gcd(PARTS, D) == PARTS
    found = head.attend(*head.tokens(encoding, present)).detach().numpy()
    assert {sum(bool(present[name][row]) for name in STREAMS) for row in range(B)} >= {0, 1, 2}
    for row in range(B):
        tokens, counts = tokens_of(encoding, present, row, weights)
        if not len(tokens):
            assert not found[row].any()
            continue
        keys, values = (tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"] for name in ("key", "value"))
        for part in np.split(np.arange(D), PARTS):
            attention = counts * np.exp(keys[:, part] @ weights["query"][part] / math.sqrt(len(part)))
            expected = attention @ values[:, part] / attention.sum()
            np.testing.assert_allclose(found[row, part], expected, rtol=1e-6, atol=1e-7)  # places are float32


def test_in_the_attention_head_a_stream_that_says_the_same_in_more_steps_has_no_more_weight():
    head = make("attention")
    torch.nn.init.zeros_(head.moment.weight)
    encoding, present = inputs()
    constant = {name: part.mean(dim=1, keepdim=True) for name, part in encoding.sequences.items()}
    often = {name: part.expand(-1, count, -1) for (name, part), count in zip(constant.items(), (1, 50, 7), strict=True)}
    answers = [head(encoding._replace(sequences=sequences), present) for sequences in (constant, often)]
    torch.testing.assert_close(*answers, **TIGHT)


def lstm_of(head, name: str) -> torch.nn.LSTM:
    """An LSTM for one stream alone: of the head's weights those for it, its flag, which is 1, put into the bias."""
    lstm = torch.nn.LSTM(CHANNELS[name], D, batch_first=True)
    streams = list(head.streams)
    first = sum(CHANNELS[other] for other in streams[: streams.index(name)])
    weights = head.lstm.state_dict()
    flags = weights["weight_ih_l0"][:, sum(CHANNELS[other] for other in streams) :]
    weights["bias_ih_l0"] = weights["bias_ih_l0"] + flags[:, streams.index(name)]
    weights["weight_ih_l0"] = weights["weight_ih_l0"][:, first : first + CHANNELS[name]]
    lstm.load_state_dict(weights)
    return lstm


@pytest.mark.parametrize(("name", "among"), [("one", False), ("two", True), ("three", True)])
def test_the_binding_head_with_one_stream_is_an_lstm_on_its_sequence(name, among):
    """Whether it is the only one that the head knows, or the only one that is there."""
    head = make("binding", STREAMS if among else (name,))
    encoding, _ = inputs(steps=dict.fromkeys(STREAMS, WINDOWS))
    present = {other: torch.full((B,), other == name) for other in head.streams}
    expected, _ = lstm_of(head, name)(encoding.towers[name])
    torch.testing.assert_close(head.join(encoding, present), expected, **TIGHT)
    torch.testing.assert_close(head(encoding, present), head.classify(expected.mean(dim=1)), **TIGHT)


@pytest.mark.parametrize("steps", [1, 4, 24])
def test_the_binding_head_averages_or_repeats_the_steps_of_a_sequence_to_fill_its_windows(steps):
    head = make("binding", ("one",))
    encoding, _ = inputs(("one",), steps={"one": steps})
    given = encoding.towers["one"].numpy()
    edges = [(window * steps // WINDOWS, max(1, -(-steps // WINDOWS))) for window in range(WINDOWS)]
    windows = np.stack([given[:, begin : begin + count].mean(axis=1) for begin, count in edges], axis=1)
    expected, _ = lstm_of(head, "one")(torch.from_numpy(windows))
    torch.testing.assert_close(head.join(encoding, everywhere(("one",))), expected, **TIGHT)


def test_the_binding_head_hears_what_streams_say_at_the_same_time():
    """Two streams that change together are another thing than two that change one after the other."""
    head = make("binding", ("one", "two"))
    encoding, present = (
        inputs(("one", "two"), steps={"one": WINDOWS, "two": 2 * WINDOWS})[0],
        everywhere(("one", "two")),
    )
    before = head.join(encoding, present)
    changed = encoding.towers["two"].clone()
    changed[:, 8:10] += 1  # in the fifth of the eight windows
    after = head.join(encoding._replace(towers=encoding.towers | {"two": changed}), present)
    differs = (before != after).flatten(2).any(dim=2)
    assert not differs[:, :4].any() and differs[:, 4].all()


def test_the_convolution_head_is_a_convolution_over_all_towers_written_out_in_numpy():
    head = make("convolution").double()
    encoding, present = inputs(steps=dict.fromkeys(STREAMS, WINDOWS))
    encoding = change(encoding, lambda stream, part: part.double())
    kernel, bias = (head.convolve[0].state_dict()[name].numpy() for name in ("weight", "bias"))  # (D, C, 3), (D,)
    for row, found in enumerate(head.features(encoding, present).detach().numpy()):
        there = [bool(present[name][row]) for name in STREAMS]
        towers = [encoding.towers[name][row].numpy() * on for name, on in zip(STREAMS, there, strict=True)]
        steps = np.concatenate([*towers, np.tile(np.array(there, float), (WINDOWS, 1))], axis=1)
        padded = np.pad(steps, ((1, 1), (0, 0)))
        response = [np.tensordot(kernel, padded[at : at + 3].T, axes=2) + bias for at in range(WINDOWS)]
        np.testing.assert_allclose(found, np.maximum(response, 0).max(axis=0), rtol=1e-12, atol=1e-12)
