"""What a training step must know of its questions: the right cells, and those neither right nor wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmn.qa.cells import Cells
from hmn.qa.facts import FactTable
from hmn.qa.questions import QuestionSet
from hmn.qa.text import Ragged

MOST_ADDED = 32
"""Of a question with more right cells than this, only the best are added to the candidates."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Right and ignored cells of Q questions.

    Attributes:
        right: Q rows; the cells of the question's fact, or of all facts that give a right answer.
        ignored: Q rows; cells of other facts of the same subject and relation, which are as right.
    """

    right: Ragged
    ignored: Ragged

    @classmethod
    def of(cls, questions: QuestionSet, facts: FactTable, cells: Cells) -> Targets:
        """Find the cells of each question."""
        right, ignored = [], []
        nothing = np.zeros(0, np.int64)
        for number, gold in enumerate(questions.cell):
            if gold >= 0 and cells.object is None:
                # the facts of one subject and relation read the same, so they share their cells
                right.append(cells.of_fact.row(int(gold)))
                ignored.append(nothing)
                continue
            answering = np.unique(cells.of_fact.take(questions.right_cells(facts, number)).flat)
            right.append(answering if gold < 0 else cells.of_fact.row(int(gold)))
            ignored.append(np.setdiff1d(answering, right[-1]))
        return cls(Ragged.of(right), Ragged.of(ignored))

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


def _mask(wanted: Ragged, cells: Tensor) -> Tensor:
    known = cells.cpu().numpy()
    row = np.repeat(np.arange(wanted.rows), wanted.length)
    place = np.minimum(np.searchsorted(known, wanted.flat), len(known) - 1)
    held = known[place] == wanted.flat
    mask = torch.zeros(wanted.rows, len(known), dtype=torch.bool)
    mask[torch.from_numpy(row[held]), torch.from_numpy(place[held])] = True
    return mask.to(cells.device)
