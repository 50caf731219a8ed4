"""The encoder of questions: from words to queries."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.qa.config import ModelConfig
from hmn.qa.encoders.fact import MEANING_SCALE, Meaning
from hmn.qa.encoders.tables import NameTable, WordTable, tensors, within_text
from hmn.qa.text import TWO_WORDS, WordBags


class Phrasing(nn.Module):
    """Reads each word of a question in context with a GRU that is trained from scratch.

    Args:
        config: Sizes of the model.

    Attributes:
        features: Features of a word's vector, H.
        sentence: Number of these features that a pretrained encoder gives: none here.
    """

    sentence = 0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.word_features
        self.gru = nn.GRU(size + 1, config.hidden, batch_first=True, bidirectional=True)
        self.dropout = config.dropout
        self.features = 2 * config.hidden + size + 1

    def forward(self, bags: WordBags, word: Tensor) -> Tensor:
        """Vectors ``(B, T, H)`` of words in context; positions past a question's end hold anything.

        Args:
            bags: B questions of at most T words, W words in all.
            word: ``(W, size + 1)`` vectors of the words out of context, and how rare each is among the names.
        """
        length = torch.from_numpy(bags.length)  # (B,), on the CPU, where packing needs it
        word = F.dropout(word, self.dropout, self.training)
        padded = word.new_zeros(len(length), int(length.max()), word.shape[1])  # (B, T, size + 1)
        padded[within_text(length).to(word.device)] = word
        packed = nn.utils.rnn.pack_padded_sequence(padded, length, batch_first=True, enforce_sorted=False)
        read, _ = self.gru(packed)
        read = read._replace(data=F.dropout(read.data, self.dropout, self.training))
        context, _ = nn.utils.rnn.pad_packed_sequence(read, batch_first=True)  # (B, T, 2 * hidden)
        return torch.cat([context, padded], dim=2)


class WordsRead(NamedTuple):
    """B questions of at most T words, W in all, after their words were read in context.

    Attributes:
        name: ``(B, L)`` block of names, from the gated words.
        word: ``(W, size)`` vectors of the words out of context.
        context: ``(B, T, H)`` vectors of the words in context; past a question's end they are anything.
        within: ``(B, T)`` mask of the positions that hold a word.
        gate: ``(W,)`` how likely each word belongs to the subject's name.
        length: ``(B,)`` number of words.
    """

    name: Tensor
    word: Tensor
    context: Tensor
    within: Tensor
    gate: Tensor
    length: Tensor

    @property
    def masked(self) -> Tensor:
        """``(B, T, H)`` vectors of the words in context, 0 past a question's end."""
        return self.context.masked_fill(~self.within.unsqueeze(2), 0)


class QuestionEncoder(nn.Module):
    """The input module: encodes questions as queries.

    Each word in context gets a gate (how likely it belongs to the subject's name) and a share in the
    question's phrasing. Gated words are looked up as names are; the phrasing becomes the relation block.

    Args:
        config: Sizes of the model.
        table: Table of names, shared with the cell encoder.
        words: Vectors of words, shared with the cell encoder.
        phrasing: Module that gives each word a vector in context; see ``Phrasing``.
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
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.name_scale)))
        self.meaning = Meaning(sentence, config) if sentence else None
        self.meaning_scale = nn.Parameter(torch.tensor(math.log(MEANING_SCALE))) if sentence else None

    def forward(self, bags: WordBags) -> Tensor:
        """Queries ``(B, L + R)`` of B questions; ``(B, L + R + M)`` with a pretrained encoder."""
        return self.encode(bags)[0]

    def encode(self, bags: WordBags) -> tuple[Tensor, WordsRead]:
        """Queries of B questions, as ``forward`` gives them, and the words as they were read."""
        # 1. Read the words in context; the gated words make the block of names.
        # 2. The phrasing, and the words outside the name, make the relation block.
        read = self.read(bags)
        share = self.share(read.context).squeeze(2).masked_fill(~read.within, -torch.inf).softmax(dim=1)
        relation = self.relation(self.phrased(read, share))  # (B, R)
        relation = relation + self.match_scale * self.matched(read, 1 - read.gate)
        return torch.cat([read.name, relation, *self.meanings(read)], dim=1), read

    def read(self, bags: WordBags) -> WordsRead:
        """Read the words in context: each gets a gate, and the gated words are looked up as names are."""
        feature, start, length, kind, pair = tensors(
            self.log_scale.device, bags.feature.flat, bags.feature.start, bags.length, bags.kind, bags.pair
        )
        word = self.words(bags)  # (W, size)
        rarity = self.table.rarity(feature[start[:-1]]) / 5  # (W,)
        context = self.phrasing(bags, torch.cat([word, rarity.unsqueeze(1)], dim=1))  # (B, T, H)
        within = within_text(length)
        gate = torch.sigmoid(self.gate(context).squeeze(2))[within]  # (W,)
        begin = torch.cat([length.new_zeros(1), length.cumsum(0)])  # (B + 1,)
        name = self.table(feature, kind, start[begin[:-1]], gate.repeat_interleave(start.diff()))
        name = F.normalize(name + self._pairs(pair, begin, gate), dim=1) * self.log_scale.exp()  # (B, L)
        return WordsRead(name, word, context, within, gate, length)

    def matched(self, read: WordsRead, weight: Tensor) -> Tensor:
        """What the words of each question, weighted by ``(W,)``, add to its relation block: ``(B, R)``."""
        text = torch.repeat_interleave(read.length)  # (W,)
        return self.words.matching(read.word, weight, text, len(read.length))

    def meanings(self, read: WordsRead) -> list[Tensor]:
        """The block of meanings ``(B, M)``, if there is a pretrained encoder."""
        if self.meaning is None or self.meaning_scale is None:
            return []
        mean = read.masked[:, :, : self.meaning.sentence].sum(dim=1) / read.length.unsqueeze(1)
        return [self.meaning(mean) * self.meaning_scale.exp()]

    def phrased(self, read: WordsRead, share: Tensor) -> Tensor:
        """Mean vectors ``(B, 2 * H)``: of all words by share ``(B, T)``, and of those outside the name."""
        other = torch.zeros_like(share)
        other[read.within] = 1 - read.gate
        other = other / other.sum(dim=1, keepdim=True).clamp(min=1e-3)
        weight = torch.stack([share, other], dim=1)  # (B, 2, T)
        return (weight @ read.masked).flatten(1)

    def _pairs(self, pair: Tensor, begin: Tensor, gate: Tensor) -> Tensor:
        """Sum ``(B, L)`` of the word pairs of each question, each gated by both of its words."""
        second = torch.ones_like(gate, dtype=torch.bool)  # (W,), true at the second word of a pair
        second[begin[:-1]] = False
        both = (gate * gate.roll(1))[second]  # (W - B,)
        start = begin[:-1] - torch.arange(len(begin) - 1, device=gate.device)
        looked_up: Tensor = self.table(pair, torch.full_like(pair, TWO_WORDS), start, both)
        return looked_up
