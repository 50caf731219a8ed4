"""The encoder of cells: from names and relations to keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.facts.growing import ChangingRagged
from hmn.facts.ids import relation_parts
from hmn.facts.ragged import Ragged
from hmn.nn.memory.growing import GrowingRows
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.first_values import FirstValues, new_seed
from hmn.qa.encoders.tables import NameTable, WordTable, bag, tensors
from hmn.qa.text import TextBags, Texts, WordBags, bags_of, hashed
from hmn.qa.words.splitting import Splitting, splitting
from hmn.store.rows import halved

NAMES_PER_PART = 8192
"""Number of names or cells encoded at a time when all keys are computed."""
MEANING_SCALE = 10.0
"""Initial weight of the block of meanings in a query."""


class Meaning(nn.Module):
    """Unit vectors ``(n, M)`` from a pretrained encoder's vectors of whole texts ``(n, H)``.

    Args:
        sentence: Features of a text's vector, H.
        config: Sizes of the model.
    """

    def __init__(self, sentence: int, config: ModelConfig) -> None:
        super().__init__()
        self.sentence = sentence
        self.project = nn.Linear(sentence, config.meaning_features, bias=False)
        self.dropout = config.dropout
        # Questions and cells start from the same projection, so that texts which are close for the pretrained
        # encoder are close here. A module on the device meta gets its weights later.
        if not self.project.weight.is_meta:
            first = torch.randn(sentence, sentence, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                rows = torch.linalg.qr(first).Q[: config.meaning_features]
                self.project.weight[: len(rows)] = rows

    def forward(self, mean: Tensor) -> Tensor:
        """Project vectors ``(n, H)`` and scale them to length 1."""
        return F.normalize(self.project(F.dropout(mean, self.dropout, self.training)), dim=1)


class FactEncoder(nn.Module):
    """Encodes cells as keys, from the words of subject name, relation and, optionally, object name.

    A key has a block of L features for the names, a block of R features for the relation and, with a
    pretrained encoder, a block of M features for the meaning of the whole text.

    Args:
        config: Sizes of the model.
        cells: The N cells.
        relations: Ids of the relations. A relation that is read backwards begins with ``~``.
        table: Table of names, shared with the question encoder.
        words: Vectors of words, shared with the question encoder.
        sentences: ``(relations, H)`` vectors of the relations' texts by a pretrained encoder, if any.
        texts: ``(N, H)`` float16 vectors of the cells' texts by the same encoder.
    """

    seed: Tensor
    sentences: Tensor | None
    texts: Tensor | None

    def __init__(
        self,
        config: ModelConfig,
        cells: Cells,
        relations: list[str],
        table: NameTable,
        words: WordTable,
        sentences: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.table, self.words, self.cells, self.bits = table, words, cells, config.feature_bits
        self._word_bits, self.splitting = config.word_bits, splitting(config.splitting)
        self._relation_ids = list(relations)
        self.register_buffer("seed", new_seed())
        first = FirstValues("relations", 2 * config.relation_features, 0.2)
        self.first_values = {"word": first}
        self.word = nn.Parameter(first.table(self.seed, 1 << config.word_bits))
        # what training learns about a relation beyond its words
        self.own = nn.Parameter(torch.zeros(len(relations), config.relation_features))
        self.relation = nn.Linear(2 * config.relation_features, config.relation_features)
        self.object_weight = nn.Parameter(torch.tensor(0.2)) if cells.object is not None else None
        self.register_buffer("sentences", sentences)
        self.meaning = None if sentences is None else nn.Linear(sentences.shape[1], config.relation_features)
        self.register_buffer("texts", texts)
        self.whole = None if texts is None else Meaning(texts.shape[1], config)
        self._names: Texts | None = None
        self._growing = GrowingRows()

    @property
    def num_cells(self) -> int:
        """Number of cells, N."""
        return len(self.cells)

    @property
    def num_relations(self) -> int:
        """Number of relations, those that came later included."""
        return self._relation_bags.rows

    @property
    def blocks(self) -> dict[str, int]:
        """Features of the blocks of a key, by name."""
        blocks = {"names": self.table.weight.shape[1], "relations": self.own.shape[1]}
        return blocks if self.whole is None else {**blocks, "meanings": self.whole.project.out_features}

    @cached_property
    def _relations(self) -> list[str]:
        """The relations in words. As all that follows, they are not needed for an answer."""
        return [" ".join(relation_parts(relation)) for relation in self._relation_ids]

    @cached_property
    def _relation_words(self) -> Texts:
        return Texts(self._relations, self.bits, self.splitting)

    @cached_property
    def _relation_bags(self) -> ChangingRagged:
        names, bits = self._relation_ids, self._word_bits
        return ChangingRagged(Ragged.of(relation_features(name, bits, self.splitting) for name in names))

    @property
    def names(self) -> Texts:
        """The names with their features, made on first use: a model that only answers never needs them."""
        if self._names is None:
            self._names = Texts(self.cells.names, self.bits, self.splitting)
        return self._names

    def count_names(self) -> None:
        """Count the features of all names. Call it once, before training.

        Names that come later are not counted: each count is in the keys of all cells that share the feature.
        """
        self.table.count(self.names)

    @torch.no_grad()
    def add_relations(self, relations: Sequence[str], sentences: Tensor | None = None) -> None:
        """Take relations that came after training, which are known by their words alone.

        Args:
            relations: Ids of the new relations.
            sentences: ``(len(relations), H)`` vectors of their texts, where there are any.
        """
        known, bags = self._relations, self._relation_bags
        for relation in relations:
            self._relation_ids.append(relation)
            known.append(" ".join(relation_parts(relation)))
            bags.add_row(relation_features(relation, self._word_bits, self.splitting))
        new = self.own.new_zeros(len(relations), self.own.shape[1])
        self.own = nn.Parameter(torch.cat([self.own, new]))
        if self.sentences is not None and sentences is not None:
            self.sentences = torch.cat([self.sentences, sentences.to(self.sentences)])

    @torch.no_grad()
    def put_texts(self, cells: Tensor, texts: Tensor) -> None:
        """Take the vectors ``(n, H)`` of the texts of cells ``(n,)``, which may be new ones."""
        assert self.texts is not None
        self.texts = self._growing.grown(self.texts, len(self.cells))
        self.texts[cells.to(self.texts.device)] = texts.to(self.texts)

    def forward(self, cells: Tensor) -> Tensor:
        """Keys ``(C, L + R)`` of cells ``(C,)``; ``(C, L + R + M)`` with a pretrained encoder.

        Each distinct name and relation is encoded once. Without gradients the keys are rounded.
        """
        chosen, device = cells.cpu().numpy(), self.word.device
        subject, subject_of = np.unique(self.cells.subject[chosen], return_inverse=True)
        relation, relation_of = np.unique(self.cells.relation[chosen], return_inverse=True)
        of_subject, of_relation = tensors(device, subject_of, relation_of)  # (C,), (C,)
        names = self.encode_names(subject)[of_subject]  # (C, L)
        if self.cells.object is not None and self.object_weight is not None:
            object_, object_of = np.unique(self.cells.object[chosen], return_inverse=True)
            names = names + self.object_weight * self.encode_names(object_)[tensors(device, object_of)[0]]
        blocks = [names, self.encode_relations(relation)[of_relation]]  # (C, L), (C, R)
        if self.whole is not None and self.texts is not None:
            blocks.append(self.whole(self.texts[cells.to(device)].float()))  # (C, M)
        keys = torch.cat(blocks, dim=1)
        return keys if torch.is_grad_enabled() else rounded(keys)

    def encode_names(self, names: NDArray[np.int64]) -> Tensor:
        """Unit vectors ``(n, L)`` of names ``(n,)``."""
        bags = self._bags_of(names)
        feature, kind, start = tensors(
            self.word.device, bags.feature.flat, bags.kind, bags.feature.start[:-1]
        )
        return F.normalize(self.table(feature, kind, start), dim=1)

    def _bags_of(self, names: NDArray[np.int64]) -> TextBags:
        """Features of names, without those of all others where these are not at hand."""
        if self._names is not None and names.max(initial=-1) < len(self._names):
            return self._names.text_bags(names)
        spelled = [self.cells.names[name] for name in names]
        return Texts(spelled, self.bits, self.splitting).text_bags(np.arange(len(names)))

    def _words_of(self, relations: NDArray[np.int64]) -> WordBags:
        """Words of relations, some of which may have come later."""
        if relations.max(initial=-1) < len(self._relation_words):
            return self._relation_words.word_bags(relations)
        spelled = [self._relations[relation] for relation in relations]
        return bags_of(spelled, self.bits, self.splitting)

    def encode_relations(self, relations: NDArray[np.int64]) -> Tensor:
        """Vectors ``(n, R)`` of relations ``(n,)``: from their features, words and a part of their own."""
        bags = self._relation_bags.take(relations)
        feature, start = tensors(self.word.device, bags.flat, bags.start[:-1])
        summed = bag(feature, start, self.word, sparse=self.table.sparse)  # (n, 2 * R)
        number, length = tensors(summed.device, relations, bags.length)
        encoded: Tensor = self.relation(summed / length.sqrt().unsqueeze(1)) + self.own[number]  # (n, R)
        spelled = self._words_of(relations)
        text = torch.repeat_interleave(tensors(summed.device, spelled.length)[0])
        weight = summed.new_ones(len(text))
        encoded = encoded + self.words.matching(self.words(spelled), weight, text, len(relations))
        if self.meaning is not None and self.sentences is not None:
            encoded = encoded + self.meaning(self.sentences[number])
        return encoded

    @torch.no_grad()
    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells, in order and in parts. Each name and each relation is encoded once."""
        count = len(self.cells.names)
        parts = (
            np.arange(first, min(first + NAMES_PER_PART, count)) for first in range(0, count, NAMES_PER_PART)
        )
        name = torch.cat([self.encode_names(part) for part in parts])  # (names, L)
        relation = self.encode_relations(np.arange(self.num_relations))  # (relations, R)
        subject, of_cell = tensors(name.device, self.cells.subject, self.cells.relation)
        object_ = None if self.cells.object is None else tensors(name.device, self.cells.object)[0]
        for first in range(0, len(self.cells), NAMES_PER_PART):
            part = slice(first, first + NAMES_PER_PART)
            names = name[subject[part]]
            if object_ is not None and self.object_weight is not None:
                names = names + self.object_weight * name[object_[part]]
            blocks = [names, relation[of_cell[part]]]
            if self.whole is not None and self.texts is not None:
                blocks.append(self.whole(self.texts[part].float()))
            yield rounded(torch.cat(blocks, dim=1))


def rounded(keys: Tensor) -> Tensor:
    """Keys that half precision can hold, in which they are saved: so a loaded model has the same ones."""
    return halved(keys).to(keys.dtype)


def relation_features(relation: str, bits: int, splitting: Splitting) -> list[int]:
    """Hashed features of a relation: its words, its words by position, its parts, and the whole of it."""
    direction = "~" if relation.startswith("~") else ""
    features = [hashed(f"r:id:{relation}", bits), hashed(f"r:direction:{direction}", bits)]
    for position, part in enumerate(reversed(relation_parts(relation))):
        features += _part_features(part, position, direction, bits, splitting)
    return features


@lru_cache(maxsize=1 << 12)
def _part_features(
    part: str, position: int, direction: str, bits: int, splitting: Splitting
) -> tuple[int, ...]:
    """Hashed features of a part of a relation; many relations share a domain and a type."""
    features = [f"r:{position}:{part}"]
    for word in splitting.words(part):
        features += [f"r:{word}", f"r:{position}:{direction}:{word}"]
    return tuple(hashed(feature, bits) for feature in features)
