"""A softmax over the facts of the keyword filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmn._native import best_of
from hmn.facts.table import FactTable
from hmn.nn.memory.stored import Memory
from hmn.paper.network.attention.keyword_filter import KeywordFilter
from hmn.paper.network.attention.loss import candidate_nll, cells_to_add
from hmn.paper.network.question_words import Asked
from hmn.qa.cells import Cells
from hmn.results import SearchResult


class KeywordAttention:
    """A softmax over the facts that share a rare n-gram with any question of the batch.

    At test time each question looks at its own facts alone; without any it finds nothing.

    Args:
        memory: the fixed cells.
        facts: the table.
        cells: facts that the cells stand for.
    """

    def __init__(self, memory: Memory, facts: FactTable, cells: Cells) -> None:
        self._memory, self._cells, self._filter = memory, cells, KeywordFilter(facts)
        self._known: dict[str, NDArray[np.int32]] = {}

    def loss(
        self,
        query: Tensor,
        asked: Asked,
        numbers: NDArray[np.int64],
        generator: torch.Generator,  # noqa: ARG002 - the protocol's signature
    ) -> tuple[Tensor, int]:
        """See ``Attention.loss``."""
        keys = self._memory.keys
        fact = np.unique(np.concatenate([self._facts_of(asked.text[number]) for number in numbers]))
        shared = torch.from_numpy(self._cells.of_fact.take(fact.astype(np.int64)).flat)
        target = cells_to_add(query, keys, asked, numbers)  # (T,)
        cell = torch.unique(torch.cat([shared.to(query.device), target]))  # (C,)
        return candidate_nll(query, keys, cell, asked, numbers), len(cell)

    def search(self, query: Tensor, texts: Sequence[str], k: int) -> SearchResult:
        """See ``Attention.search``; reads count the keys alone."""
        facts = self._filter.facts_for(texts)
        rows = [
            torch.from_numpy(np.unique(self._cells.of_fact.take(facts.row(row)).flat))
            for row in range(len(texts))
        ]
        candidate = pad_sequence(rows, batch_first=True, padding_value=-1).to(query.device)  # (B, C)
        score, cell = best_of(query, self._memory.snapshot(), candidate, k)  # (B, k) each
        scored = (candidate >= 0).sum(dim=1)  # (B,)
        return SearchResult(score, cell, scored.float(), scored)

    def tune(self, query: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """See ``Attention.tune``: nothing to tune."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See ``Attention.state``: none."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """See ``Attention.load``."""

    def coverage(self, texts: Sequence[str], fact: NDArray[np.int64]) -> float:
        """Share of questions whose fact ``(Q,)`` has a cell among their candidates."""
        facts = self._filter.facts_for(texts)
        covered = 0
        for row, number in enumerate(fact.tolist()):
            candidates = self._cells.of_fact.take(facts.row(row)).flat
            covered += bool(np.isin(self._cells.of_fact.row(number), candidates).any())
        return covered / max(1, len(texts))

    def _facts_of(self, text: str) -> NDArray[np.int32]:
        """Facts of a training question, kept because every epoch asks it again."""
        if text not in self._known:
            self._known[text] = self._filter.facts_for([text]).flat.astype(np.int32)
        return self._known[text]
