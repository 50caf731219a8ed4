"""A pretrained sentence encoder over the texts of the cells.

``sentence_training`` trains it in two ways, ``sentence_run`` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.qa.encoders.pretrained import SentenceEncoder

MOST_PIECES = 128
"""Upper limit of word pieces per text; what is longer is cut off."""
TEXTS_PER_CALL = 64
"""Texts that the transformer encodes together."""
TEXTS_PER_PART = 4096
"""Texts between two lines of progress, and between two pieces of the memory's keys."""


class Sentences(nn.Module):
    """Turns texts into unit vectors: the mean of a transformer's hidden states, as in sentence-transformers.

    Args:
        encoder: transformer with its tokenizer.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        self.transformer = encoder.transformer
        self._tokenizer = Tokenizer.from_str(encoder.tokenizer)
        self._tokenizer.enable_truncation(MOST_PIECES)
        self._tokenizer.enable_padding()

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(n, H)`` of n texts."""
        # texts of similar length go together, since all texts of a call are padded to the longest
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        parts = [order[at : at + TEXTS_PER_CALL] for at in range(0, len(order), TEXTS_PER_CALL)]
        vectors = torch.cat([self._encode([texts[row] for row in part]) for part in parts])  # (n, H)
        return vectors[torch.tensor(order, device=vectors.device).argsort()]

    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(n, H)`` of texts of P pieces at most."""
        encoded = self._tokenizer.encode_batch(list(texts))
        device = next(self.parameters()).device
        ids = torch.tensor([text.ids for text in encoded], device=device)  # (n, P)
        mask = torch.tensor([text.attention_mask for text in encoded], device=device)  # (n, P)
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state  # (n, P, H)
        weight = mask.unsqueeze(2).to(hidden.dtype)  # (n, P, 1)
        return F.normalize((hidden * weight).sum(dim=1) / weight.sum(dim=1), dim=1)


class SentenceCells(nn.Module):
    """Encodes cells by their texts; a ``CellEncoder``.

    Args:
        sentences: encoder of texts.
        texts: texts of the cells.
        log: called with a line per part while all texts are encoded.
    """

    def __init__(self, sentences: Sentences, texts: Sequence[str], log: Callable[[str], None]) -> None:
        super().__init__()
        self.sentences, self.texts, self._log = sentences, texts, log
        self.num_cells = len(texts)

    def forward(self, cells: Tensor) -> Tensor:
        """Keys ``(C, H)`` of cells ``(C,)``."""
        keys: Tensor = self.sentences([self.texts[cell] for cell in cells.tolist()])
        return keys

    def all_keys(self) -> Iterator[Tensor]:
        """See ``CellEncoder.all_keys``."""
        for start in range(0, len(self.texts), TEXTS_PER_PART):
            yield self.sentences(self.texts[start : start + TEXTS_PER_PART])
            done = min(start + TEXTS_PER_PART, len(self.texts))
            self._log(f"encoded {done:,} of {len(self.texts):,} cells")
