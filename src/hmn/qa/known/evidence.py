"""Evidence on whether the answer to a question is in the table: how well the best cells fit it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hmn.nn.memory.encoded import EncodedMemory
from hmn.qa.encoders.fact import FactEncoder
from hmn.qa.encoders.question import QuestionEncoder, WordsRead
from hmn.qa.encoders.tables import tensors
from hmn.qa.known.seen_words import SeenWords
from hmn.qa.text import WordBags, bags_of

SMALLEST = 1e-6
"""Lower limit of weights before their logarithm is taken."""
NO_FIT = -1e4
"""Inner product with the vector of a relation that is not there."""
LEAST_LIKELY = -30.0
"""Lower limit of the logarithm of how likely a relation is."""


class Asked(NamedTuple):
    """B questions after they were encoded.

    Attributes:
        bags: their words.
        words: the words as they were read in context.
        query: ``(B, D)`` queries of the first hop.
    """

    bags: WordBags
    words: WordsRead
    query: Tensor


class Evidence:
    """Figures on how well the best cells fit a question.

    A best cell always exists, so its share of attention says little. Here its name and its relation are
    compared with the question each on its own: with all relations of the table, not only those of the cells
    that were read, and word by word with the name.

    Args:
        encoder: the encoder of questions.
        memory: the memory.

    Attributes:
        seen: the words of the training questions.
    """

    def __init__(self, encoder: QuestionEncoder, memory: EncodedMemory) -> None:
        assert isinstance(memory.encoder, FactEncoder)
        self.encoder, self.memory, self.facts = encoder, memory, memory.encoder
        self._relations: Tensor | None = None
        self.seen = SeenWords()

    @property
    def size(self) -> int:
        """Number of figures per question, E."""
        return 33 if self.encoder.meaning_scale is None else 34

    @property
    def relations(self) -> Tensor:
        """Vectors ``(relations, R)`` of all relations, encoded again if some came."""
        count = self.facts.num_relations
        if self._relations is None or len(self._relations) != count:
            self._relations = self.facts.encode_relations(np.arange(count))
        return self._relations

    def __call__(self, asked: Asked, cell: Tensor, weight: Tensor, lacking: Tensor | None = None) -> Tensor:
        """Evidence ``(B, E)`` of B questions.

        Args:
            asked: the questions.
            cell: ``(B, K)`` the cells that were read, best first; -1 in unused places.
            weight: ``(B, K)`` their weights.
            lacking: ``(B, relations)`` mask of relations that the table is supposed not to have.
        """
        # 1. Compare the names of the cells with that of the question, as cosines.
        # 2. Compare their relations with all relations there are.
        # 3. See how the attention is shared, and which words are left over.
        names, relations = self.encoder.table.weight.shape[1], self.relations
        keys = self.memory.snapshot_of(cell.clamp(min=0))  # (B, K, D)
        products = keys.masked_fill((cell < 0).unsqueeze(2), 0.0) * asked.query.unsqueeze(1)
        name, _, meaning = (
            part.sum(dim=2) for part in products.tensor_split([names, names + relations.shape[1]], dim=2)
        )
        name = name / self.encoder.log_scale.exp()  # (B, K)

        fit = asked.query[:, names : names + relations.shape[1]] @ relations.T  # (B, relations)
        if lacking is not None:
            fit = fit.masked_fill(lacking, NO_FIT)
        likely = fit.log_softmax(dim=1)
        relation = torch.from_numpy(self.facts.cells.relation[cell.clamp(min=0).cpu().numpy()])
        own = likely.gather(1, relation.to(cell.device))  # (B, K)
        own = own.where(cell >= 0, likely.amin(dim=1, keepdim=True))

        next_likely = F.pad(likely, (0, 2), value=LEAST_LIKELY).topk(3, dim=1).values[:, 1:]
        read = asked.words
        by_words = self.encoder.match_scale * self.encoder.matched(read, 1 - read.gate) @ relations.T
        share = weight[:, 0].clamp(SMALLEST, 1 - SMALLEST)
        columns = [
            name[:, 0],
            name.amax(dim=1),
            (weight * name).sum(dim=1),
            own[:, 0],
            own.amax(dim=1),
            (weight * own).sum(dim=1),
            likely.amax(dim=1),
            fit.amax(dim=1) / 10,
            share,
            share.log(),
            (1 - share).log(),
            products[:, 0].sum(dim=1) / 20,
            *next_likely.clamp(min=LEAST_LIKELY).unbind(dim=1),
            -(likely.exp() * likely).sum(dim=1),
            asked.query[:, names : names + relations.shape[1]].norm(dim=1) / 10,
            by_words.gather(1, relation[:, :1].to(cell.device)).squeeze(1),
            by_words.amax(dim=1),
        ]
        if self.encoder.meaning_scale is not None:
            columns.append(meaning[:, 0] / self.encoder.meaning_scale.exp())
        return torch.cat([torch.stack(columns, dim=1), self._words(asked, cell[:, 0])], dim=1)

    def _words(self, asked: Asked, cell: Tensor) -> Tensor:
        """How far the words of the question and of the best cell's name cover each other: ``(B, 15)``.

        A word counts by how rare it is among the names; one of the question also by its gate, which is how
        likely it belongs to a name. Questions of two facts have words left over, and often two names.
        """
        length, gate = asked.bags.length, asked.words.gate
        text = np.repeat(np.arange(len(length)), length)  # (W,)
        word = _whole(asked.bags)
        name, named = self._name_words(cell)
        rare = self.encoder.table.rarity(torch.from_numpy(word).to(gate.device))  # (W,)
        name_rare = self.encoder.table.rarity(torch.from_numpy(name).to(gate.device))
        # features are hashed into the counts, of which there may be more than rows of the table
        features = len(self.encoder.table.document_frequency)
        missing = ~np.isin(text * features + word, named * features + name)
        unasked = ~np.isin(named * features + name, text * features + word)
        weight = gate * rare  # (W,)
        left = weight * torch.from_numpy(missing).to(weight)
        name_left = name_rare * torch.from_numpy(unasked).to(weight)
        of_text, of_name = tensors(gate.device, text, named)

        def summed(values: Tensor, group: Tensor) -> Tensor:
            return values.new_zeros(len(length)).index_add(0, group, values)

        def largest(values: Tensor) -> Tensor:
            return values.new_zeros(len(length)).scatter_reduce(0, of_text, values, "amax")

        asked_for, uncovered = summed(weight, of_text), summed(left, of_text)
        in_name, unnamed = summed(name_rare, of_name), summed(name_left, of_name)
        count = torch.from_numpy(np.bincount(named, minlength=len(length))).to(gate)
        length_of = tensors(gate.device, length)[0].to(gate)
        goes_on = of_text == F.pad(of_text[:-1], (1, 0), value=-1)
        before = F.pad(gate[:-1], (1, 0)) * goes_on  # (W,), 0 before a question's first word
        plain = self.facts.splitting.plain
        unseen = self.seen.unseen(map(plain, words) for words in asked.bags.words)
        strange = (1 - gate) * torch.from_numpy(unseen).to(gate)
        columns = [
            uncovered / (asked_for + 1e-3),
            unnamed / (in_name + 1e-3),
            largest(left) / 8,
            uncovered / 8,
            unnamed / 8,
            summed(gate, of_text) / 5,
            largest(gate),
            in_name / 20,
            count / 4,
            length_of / 10,
            summed(1 - gate, of_text) / 10,
            summed((gate - before).clamp(min=0), of_text),  # number of names, as far as gates tell
            summed(gate * (1 - gate), of_text),
            summed(strange, of_text),
            largest(strange),
        ]
        return torch.stack(columns, dim=1)

    def _name_words(self, cell: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hashed words of the names of cells ``(B,)``, and the row of each."""
        row = np.flatnonzero(cell.cpu().numpy() >= 0)
        chosen = self.facts.cells.subject[cell.cpu().numpy()[row]]
        spelled = [self.facts.cells.names[name] for name in chosen]
        bags = bags_of(spelled, self.facts.bits, self.facts.splitting)
        return _whole(bags), np.repeat(row, bags.length)


def _whole(bags: WordBags) -> NDArray[np.int64]:
    """``(W,)`` hashed features of the whole words."""
    return bags.feature.flat[bags.feature.start[:-1]]
