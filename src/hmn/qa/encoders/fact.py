"""From the names and relations of facts to the keys of their cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.facts.ids import relation_parts
from hmn.facts.ragged import Ragged
from hmn.qa.cells import Cells
from hmn.qa.config import ModelConfig
from hmn.qa.encoders.tables import NameTable, WordTable, bag, tensors
from hmn.qa.text import TextBags, Texts, hashed, words

NAMES_A_PART = 8192
MEANING_SCALE = 10.0


class Meaning(nn.Module):
    """Unit vectors ``(n, M)`` from a pretrained reader's vectors of whole texts ``(n, H)``.

    Args:
        sentence: H.
        config: sizes.
    """

    def __init__(self, sentence: int, config: ModelConfig) -> None:
        super().__init__()
        self.sentence = sentence
        self.project = nn.Linear(sentence, config.meaning_features, bias=False)
        self.dropout = config.dropout
        # questions and cells begin with the same projection, so that what is near for the reader is near here
        if not self.project.weight.is_meta:
            first = torch.randn(sentence, sentence, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                rows = torch.linalg.qr(first).Q[: config.meaning_features]
                self.project.weight[: len(rows)] = rows

    def forward(self, mean: Tensor) -> Tensor:
        """Project and scale to length 1."""
        return F.normalize(self.project(F.dropout(mean, self.dropout, self.training)), dim=1)


class FactEncoder(nn.Module):
    """Cells into keys, from the words of subject name, relation and, as an option, object name.

    Args:
        config: sizes.
        cells: what the cells are.
        relations: the relations' ids; one read backwards begins with ``~``.
        table: the table of names, shared with the question encoder.
        words: vectors of words, shared with the question encoder.
        sentences: ``(relations, H)`` vectors of the relations' texts from a pretrained encoder, if any.
        texts: ``(N, H)`` float16 vectors of the cells' texts from the same.
    """

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
        self.table, self.words, self.cells, self.bits = table, words, cells, config.table_bits
        spelled = [" ".join(relation_parts(relation)) for relation in relations]
        self._relation_words = Texts(spelled, config.table_bits)
        rows = 1 << config.word_bits
        self.word = nn.Parameter(torch.randn(rows, 2 * config.relation_features) * 0.2)
        # what training learns of a relation beyond its words
        self.own = nn.Parameter(torch.zeros(len(relations), config.relation_features))
        self.relation = nn.Linear(2 * config.relation_features, config.relation_features)
        self.object_weight = nn.Parameter(torch.tensor(0.2)) if cells.object is not None else None
        self.register_buffer("sentences", sentences)
        self.meaning = None if sentences is None else nn.Linear(sentences.shape[1], config.relation_features)
        self.register_buffer("texts", texts)
        self.whole = None if texts is None else Meaning(texts.shape[1], config)
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
        """Keys ``(C, L + R)`` of cells ``(C,)``; ``(C, L + R + M)`` with a pretrained reader."""
        chosen, device = cells.cpu().numpy(), self.word.device
        name, name_at = np.unique(self.cells.subject[chosen], return_inverse=True)
        relation, relation_at = np.unique(self.cells.relation[chosen], return_inverse=True)
        of_name, of_relation = tensors(device, name_at, relation_at)
        block = self.encode_names(name)[of_name]
        if self.cells.object is not None and self.object_weight is not None:
            other, other_at = np.unique(self.cells.object[chosen], return_inverse=True)
            block = block + self.object_weight * self.encode_names(other)[tensors(device, other_at)[0]]
        blocks = [block, self.encode_relations(relation)[of_relation]]
        if self.whole is not None and self.texts is not None:
            blocks.append(self.whole(self.texts[cells.to(device)].float()))
        return torch.cat(blocks, dim=1)

    def encode_names(self, names: NDArray[np.int64]) -> Tensor:
        """Unit vectors ``(n, L)`` of names."""
        bags: TextBags = self.names.text_bags(names)
        feature, kind, start = tensors(
            self.word.device, bags.feature.flat, bags.kind, bags.feature.start[:-1]
        )
        return F.normalize(self.table(feature, kind, start), dim=1)

    def encode_relations(self, relations: NDArray[np.int64]) -> Tensor:
        """Vectors ``(n, R)`` of relations, from their words."""
        bags = self._relation_bags.take(relations)
        feature, start = tensors(self.word.device, bags.flat, bags.start[:-1])
        summed = bag(feature, start, self.word, sparse=self.table.sparse)
        number, length = tensors(summed.device, relations, bags.length)
        encoded: Tensor = self.relation(summed / length.sqrt().unsqueeze(1)) + self.own[number]
        spelled = self._relation_words.word_bags(relations)
        text = torch.repeat_interleave(tensors(summed.device, spelled.length)[0])
        one = summed.new_ones(len(text))
        encoded = encoded + self.words.matching(self.words(spelled), one, text, len(relations))
        if self.meaning is not None and self.sentences is not None:
            encoded = encoded + self.meaning(self.sentences[number])
        return encoded

    @torch.no_grad()
    def all_keys(self) -> Iterator[Tensor]:
        """Keys of all cells in order, in parts; each name and each relation is encoded once."""
        count = len(self.cells.names)
        parts = (np.arange(at, min(at + NAMES_A_PART, count)) for at in range(0, count, NAMES_A_PART))
        name = torch.cat([self.encode_names(part) for part in parts])
        relation = self.encode_relations(np.arange(self._relation_bags.rows))
        subject, of_cell = tensors(name.device, self.cells.subject, self.cells.relation)
        other = None if self.cells.object is None else tensors(name.device, self.cells.object)[0]
        for at in range(0, len(self.cells), NAMES_A_PART):
            part = slice(at, at + NAMES_A_PART)
            block = name[subject[part]]
            if other is not None and self.object_weight is not None:
                block = block + self.object_weight * name[other[part]]
            blocks = [block, relation[of_cell[part]]]
            if self.whole is not None and self.texts is not None:
                blocks.append(self.whole(self.texts[part].float()))
            yield torch.cat(blocks, dim=1)


def relation_features(relation: str, bits: int) -> list[int]:
    """Hashed features of a relation: its words, its words by place, its parts, and itself."""
    parts = relation_parts(relation)
    direction = "~" if relation.startswith("~") else ""
    features = [f"id:{relation}", f"direction:{direction}"]
    for place, part in enumerate(reversed(parts)):
        features.append(f"{place}:{part}")
        features += [feature for word in words(part) for feature in (word, f"{place}:{direction}:{word}")]
    return [hashed("r:" + feature, bits) for feature in features]
