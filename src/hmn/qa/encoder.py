"""The two encoders of the text memory: questions into queries, cells into keys.

Query and key have two blocks of features. In the first the words of the question meet the words of the
subject's name: both sides share one table of hashed words, n-grams and pairs of words. In the second the
question's phrasing meets the relation. An inner product adds the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.qa import freebase
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.text import TWO_WORDS, Ragged, TextBags, Texts, WordBags, hashed, words

FREQUENCY_STEPS = 24
FIRST_WEIGHT = (1.0, 0.3, 0.3, 0.3, 0.5)
NAMES_A_PART = 8192


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


class Phrasing(nn.Module):
    """Reads a question word by word in context, from scratch: hashed word and n-gram vectors and a GRU.

    Args:
        config: sizes.

    Attributes:
        features: features of a word's vector, H.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sparse = config.reader != "softmax"
        rows, size = 1 << config.word_bits, config.word_features
        self.word = nn.Parameter(torch.randn(rows, size) * 0.1)
        self.ngram = nn.Parameter(torch.randn(rows, size) * 0.03)
        self.gru = nn.GRU(size + 1, config.hidden, batch_first=True, bidirectional=True)
        self.dropout, self.word_dropout = config.dropout, config.word_dropout
        self.features = 2 * config.hidden + size + 1

    def forward(self, bags: WordBags, rarity: Tensor) -> Tensor:
        """Vectors ``(B, T, H)`` of words; places past a question's end hold anything.

        Args:
            bags: B questions of at most T words, W words in all.
            rarity: ``(W,)`` inverse document frequency of each word among the memory's names.
        """
        length = torch.from_numpy(bags.length)  # stays on the CPU, where packing wants it
        word = self._words(bags)  # (W, size)
        word = torch.cat([word, rarity.unsqueeze(1) / 5], dim=1)
        padded = word.new_zeros(len(length), int(length.max()), word.shape[1])
        padded[_within(length).to(word.device)] = word
        padded = F.dropout(padded, self.dropout, self.training)
        packed = nn.utils.rnn.pack_padded_sequence(padded, length, batch_first=True, enforce_sorted=False)
        context, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return torch.cat([F.dropout(context, self.dropout, self.training), padded], dim=2)

    def _words(self, bags: WordBags) -> Tensor:
        feature, start = _tensors(self.word.device, bags.feature.flat, bags.feature.start)
        feature = feature % self.word.shape[0]
        whole = F.embedding(feature[start[:-1]], self.word, sparse=self.sparse)
        if self.training and self.word_dropout:
            # without its own vector a word is known by its n-grams alone, as an unseen word is
            whole = whole * (torch.rand(len(whole), 1, device=whole.device) >= self.word_dropout)
        ngrams = bag(feature, start[:-1], self.ngram, sparse=self.sparse)
        return whole + ngrams / (start.diff().float().sqrt().unsqueeze(1))


class QuestionEncoder(nn.Module):
    """The input module: questions into queries.

    Each word in context gets a gate, how likely it belongs to the subject's name, and a share in the
    question's phrasing; gated words are looked up as names are, the phrasing becomes the relation block.

    Args:
        config: sizes.
        table: the table of names, shared with the cell encoder.
        phrasing: a module that gives each word a vector in context (see ``Phrasing``).
    """

    def __init__(self, config: ModelConfig, table: NameTable, phrasing: nn.Module) -> None:
        super().__init__()
        self.table, self.phrasing = table, phrasing
        features = int(phrasing.features)  # type: ignore[arg-type]
        self.gate, self.share = nn.Linear(features, 1), nn.Linear(features, 1)
        self.relation = nn.Linear(features, config.relation_features)
        self.log_scale = nn.Parameter(torch.tensor(float(config.name_scale)).log())

    def forward(self, bags: WordBags) -> Tensor:
        """Queries ``(B, L + R)`` of B questions."""
        feature, start, length, kind, pair = _tensors(
            self.log_scale.device, bags.feature.flat, bags.feature.start, bags.length, bags.kind, bags.pair
        )
        context = self.phrasing(bags, self.table.rarity(feature[start[:-1]]))  # (B, T, H)
        within = _within(length)
        gate = torch.sigmoid(self.gate(context).squeeze(2))[within]  # (W,)
        share = self.share(context).squeeze(2).masked_fill(~within, -torch.inf).softmax(dim=1)
        relation = self.relation(
            (share.unsqueeze(2) * context.masked_fill(~within.unsqueeze(2), 0)).sum(dim=1)
        )
        begin = torch.cat([length.new_zeros(1), length.cumsum(0)])
        name = self.table(feature, kind, start[begin[:-1]], gate.repeat_interleave(start.diff()))
        name = name + self._pairs(pair, begin, gate)
        return torch.cat([F.normalize(name, dim=1) * self.log_scale.exp(), relation], dim=1)

    def _pairs(self, pair: Tensor, begin: Tensor, gate: Tensor) -> Tensor:
        """Sum of the pairs of words of each question, each gated by both of its words: ``(B, L)``."""
        second = torch.ones_like(gate, dtype=torch.bool)
        second[begin[:-1]] = False
        both = (gate * gate.roll(1))[second]
        start = begin[:-1] - torch.arange(len(begin) - 1, device=gate.device)
        looked_up: Tensor = self.table(pair, torch.full_like(pair, TWO_WORDS), start, both)
        return looked_up


class FactEncoder(nn.Module):
    """Cells into keys, from the words of subject name, relation and, as an option, object name.

    Args:
        config: sizes.
        cells: what the cells are.
        relations: the relations' ids; one read backwards begins with ``~``.
        table: the table of names, shared with the question encoder.
    """

    def __init__(self, config: ModelConfig, cells: Cells, relations: list[str], table: NameTable) -> None:
        super().__init__()
        self.table, self.cells, self.bits = table, cells, config.table_bits
        rows = 1 << config.word_bits
        self.word = nn.Parameter(torch.randn(rows, 2 * config.relation_features))
        self.relation = nn.Linear(2 * config.relation_features, config.relation_features)
        self.object_weight = nn.Parameter(torch.tensor(0.2)) if cells.object is not None else None
        self._relation_bags = Ragged.of(relation_features(one, config.word_bits) for one in relations)
        self._names: Texts | None = None

    @property
    def num_cells(self) -> int:
        """Number of cells, N."""
        return len(self.cells)

    @property
    def names(self) -> Texts:
        """The names, featurised at first use: a model that only answers never needs them."""
        if self._names is None:
            self._names = Texts(self.cells.names, self.bits)
        return self._names

    def count_names(self) -> None:
        """Count the features of all names; called once, before training."""
        self.table.count(self.names)

    def forward(self, cells: Tensor) -> Tensor:
        """Keys ``(C, L + R)`` of cells ``(C,)``."""
        chosen, device = cells.cpu().numpy(), self.word.device
        name, name_at = np.unique(self.cells.subject[chosen], return_inverse=True)
        relation, relation_at = np.unique(self.cells.relation[chosen], return_inverse=True)
        of_name, of_relation = _tensors(device, name_at, relation_at)
        block = self.encode_names(name)[of_name]
        if self.cells.object is not None and self.object_weight is not None:
            other, other_at = np.unique(self.cells.object[chosen], return_inverse=True)
            block = block + self.object_weight * self.encode_names(other)[_tensors(device, other_at)[0]]
        return torch.cat([block, self.encode_relations(relation)[of_relation]], dim=1)

    def encode_names(self, names: NDArray[np.int64]) -> Tensor:
        """Unit vectors ``(n, L)`` of names."""
        bags: TextBags = self.names.text_bags(names)
        feature, kind, start = _tensors(
            self.word.device, bags.feature.flat, bags.kind, bags.feature.start[:-1]
        )
        return F.normalize(self.table(feature, kind, start), dim=1)

    def encode_relations(self, relations: NDArray[np.int64]) -> Tensor:
        """Vectors ``(n, R)`` of relations, from their words."""
        bags = self._relation_bags.take(relations)
        feature, start = _tensors(self.word.device, bags.flat, bags.start[:-1])
        summed = bag(feature, start, self.word, sparse=self.table.sparse)
        encoded: Tensor = self.relation(summed / _tensors(summed.device, bags.length)[0].unsqueeze(1))
        return encoded

    @torch.no_grad()
    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells in order, in parts; each name and each relation is encoded once."""
        count = len(self.cells.names)
        parts = (np.arange(at, min(at + NAMES_A_PART, count)) for at in range(0, count, NAMES_A_PART))
        name = torch.cat([self.encode_names(part) for part in parts])
        relation = self.encode_relations(np.arange(self._relation_bags.rows))
        subject, of_cell = _tensors(name.device, self.cells.subject, self.cells.relation)
        other = None if self.cells.object is None else _tensors(name.device, self.cells.object)[0]
        for at in range(0, len(self.cells), NAMES_A_PART):
            part = slice(at, at + NAMES_A_PART)
            block = name[subject[part]]
            if other is not None and self.object_weight is not None:
                block = block + self.object_weight * name[other[part]]
            yield torch.cat([block, relation[of_cell[part]]], dim=1)


def relation_features(relation: str, bits: int) -> list[int]:
    """Hashed features of a relation: its words, its words by place, its parts, and itself."""
    parts = freebase.relation_parts(relation)
    direction = "~" if relation.startswith("~") else ""
    features = [f"id:{relation}", f"direction:{direction}"]
    for place, part in enumerate(reversed(parts)):
        features.append(f"{place}:{part}")
        features += [feature for word in words(part) for feature in (word, f"{place}:{direction}:{word}")]
    return [hashed("r:" + feature, bits) for feature in features]


def _tensors(device: torch.device, *arrays: NDArray[np.int64]) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def _within(length: Tensor) -> Tensor:
    """``(B, T)`` true where a word of a text of that length stands."""
    return torch.arange(int(length.max()), device=length.device).unsqueeze(0) < length.unsqueeze(1)
