"""Targets of training: the right cells of each question, and the cells that the loss ignores."""

from __future__ import annotations

from collections.abc import Callable
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
"""Maximum number of right cells per question that are added to the candidates."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Right and ignored cells of Q questions.

    Attributes:
        facts: The table.
        cells: The cells of the table.
        right: Q rows of cells: those of the question's fact, or of all facts that give a right answer.
        ignored: Q rows of cells: those of other facts with the same subject and relation. They are as right,
            but the question was not asked about them.
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
        """Targets of a batch in which some questions ask for a subject and relation other than their own.

        Args:
            questions: ``(B,)`` numbers of the questions.
            pair: ``(B,)`` pairs (subject, relation) that they ask for, or -1 for their own. All facts of such
                a pair are right, since nothing is known about the object.
        """
        asked = list(zip(questions.tolist(), pair.tolist(), strict=True))
        right = [self.right.row(number) if other < 0 else self._of_pair(other) for number, other in asked]
        ignored = [
            self.ignored.row(number) if other < 0 else np.zeros(0, np.int64) for number, other in asked
        ]
        return Targets(self.facts, self.cells, Ragged.of(right), Ragged.of(ignored))

    def _of_pair(self, pair: int) -> NDArray[np.int64]:
        return np.unique(self.cells.of_fact.take(self.facts.cells_of_pair(pair)).flat)

    def added(
        self, questions: NDArray[np.int64], query: Tensor, keys_of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Right cells ``(T,)`` that the candidates of a batch must hold, at most ``MOST_ADDED`` per question.

        Args:
            questions: ``(B,)`` numbers of the questions.
            query: ``(B, D)`` queries. If a question has more right cells, those that score best are taken.
            keys_of: gives the keys ``(n, D)`` of cells ``(n,)`` that they are scored with.
        """
        right = self.right.take(questions)
        chosen = []
        for row in range(len(questions)):
            cells = torch.from_numpy(right.row(row)).to(query.device)
            if len(cells) > MOST_ADDED:
                score = keys_of(cells) @ query[row].detach()
                cells = cells[score.topk(MOST_ADDED).indices]
            chosen.append(cells)
        return torch.cat(chosen)

    def masks(self, questions: NDArray[np.int64], cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Masks ``(B, C)`` of the right and of the ignored candidates; None if none are ignored.

        Args:
            questions: ``(B,)`` numbers of the questions.
            cells: ``(C,)`` candidates, ascending.
        """
        right = mask_of(self.right.take(questions), cells)
        ignored = self.ignored.take(questions)
        return right, mask_of(ignored, cells) if len(ignored.flat) else None


def _as_right(facts: FactTable, cells: Cells, fact: int) -> NDArray[np.int64]:
    """Cells of the other facts that share a fact's subject and relation."""
    if fact < 0 or cells.object is None:
        # without objects, the facts of one subject and relation read the same, so they share their cells
        return np.zeros(0, np.int64)
    others = facts.cells_of_pair(int(facts.pair[fact]))
    return np.setdiff1d(cells.of_fact.take(others).flat, cells.of_fact.row(fact))


def mask_of(wanted: Ragged, cells: Tensor) -> Tensor:
    """Mask ``(B, C)`` of the candidates ``(C,)``, ascending, that are in each of the B rows of ``wanted``."""
    candidates = cells.cpu().numpy()
    row = np.repeat(np.arange(wanted.rows), wanted.length)
    column = np.minimum(np.searchsorted(candidates, wanted.flat), len(candidates) - 1)
    held = candidates[column] == wanted.flat
    mask = torch.zeros(wanted.rows, len(candidates), dtype=torch.bool)
    mask[torch.from_numpy(row[held]), torch.from_numpy(column[held])] = True
    return mask.to(cells.device)
