"""Models of a sentence so far: (B, L) numbers of words → (B, L, D), each from the words up to its place."""

import torch
from torch import Tensor, nn

LONGEST = 64  # words of a sentence
HEADS = 4


class LstmWords(nn.Module):
    """Embedding and LSTM (Venugopalan et al. 2015)."""

    def __init__(self, *, words: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, words: Tensor) -> Tensor:
        """(B, L) int64 → (B, L, D)"""
        return self.lstm(self.embedding(words))[0]


class TransformerWords(nn.Module):
    """Embedding, learned positions and layers of causal self-attention (Vaswani et al. 2017), norm first."""

    def __init__(self, *, words: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(LONGEST, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, HEADS, 4 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, words: Tensor) -> Tensor:
        """(B, L) int64 → (B, L, D), L at most LONGEST"""
        count = words.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(count, device=words.device)
        return self.layers(self.embedding(words) + self.places[:count], mask=mask, is_causal=True)


WORDS = {"lstm": LstmWords, "transformer": TransformerWords}
