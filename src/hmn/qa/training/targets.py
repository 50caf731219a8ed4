"""What a training step must know of its questions: the right cells, and those neither right nor wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells

MOST_ADDED = 32
"""Of a question with more right cells than this, only the best are added to the candidates."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Right and ignored cells of Q questions.

    Attributes:
        facts, cells: the table and its cells.
        right: Q rows; the cells of the question's fact, or of all facts that give a right answer.
        ignored: Q rows; cells of other facts of the same subject and relation, which are as right.
    """

    facts: FactTable
    cells: Cells
    right: Ragged
    ignored: Ragged

    @classmethod
    def of(cls, questions: QuestionSet, facts: FactTable, cells: Cells) -> Targets:
        """Find the cells of each question."""
        right = [
            np.unique(cells.of_fact.take(questions.right_cells(facts, number)).flat)
            if gold < 0
            else cells.of_fact.row(int(gold))
            for number, gold in enumerate(questions.cell)
        ]
        ignored = [_as_right(facts, cells, int(gold)) for gold in questions.cell]
        return cls(facts, cells, Ragged.of(right), Ragged.of(ignored))

    def asking(self, questions: NDArray[np.int64], pair: NDArray[np.int64]) -> Targets:
        """Targets of a batch in which some questions ask for another subject and relation than their own.

        Args:
            questions: ``(B,)`` numbers; their targets are kept where ``pair`` is -1.
            pair: ``(B,)`` pairs, whose facts are then all right, since nothing is known of the object.
        """
        chosen = list(zip(questions.tolist(), pair.tolist(), strict=True))
        right = [self.right.row(number) if one < 0 else self._of_pair(one) for number, one in chosen]
        ignored = [self.ignored.row(number) if one < 0 else np.zeros(0, np.int64) for number, one in chosen]
        return Targets(self.facts, self.cells, Ragged.of(right), Ragged.of(ignored))

    def _of_pair(self, pair: int) -> NDArray[np.int64]:
        return np.unique(self.cells.of_fact.take(self.facts.cells_of_pair(pair)).flat)

    def added(self, questions: NDArray[np.int64], query: Tensor, snapshot: Tensor) -> Tensor:
        """Right cells ``(T,)`` that the candidates of a batch must hold, at most ``MOST_ADDED`` a question.

        Args:
            questions: ``(B,)`` numbers.
            query: ``(B, D)`` their queries, which choose among more.
            snapshot: ``(N, D)`` keys to choose by.
        """
        right = self.right.take(questions)
        chosen = []
        for row in range(len(questions)):
            cells = torch.from_numpy(right.row(row)).to(snapshot.device)
            if len(cells) > MOST_ADDED:
                score = snapshot[cells] @ query[row].detach()
                cells = cells[score.topk(MOST_ADDED).indices]
            chosen.append(cells)
        return torch.cat(chosen)

    def masks(self, questions: NDArray[np.int64], cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Which candidates are right, and which are ignored (None: none of them).

        Args:
            questions: ``(B,)`` numbers.
            cells: ``(C,)`` candidates, ascending.

        Returns:
            Two ``(B, C)`` bool masks.
        """
        right = _mask(self.right.take(questions), cells)
        ignored = self.ignored.take(questions)
        return right, _mask(ignored, cells) if len(ignored.flat) else None


def _as_right(facts: FactTable, cells: Cells, fact: int) -> NDArray[np.int64]:
    """Cells of the other facts of a fact's subject and relation."""
    if fact < 0 or cells.object is None:
        # without objects the facts of one subject and relation read the same, so they share their cells
        return np.zeros(0, np.int64)
    others = facts.cells_of_pair(int(facts.pair[fact]))
    return np.setdiff1d(cells.of_fact.take(others).flat, cells.of_fact.row(fact))


def _mask(wanted: Ragged, cells: Tensor) -> Tensor:
    known = cells.cpu().numpy()
    row = np.repeat(np.arange(wanted.rows), wanted.length)
    place = np.minimum(np.searchsorted(known, wanted.flat), len(known) - 1)
    held = known[place] == wanted.flat
    mask = torch.zeros(wanted.rows, len(known), dtype=torch.bool)
    mask[torch.from_numpy(row[held]), torch.from_numpy(place[held])] = True
    return mask.to(cells.device)
