"""A causal language model of the transformers library that is told what the streams show."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from preprocess.common.errors import UserError
from streams.towers.published import library, not_loaded
from tasks.captions.evidence import Evidence
from tasks.captions.search import Sentence, beam_search
from tasks.captions.words import LONGEST

PREFIX = "hf:"
LANGUAGE = "language"  # the folder of a model that has learned too
TOKENS = 16  # of each stream, at most: its steps are averaged down to so many


def is_language(decoder: str) -> bool:
    """True for hf:NAME."""
    return decoder.startswith(PREFIX)


class LanguageDecoder(nn.Module):
    """Steps of the streams, each through a layer of its own, as the first tokens of a language model's sentence.

    As ClipCap (Mokady et al. 2021), with steps instead of one feature. Without `tune` the language model stays as it
    is, and only these layers learn. An absent stream gives no tokens.
    """

    def __init__(self, decoder: str, *, channels: dict[str, int], tune: bool, folder: Path | None = None) -> None:
        """folder: of a model that has learned, instead of the one that `decoder` names.

        Raises UserError if transformers is not installed, or the model cannot be had.
        """
        super().__init__()
        transformers = library(decoder, "transformers", "hf")
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings come on top of the error below
        place = str(folder) if folder else decoder.removeprefix(PREFIX)
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(place)
            language = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        except Exception as error:  # no network, no such repository, another kind of model, a damaged file
            raise not_loaded(decoder, "language model", error) from error
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{decoder} has no sign for the end of a text (eos_token): it cannot end a caption")
        self.end = self.tokenizer.eos_token_id
        self.tune = tune
        self.language = language.requires_grad_(tune)
        size = language.get_input_embeddings().embedding_dim
        self.shown = nn.ModuleDict({name: nn.Linear(count, size) for name, count in channels.items()})

    def train(self, mode: bool = True) -> "LanguageDecoder":
        super().train(mode)
        self.language.train(mode and self.tune)
        return self

    def prefix(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """The streams' tokens (B, P, E), and which of them are there, (B, P) int64"""
        tokens, there = [], []
        for name, layer in self.shown.items():
            steps = evidence.steps[name]
            count = min(TOKENS, steps.shape[1])
            tokens.append(layer(adaptive_avg_pool1d(steps.transpose(1, 2), count).transpose(1, 2)))
            there.append(evidence.present[name][:, None].expand(-1, count))
        return torch.cat(tokens, dim=1), torch.cat(there, dim=1).long()

    def loss(self, evidence: Evidence, texts: Sequence[str], *, price: float = 0.0) -> Tensor:
        """The mean cross entropy of a caption's tokens and its end, one caption a clip: → ()

        price: of looking at a stream; here all are the model's first tokens, and nothing is chosen.
        """
        prefix, there = self.prefix(evidence)
        rows = [
            [*self.tokenizer(text, add_special_tokens=False)["input_ids"][: LONGEST - 1], self.end] for text in texts
        ]
        longest = max(map(len, rows))
        words = torch.tensor([row + [self.end] * (longest - len(row)) for row in rows], device=prefix.device)
        known = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=prefix.device)
        labels = torch.cat([torch.full_like(there, -100), words.masked_fill(known == 0, -100)], dim=1)
        mask = torch.cat([there, known], dim=1)
        given = torch.cat([prefix, self.language.get_input_embeddings()(words)], dim=1)
        return self.language(inputs_embeds=given, attention_mask=mask, position_ids=_places(mask), labels=labels).loss

    @torch.no_grad()
    def captions(self, evidence: Evidence, *, beam: int) -> list[Sentence]:
        """The likeliest sentence of each clip that a search of so many beams finds."""
        prefix, there = self.prefix(evidence)

        def log_probabilities(words: Tensor) -> Tensor:
            """(B, K, L) → (B, K, V); the first word stands for the prefix"""
            beams, flat = words.shape[1], rearrange(words[..., 1:], "b k l -> (b k) l")
            given = torch.cat([prefix.repeat_interleave(beams, 0), self.language.get_input_embeddings()(flat)], dim=1)
            mask = torch.cat([there.repeat_interleave(beams, 0), torch.ones_like(flat)], dim=1)
            logits = self.language(inputs_embeds=given, attention_mask=mask, position_ids=_places(mask)).logits[:, -1]
            return rearrange(logits.float().log_softmax(dim=1), "(b k) v -> b k v", k=beams)

        found = beam_search(
            log_probabilities, clips=len(prefix), beam=beam, start=self.end, end=self.end, longest=LONGEST
        )
        return [
            Sentence(self.tokenizer.decode(numbers, skip_special_tokens=True).strip(), score)
            for numbers, score in found
        ]

    def own_weights(self) -> dict[str, Tensor]:
        """Without the language model's."""
        return {name: value.contiguous() for name, value in self.shown.state_dict().items()}

    def load_own_weights(self, weights: dict[str, Tensor]) -> None:
        """Raises RuntimeError if they are of another model."""
        self.shown.load_state_dict(weights)

    def save_language(self, folder: Path) -> None:
        """Write the language model and its tokenizer, which have learned."""
        self.language.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _places(mask: Tensor) -> Tensor:
    """Positions that do not count absent tokens: (B, P) → (B, P)"""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
