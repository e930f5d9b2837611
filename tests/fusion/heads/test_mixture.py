"""The mixture of the streams' own answers."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from fusion.heads.mixture import fit_gates, mixture

K, NAMES = 4, ("rgb", "flow", "audio")


def opinions(count: int, seed: int = 0) -> tuple[dict, dict, torch.Tensor]:
    """RGB is sure, and half of the time wrong; flow is right where it is sure; sound knows nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=count)
    right = np.eye(K)[labels]
    wrong = np.where(rng.random(count)[:, None] < 0.5, right, np.eye(K)[rng.integers(K, size=count)])
    knows = rng.random(count)[:, None] < 0.6
    logits = {"rgb": 6 * wrong, "flow": 5 * right * knows, "audio": 0 * right}
    logits = {name: torch.from_numpy(part + 0.3 * rng.standard_normal((count, K))) for name, part in logits.items()}
    present = {name: torch.from_numpy(rng.random(count) < 0.9) for name in NAMES}
    return logits, present, torch.from_numpy(labels)


def by_hand(logits: dict, present: dict, parameters: np.ndarray) -> np.ndarray:
    rows = []
    for row in range(len(present["rgb"])):
        here = [at for at, name in enumerate(NAMES) if present[name][row]]
        if not here:
            rows.append(np.full(K, -np.log(K)))
            continue
        answers = [log_softmax(logits[NAMES[at]][row].numpy() * np.exp(parameters[2, at])) for at in here]
        entropies = [-(np.exp(answer) * answer).sum() for answer in answers]
        trust = [parameters[0, at] + parameters[1, at] * (h - 1) for at, h in zip(here, entropies, strict=True)]
        rows.append(logsumexp(np.stack(answers) + log_softmax(trust)[:, None], axis=0))
    return np.stack(rows)


def test_the_mixture_is_the_sum_by_hand():
    logits, present, _ = opinions(60)
    present["rgb"][0] = present["flow"][0] = present["audio"][0] = False
    parameters = np.random.default_rng(1).standard_normal((3, 3))
    found = mixture(logits, present, torch.from_numpy(parameters)[None])
    np.testing.assert_allclose(found.numpy(), by_hand(logits, present, parameters), atol=1e-12)


def test_the_fit_is_as_good_as_scipys():
    logits, present, labels = opinions(80)
    rows = torch.stack([*present.values()]).any(dim=0)

    def loss(flat: np.ndarray) -> float:
        answers = by_hand(logits, present, flat.reshape(3, 3))[rows.numpy()]
        return -answers[np.arange(len(answers)), labels[rows].numpy()].mean() + (flat**2).sum() / len(answers)

    ours = loss(fit_gates(logits, present, labels).of[NAMES].numpy().ravel())
    assert ours <= minimize(loss, np.zeros(9), method="L-BFGS-B", options={"maxiter": 60}).fun + 1e-4


def test_a_stream_that_is_sure_and_right_is_believed_and_one_that_is_sure_and_wrong_is_not():
    logits, present, labels = opinions(400)
    gates = fit_gates(logits, present, labels)
    logits, present, labels = opinions(400, seed=1)
    right = gates(logits, present).argmax(dim=1) == labels
    product = sum(logits[name] * present[name][:, None] for name in NAMES).argmax(dim=1) == labels
    assert right.double().mean() > product.double().mean() + 0.03


def test_without_rows_all_streams_are_trusted_alike():
    logits, present, labels = opinions(0)
    assert all(not parameters.any() for parameters in fit_gates(logits, present, labels).of.values())
