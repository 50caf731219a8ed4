"""The embedding tables that questions and cells share: hashed features of names, and words of a language."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.qa.config import ModelConfig
from hmn.qa.text import Texts, WordBags

FREQUENCY_STEPS = 24
FIRST_WEIGHT = (1.0, 0.3, 0.3, 0.3, 0.5)


class NameTable(nn.Module):
    """Embeds bags of hashed features; rare features weigh more, by how much is learned.

    A feature's weight is its inverse document frequency among the memory's names, times a gate that is
    learned for its kind and frequency, so that it holds for features that training never saw.

    Args:
        bits: the table has ``2 ** bits`` rows.
        features: features of a row, L.
        sparse: its gradient is sparse; not so if every step touches most rows.
    """

    document_frequency: Tensor
    num_names: Tensor

    def __init__(self, bits: int, features: int, *, sparse: bool = True) -> None:
        super().__init__()
        first = torch.randn(1 << bits, features)
        self.weight = nn.Parameter(F.normalize(first, dim=1))
        self.gate = nn.Parameter(torch.tensor(FIRST_WEIGHT).log().unsqueeze(1).repeat(1, FREQUENCY_STEPS))
        self.sparse = sparse
        self.register_buffer("document_frequency", torch.zeros(1 << bits))
        self.register_buffer("num_names", torch.ones(()))

    def count(self, names: Texts) -> None:
        """Count in how many of the memory's names each feature occurs."""
        bags = names.text_bags(np.arange(len(names)))
        name = np.repeat(np.arange(len(names)), bags.feature.length)
        found = np.sort(name * self.weight.shape[0] + bags.feature.flat)
        distinct = found[np.diff(found, prepend=-1) > 0] % self.weight.shape[0]
        counted = np.bincount(distinct, minlength=self.weight.shape[0])
        self.document_frequency.copy_(torch.from_numpy(counted))
        self.num_names.fill_(len(names))

    def rarity(self, feature: Tensor) -> Tensor:
        """Inverse document frequency of features ``(F,)``, 0 for one that all names have."""
        return ((self.num_names + 1) / (self.document_frequency[feature] + 1)).log()

    def forward(self, feature: Tensor, kind: Tensor, start: Tensor, scale: Tensor | None = None) -> Tensor:
        """Sum the weighted embeddings of each bag.

        Args:
            feature: ``(F,)`` rows of the table, bag by bag.
            kind: ``(F,)`` kinds of the features.
            start: ``(bags,)`` where each bag begins.
            scale: ``(F,)`` further weights.

        Returns:
            ``(bags, L)``.
        """
        step = (self.document_frequency[feature] + 1).log2().long().clamp(max=FREQUENCY_STEPS - 1)
        weight = self.rarity(feature) * self.gate[kind, step].exp()
        if scale is not None:
            weight = weight * scale
        return bag(feature, start, self.weight, scale=weight, sparse=self.sparse)


def bag(
    feature: Tensor, start: Tensor, table: Tensor, *, scale: Tensor | None = None, sparse: bool = True
) -> Tensor:
    """Sum rows of a table bag by bag, with a gradient that holds each touched row once.

    Args:
        feature: ``(F,)`` rows, bag by bag.
        start: ``(bags,)`` where each bag begins.
        table: ``(rows, L)``.
        scale: ``(F,)`` weights of the rows.
        sparse: the table's gradient is sparse; a dense one is cheaper if most rows are touched.

    Returns:
        ``(bags, L)``.
    """
    if not (sparse and torch.is_grad_enabled()):
        return F.embedding_bag(feature, table, start, mode="sum", per_sample_weights=scale)
    # embedding_bag's own sparse gradient holds a row for each feature, several times as many as there are
    touched, at = torch.unique(feature, return_inverse=True)
    rows = F.embedding(touched, table, sparse=True)
    return F.embedding_bag(at, rows, start, mode="sum", per_sample_weights=scale)


class WordTable(nn.Module):
    """Vectors of words, of questions and of relations alike, so that the same word meets itself.

    A word's vector is its own and the sum of its n-grams', both hashed.

    Args:
        config: sizes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sparse = config.reader != "softmax"
        self.word_dropout = config.word_dropout
        rows, size = 1 << config.word_bits, config.word_features
        self.word = nn.Parameter(torch.randn(rows, size) * 0.1)
        self.ngram = nn.Parameter(torch.randn(rows, size) * 0.03)
        self.match = nn.Linear(size, config.relation_features, bias=False)

    def forward(self, bags: WordBags) -> Tensor:
        """Vectors ``(W, size)`` of the words of some texts."""
        feature, start = tensors(self.word.device, bags.feature.flat, bags.feature.start)
        feature = feature % self.word.shape[0]
        whole = F.embedding(feature[start[:-1]], self.word, sparse=self.sparse)
        if self.training and self.word_dropout:
            # without its own vector a word is known by its n-grams alone, as an unseen word is
            whole = whole * (torch.rand(len(whole), 1, device=whole.device) >= self.word_dropout)
        ngrams = bag(feature, start[:-1], self.ngram, sparse=self.sparse)
        return whole + ngrams / (start.diff().float().sqrt().unsqueeze(1))

    def matching(self, word: Tensor, weight: Tensor, text: Tensor, texts: int) -> Tensor:
        """What the words of each text add to the relation block, where equal words meet: ``(texts, R)``.

        Args:
            word: ``(W, size)`` vectors of words.
            weight: ``(W,)`` their weights.
            text: ``(W,)`` the text that each belongs to.
            texts: number of texts.
        """
        summed = word.new_zeros(texts, word.shape[1]).index_add(0, text, word * weight.unsqueeze(1))
        total = weight.new_zeros(texts).index_add(0, text, weight)
        matched: Tensor = self.match(summed / total.clamp(min=1).sqrt().unsqueeze(1))
        return matched


def tensors(device: torch.device, *arrays: NDArray[np.int64]) -> list[Tensor]:
    """Arrays as tensors on a device."""
    return [torch.from_numpy(array).to(device) for array in arrays]


def within_text(length: Tensor) -> Tensor:
    """``(B, T)`` true where a word of a text of that length stands."""
    return torch.arange(int(length.max()), device=length.device).unsqueeze(0) < length.unsqueeze(1)
