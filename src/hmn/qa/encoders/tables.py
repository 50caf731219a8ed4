"""The embedding tables that questions and cells share: one for names, one for words."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.errors import ShapeError
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.first_values import FirstValues, new_seed
from hmn.qa.encoders.kept_table import some_rows
from hmn.qa.text import Texts, WordBags

FREQUENCY_STEPS = 24
"""Number of classes of document frequency, on a logarithmic scale of base 2."""
FIRST_WEIGHT = (1.0, 0.3, 0.3, 0.3, 0.5, 0.3)
"""Initial weight of each kind of features; the kinds are those of ``hmn.qa.text``."""


class NameTable(nn.Module):
    """Embeds bags of hashed features, with more weight for rare ones.

    A feature's weight is its inverse document frequency among the memory's names, times a learned gate. There
    is one gate per kind and class of frequency, so that it applies to features that training never saw.

    Args:
        bits: Logarithm of the number of rows: ``2 ** bits``.
        features: Features of a row, L.
        kinds: Number of kinds of features.
        count_bits: Logarithm of the number of counts, if there are more of them than rows: features that
            share a row may differ in how rare they are.
        sparse: Give the table a sparse gradient. A dense one is cheaper if every step touches most rows.
    """

    seed: Tensor
    document_frequency: Tensor
    num_names: Tensor

    def __init__(
        self, bits: int, features: int, kinds: int, *, count_bits: int | None = None, sparse: bool = True
    ) -> None:
        super().__init__()
        self.register_buffer("seed", new_seed())
        first = FirstValues("names", features, features**-0.5)
        self.first_values: dict[str, FirstValues | None] = {"weight": first, "document_frequency": None}
        self.weight = nn.Parameter(first.table(self.seed, 1 << bits))
        # in Python, since a logarithm on the device meta imports half of PyTorch
        self.gate = nn.Parameter(
            torch.tensor([[math.log(weight)] * FREQUENCY_STEPS for weight in FIRST_WEIGHT[:kinds]])
        )
        self.sparse = sparse
        self.register_buffer("document_frequency", torch.zeros(1 << (count_bits or bits)))
        self.register_buffer("num_names", torch.ones(()))

    def count(self, names: Texts) -> None:
        """Count the names of the memory that each feature occurs in."""
        bags = names.text_bags(np.arange(len(names)))
        name = np.repeat(np.arange(len(names)), bags.feature.length)
        # a feature that occurs twice in a name counts once
        rows = len(self.document_frequency)
        mixed = np.sort(name * rows + bags.feature.flat)
        distinct = mixed[np.diff(mixed, prepend=-1) > 0] % rows
        counts = np.bincount(distinct, minlength=rows)
        self.document_frequency.copy_(torch.from_numpy(counts))
        self.num_names.fill_(len(names))

    def rarity(self, feature: Tensor) -> Tensor:
        """Inverse document frequency of features ``(F,)``: 0 for a feature that all names have."""
        return ((self.num_names + 1) / (self.document_frequency[feature] + 1)).log()

    def forward(self, feature: Tensor, kind: Tensor, start: Tensor, scale: Tensor | None = None) -> Tensor:
        """Sum the weighted embeddings of each bag.

        Args:
            feature: ``(F,)`` hashed features, bag by bag.
            kind: ``(F,)`` kinds of the features.
            start: ``(bags,)`` position of each bag's first feature.
            scale: ``(F,)`` additional weights.

        Returns:
            ``(bags, L)``.
        """
        step = (self.document_frequency[feature] + 1).log2().long().clamp(max=FREQUENCY_STEPS - 1)  # (F,)
        weight = self.rarity(feature) * self.gate[kind, step].exp()  # (F,)
        if scale is not None:
            weight = weight * scale
        return bag(feature % len(self.weight), start, self.weight, scale=weight, sparse=self.sparse)


def check_counts(weights: Mapping[str, Tensor]) -> None:
    """Refuse saved counts of names that are below 0: their logarithms would be NaN.

    Raises:
        ShapeError: names the tensor.
    """
    for name, count in weights.items():
        if name.endswith((".document_frequency", ".num_names")) and bool((count < 0).any()):
            raise ShapeError(f"{name} holds {float(count.min()):.6g}, expected counts of at least 0")


def bag(
    feature: Tensor, start: Tensor, table: Tensor, *, scale: Tensor | None = None, sparse: bool = True
) -> Tensor:
    """Sum the rows of each bag, with a gradient that holds each touched row once.

    Args:
        feature: ``(F,)`` rows of the table, bag by bag.
        start: ``(bags,)`` position of each bag's first feature.
        table: ``(rows, L)``.
        scale: ``(F,)`` weights of the rows.
        sparse: Give the table a sparse gradient. A dense one is cheaper if most rows are touched.

    Returns:
        ``(bags, L)``.
    """
    if not (sparse and torch.is_grad_enabled()):
        table, feature = some_rows(table, feature)
        return F.embedding_bag(feature, table, start, mode="sum", per_sample_weights=scale)
    # the sparse gradient of embedding_bag itself would hold one row per feature, repeated rows included
    touched, row = torch.unique(feature, return_inverse=True)
    rows = F.embedding(touched, table, sparse=True)  # (touched, L)
    return F.embedding_bag(row, rows, start, mode="sum", per_sample_weights=scale)


class WordTable(nn.Module):
    """Vectors of words. Questions and relations share them, so that equal words match.

    A word's vector is the sum of its own row and its n-grams' rows; both are found by hashing.

    Args:
        config: Sizes of the model.
    """

    seed: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sparse = config.reader != "softmax"
        self.word_dropout = config.word_dropout
        rows, size = 1 << config.word_bits, config.word_features
        self.register_buffer("seed", new_seed())
        word, ngram = FirstValues("words", size, 0.1), FirstValues("ngrams", size, 0.03)
        self.first_values = {"word": word, "ngram": ngram}
        self.word = nn.Parameter(word.table(self.seed, rows))
        self.ngram = nn.Parameter(ngram.table(self.seed, rows))
        self.match = nn.Linear(size, config.relation_features, bias=False)

    def forward(self, bags: WordBags) -> Tensor:
        """Vectors ``(W, size)`` of all words of some texts."""
        feature, start = tensors(self.word.device, bags.feature.flat, bags.feature.start)
        feature = feature % self.word.shape[0]
        table, row = some_rows(self.word, feature[start[:-1]])
        whole = F.embedding(row, table, sparse=self.sparse)  # (W, size)
        if self.training and self.word_dropout:
            # without its own row, a word is known only by its n-grams, as an unseen word is
            whole = whole * (torch.rand(len(whole), 1, device=whole.device) >= self.word_dropout)
        ngrams = bag(feature, start[:-1], self.ngram, sparse=self.sparse)  # (W, size)
        return whole + ngrams / (start.diff().float().sqrt().unsqueeze(1))

    def matching(self, word: Tensor, weight: Tensor, text: Tensor, texts: int) -> Tensor:
        """What the words of each text add to its relation block, in which equal words match: ``(texts, R)``.

        Args:
            word: ``(W, size)`` vectors of words.
            weight: ``(W,)`` weights of the words.
            text: ``(W,)`` number of the text that each word belongs to.
            texts: Number of texts.
        """
        weighted = word * weight.unsqueeze(1)  # (W, size)
        summed = word.new_zeros(texts, word.shape[1]).index_add(0, text, weighted)  # (texts, size)
        total = weight.new_zeros(texts).index_add(0, text, weight)  # (texts,)
        matched: Tensor = self.match(summed / total.clamp(min=1).sqrt().unsqueeze(1))
        return matched


def tensors(device: torch.device, *arrays: NDArray[np.int64]) -> list[Tensor]:
    """Arrays as tensors on a device."""
    return [torch.from_numpy(array).to(device) for array in arrays]


def within_text(length: Tensor) -> Tensor:
    """Mask ``(B, T)`` of the positions that hold a word, from the texts' lengths ``(B,)``."""
    return torch.arange(int(length.max()), device=length.device).unsqueeze(0) < length.unsqueeze(1)
