"""The two encoders of the text memory: questions into queries, cells into keys.

Query and key have two blocks of features. In the first the words of the question meet the words of the
subject's name: both sides share one table of hashed words, n-grams and pairs of words. In the second the
question's phrasing meets the relation. With a pretrained reader there is a third, in which the whole question
meets the whole text of the cell. An inner product adds them.
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
from hmn.qa.tables import NameTable, WordTable, bag, tensors, within_text
from hmn.qa.text import TWO_WORDS, Ragged, TextBags, Texts, WordBags, hashed, words

NAMES_A_PART = 8192
MEANING_SCALE = 10.0


class Phrasing(nn.Module):
    """Reads a question word by word in context, from scratch: hashed word and n-gram vectors and a GRU.

    Args:
        config: sizes.

    Attributes:
        features: features of a word's vector, H.
        sentence: how many of these a pretrained reader gives; none here.
    """

    sentence = 0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.word_features
        self.gru = nn.GRU(size + 1, config.hidden, batch_first=True, bidirectional=True)
        self.dropout = config.dropout
        self.features = 2 * config.hidden + size + 1

    def forward(self, bags: WordBags, word: Tensor) -> Tensor:
        """Vectors ``(B, T, H)`` of words in context; places past a question's end hold anything.

        Args:
            bags: B questions of at most T words, W words in all.
            word: ``(W, size + 1)`` vectors of the words out of context, and how rare each is among the names.
        """
        length = torch.from_numpy(bags.length)  # stays on the CPU, where packing wants it
        word = F.dropout(word, self.dropout, self.training)
        padded = word.new_zeros(len(length), int(length.max()), word.shape[1])
        padded[within_text(length).to(word.device)] = word
        packed = nn.utils.rnn.pack_padded_sequence(padded, length, batch_first=True, enforce_sorted=False)
        read, _ = self.gru(packed)
        read = read._replace(data=F.dropout(read.data, self.dropout, self.training))
        context, _ = nn.utils.rnn.pad_packed_sequence(read, batch_first=True)
        return torch.cat([context, padded], dim=2)


class QuestionEncoder(nn.Module):
    """The input module: questions into queries.

    Each word in context gets a gate, how likely it belongs to the subject's name, and a share in the
    question's phrasing; gated words are looked up as names are, the phrasing becomes the relation block.

    Args:
        config: sizes.
        table: the table of names, shared with the cell encoder.
        words: vectors of words, shared with the cell encoder.
        phrasing: a module that gives each word a vector in context (see ``Phrasing``).
    """

    def __init__(self, config: ModelConfig, table: NameTable, words: WordTable, phrasing: nn.Module) -> None:
        super().__init__()
        self.table, self.words, self.phrasing = table, words, phrasing
        features, sentence = int(phrasing.features), int(phrasing.sentence)  # type: ignore[arg-type]
        self.gate, self.share = nn.Linear(features, 1), nn.Linear(features, 1)
        self.relation = nn.Sequential(
            nn.Linear(2 * features, 2 * config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * config.hidden, config.relation_features),
        )
        self.match_scale = nn.Parameter(torch.tensor(3.0))
        self.log_scale = nn.Parameter(torch.tensor(float(config.name_scale)).log())
        self.meaning = Meaning(sentence, config) if sentence else None
        self.meaning_scale = nn.Parameter(torch.tensor(MEANING_SCALE).log()) if sentence else None

    def forward(self, bags: WordBags) -> Tensor:
        """Queries ``(B, L + R)`` of B questions; ``(B, L + R + M)`` with a pretrained reader."""
        feature, start, length, kind, pair = tensors(
            self.log_scale.device, bags.feature.flat, bags.feature.start, bags.length, bags.kind, bags.pair
        )
        word = self.words(bags)  # (W, size)
        rarity = self.table.rarity(feature[start[:-1]]) / 5
        context = self.phrasing(bags, torch.cat([word, rarity.unsqueeze(1)], dim=1))  # (B, T, H)
        within = within_text(length)
        gate = torch.sigmoid(self.gate(context).squeeze(2))[within]  # (W,)
        share = self.share(context).squeeze(2).masked_fill(~within, -torch.inf).softmax(dim=1)
        relation = self.relation(self._phrasing(context, within, share, gate))
        text = torch.repeat_interleave(length)
        matched = self.words.matching(word, 1 - gate, text, len(length))
        relation = relation + self.match_scale * matched
        begin = torch.cat([length.new_zeros(1), length.cumsum(0)])
        name = self.table(feature, kind, start[begin[:-1]], gate.repeat_interleave(start.diff()))
        name = name + self._pairs(pair, begin, gate)
        blocks = [F.normalize(name, dim=1) * self.log_scale.exp(), relation]
        if self.meaning is not None and self.meaning_scale is not None:
            states = context[:, :, : self.meaning.sentence].masked_fill(~within.unsqueeze(2), 0)
            mean = states.sum(dim=1) / length.unsqueeze(1)
            blocks.append(self.meaning(mean) * self.meaning_scale.exp())
        return torch.cat(blocks, dim=1)

    def _phrasing(self, context: Tensor, within: Tensor, share: Tensor, gate: Tensor) -> Tensor:
        """What the words say together, and what those say that are not the name: ``(B, 2 * H)``."""
        context = context.masked_fill(~within.unsqueeze(2), 0)  # (B, T, H)
        other = torch.zeros_like(share)
        other[within] = 1 - gate
        other = other / other.sum(dim=1, keepdim=True).clamp(min=1e-3)
        weight = torch.stack([share, other], dim=1)  # (B, 2, T)
        return (weight @ context).flatten(1)

    def _pairs(self, pair: Tensor, begin: Tensor, gate: Tensor) -> Tensor:
        """Sum of the pairs of words of each question, each gated by both of its words: ``(B, L)``."""
        second = torch.ones_like(gate, dtype=torch.bool)
        second[begin[:-1]] = False
        both = (gate * gate.roll(1))[second]
        start = begin[:-1] - torch.arange(len(begin) - 1, device=gate.device)
        looked_up: Tensor = self.table(pair, torch.full_like(pair, TWO_WORDS), start, both)
        return looked_up


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
        spelled = [" ".join(freebase.relation_parts(relation)) for relation in relations]
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
    parts = freebase.relation_parts(relation)
    direction = "~" if relation.startswith("~") else ""
    features = [f"id:{relation}", f"direction:{direction}"]
    for place, part in enumerate(reversed(parts)):
        features.append(f"{place}:{part}")
        features += [feature for word in words(part) for feature in (word, f"{place}:{direction}:{word}")]
    return [hashed("r:" + feature, bits) for feature in features]
