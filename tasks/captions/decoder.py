"""A decoder that looks at the streams at every word."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from tasks.captions.evidence import Evidence
from tasks.captions.search import Sentence, beam_search
from tasks.captions.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from tasks.captions.words import LONGEST, WORDS

OPEN = 2.0  # of a gate's bias at first: nearly nine of ten words look at a stream


@dataclass(frozen=True)
class Looked:
    """Keys and values of the streams' steps, made once for all words."""

    keys: list[Tensor]  # of each group (B, T', D)
    values: dict[str, Tensor]  # stream → (B, T', D)
    present: dict[str, Tensor]  # stream → (B, 1, 1) of zeros and ones


class Decoder(nn.Module):
    """The next word from the words so far and from what each stream shows where it is attended to.

    Attention over the steps of each stream (Yao et al. 2015), by a query from the words (Luong et al. 2015); what is
    seen enters after the model of the words (Tanti et al. 2018, "merge"). Streams whose steps are the same places are
    attended together, so that the colour and the move that are told are of one thing. Each stream adds to the word's
    logits by itself, through a gate that depends on the words alone: an absent stream adds nothing, and
    changes nothing of what others add. Where looks cost something, a gate is open or shut, drawn by chance in training
    (straight through, Bengio et al. 2013): one that is nearly shut would still tell a little, which a larger weight
    makes up for.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        channels: dict[str, int],
        together: Sequence[str],
        kind: str,
        width: int,
        layers: int,
        dropout: float,
        word_dropout: float,
        shut: bool = False,
    ) -> None:
        """channels: stream → C of its steps; together: those attended with one weight; kind: lstm or transformer.

        shut: gates are open or shut, and nothing between.
        """
        super().__init__()
        self.vocabulary, self.word_dropout, self.shut = vocabulary, word_dropout, shut
        alone = [(name,) for name in channels if name not in together]
        self.groups = [tuple(together), *alone] if together else alone
        self.words = WORDS[kind](words=len(vocabulary), width=width, layers=layers, dropout=dropout)
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in self.groups)
        self.key = nn.ModuleDict({name: nn.Linear(size, width, bias=False) for name, size in channels.items()})
        self.value = nn.ModuleDict({name: nn.Linear(size, width) for name, size in channels.items()})
        self.said = nn.ModuleDict({name: nn.Linear(width, width) for name in channels})
        self.gate = nn.ModuleDict({name: nn.Linear(width, 1) for name in channels})
        for gate in self.gate.values() if shut else ():
            nn.init.constant_(gate.bias, OPEN)
        self.language = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, len(vocabulary))

    def look(self, evidence: Evidence) -> Looked:
        """Keys and values of all steps."""
        present = {name: there[:, None, None].float() for name, there in evidence.present.items()}
        keys = {name: layer(evidence.steps[name]) * present[name] for name, layer in self.key.items()}
        values = {name: layer(evidence.steps[name]) for name, layer in self.value.items()}
        for group in self.groups:
            steps = max(values[name].shape[1] for name in group)
            for name in group:  # one that is absent from all clips has a single step
                values[name] = values[name].expand(-1, steps, -1) if values[name].shape[1] == 1 else values[name]
        return Looked([sum(keys[name] for name in group) for group in self.groups], values, present)

    def next_words(self, state: Tensor, looked: Looked) -> Tensor:
        """(B, L, D), the model of the words, → (B, L, V), logits of each next word"""
        return self._next_words(state, looked)[0]

    def _next_words(self, state: Tensor, looked: Looked) -> tuple[Tensor, Tensor]:
        """(B, L, D) → (B, L, V), logits, and (B, L), how many present streams' gates are open, to be expected"""
        total, count = self.language(state), state.new_zeros(state.shape[:2])
        for group, query, keys in zip(self.groups, self.query, looked.keys, strict=True):
            weights = (query(state) @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(dim=2)
            for name in group:
                shown = torch.tanh(weights @ looked.values[name] + self.said[name](state))
                chance = looked.present[name] * torch.sigmoid(self.gate[name](state))
                total = total + self._open(chance) * shown
                count = count + chance[..., 0]
        return self.out(self.dropout(total)), count

    def _open(self, chance: Tensor) -> Tensor:
        """Probabilities → themselves, or zeros and ones with their gradients."""
        if not self.shut:
            return chance
        if not self.training:
            return (chance > 0.5).float()
        return (torch.rand_like(chance) < chance).float() + chance - chance.detach()

    def forward(self, words: Tensor, evidence: Evidence) -> Tensor:
        """(B, L) int64 → (B, L, V), logits of each next word"""
        return self.next_words(self.words(words), self.look(evidence))

    def loss(self, evidence: Evidence, texts: Sequence[str], *, price: float = 0.0) -> Tensor:
        """The mean cross entropy of a caption's words and its end, one caption a clip: → ()

        price: nats for each stream that a word looks at.
        """
        rows = [torch.tensor(self.vocabulary.encode(text)[: LONGEST + 1]) for text in texts]
        words = pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.out.weight.device)
        before, after = words[:, :-1], words[:, 1:]
        if self.training:
            hidden = (torch.rand(before.shape, device=before.device) < self.word_dropout) & (before != START)
            before = before.masked_fill(hidden, UNKNOWN)
        logits, looks = self._next_words(self.words(before), self.look(evidence))
        spoken = after != PAD
        paid = price * (looks * spoken).sum() / spoken.sum()
        return cross_entropy(rearrange(logits, "b l v -> (b l) v"), after.flatten(), ignore_index=PAD) + paid

    @torch.no_grad()
    def captions(self, evidence: Evidence, *, beam: int) -> list[Sentence]:
        """The likeliest sentence of each clip that a search of so many beams finds."""
        looked = self.look(evidence)

        def log_probabilities(words: Tensor) -> Tensor:
            """(B, K, L) → (B, K, V)"""
            state = self.words(rearrange(words, "b k l -> (b k) l"))[:, -1]
            logits = self.next_words(rearrange(state, "(b k) d -> b k d", k=words.shape[1]), looked)
            logits[..., [PAD, START, UNKNOWN]] = -torch.inf
            return logits.log_softmax(dim=2)

        clips = len(next(iter(evidence.present.values())))
        found = beam_search(log_probabilities, clips=clips, beam=beam, start=START, end=END, longest=LONGEST)
        return [Sentence(self.vocabulary.decode(numbers), score) for numbers, score in found]

    def own_weights(self) -> dict[str, Tensor]:
        """What is saved."""
        return {name: value.contiguous() for name, value in self.state_dict().items()}

    def load_own_weights(self, weights: dict[str, Tensor]) -> None:
        """Raises RuntimeError if they are of another model."""
        self.load_state_dict(weights)
