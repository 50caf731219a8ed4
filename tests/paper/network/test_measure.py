from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.paper.made import made_keys

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.structures.exact import ExactIndex
from hmn.paper.cells.fixed import one_per_fact
from hmn.paper.network.measure import index_search, measure
from hmn.paper.network.question_hits import unpacked
from hmn.results import SearchResult


@pytest.fixture(scope="module")
def table() -> FactTable:
    """Two or three objects for each subject and relation."""
    return FactTable.from_triples((f"s{number % 13}", f"r{number % 2}", f"o{number}") for number in range(70))


def test_accuracies_and_recall_are_those_of_a_count_by_hand(table: FactTable) -> None:
    keys = made_keys(table)
    keys[20] = keys[41]  # a tie, of which each gets half
    generator = torch.Generator().manual_seed(3)
    gold = torch.randint(len(table), (300,), generator=generator)
    gold[:4] = torch.tensor([20, 41, 20, 41])
    query = keys[gold] + 0.6 * torch.randn(300, keys.shape[1], generator=generator) * (gold != 20).unsqueeze(
        1
    )
    query[:4] = keys[20]
    questions = QuestionSet.from_rows(table, [(*table.fact(int(cell))[:3], "who") for cell in gold])
    exact = ExactIndex(keys)

    def some(numbers: NDArray[np.int64], asked: torch.Tensor) -> SearchResult:  # noqa: ARG001
        """Finds six of the ten best, the best among them."""
        found = exact.search(asked, 10)
        cell, score = found.cell.clone(), found.score.clone()
        cell[:, 6:], score[:, 6:] = -1, -torch.inf
        return SearchResult(score, cell, found.reads / 2, found.cells_scored)

    def encode(numbers: NDArray[np.int64]) -> torch.Tensor:
        return query[numbers]

    fact = pair = 0.0
    for row in range(300):
        score = (query[row] @ keys.T).double()
        best = [cell for cell in range(len(table)) if score[cell] >= score.max() - 1e-6 * score.max().abs()]
        fact += sum(cell == int(gold[row]) for cell in best) / len(best)
        pair += sum(table.pair[cell] == table.pair[gold[row]] for cell in best) / len(best)
    cells = one_per_fact(table)
    found = measure(some, encode, table, cells, questions, exact=exact, recall_on=260)
    assert found.questions == 300
    assert found.fact == pytest.approx(fact / 300)
    assert found.pair == pytest.approx(pair / 300)
    assert 0 < found.fact < found.pair < 1
    hits = unpacked(found.hits["fact"])
    assert len(hits) == 300
    assert hits[:4].tolist() == [0.5, 0.5, 0.5, 0.5]
    assert float(hits.mean()) == pytest.approx(found.fact)
    assert float(unpacked(found.hits["pair"]).mean()) == pytest.approx(found.pair, abs=1e-3)
    assert found.cells_scored == len(table)
    assert found.recall == pytest.approx(0.6, abs=0.002), "a tied cell may stand in for another"
    assert found.reads == len(table) / 2
    whole = measure(index_search(exact), encode, table, cells, questions)
    assert (whole.fact, whole.reads, whole.recall) == (found.fact, len(table), None)


def test_a_question_that_finds_nothing_counts_as_wrong(table: FactTable) -> None:
    def nothing(numbers: NDArray[np.int64], asked: torch.Tensor) -> SearchResult:  # noqa: ARG001
        size = (len(numbers), 10)
        zero = torch.zeros(len(numbers))
        return SearchResult(
            torch.full(size, -torch.inf), torch.full(size, -1, dtype=torch.int64), zero, zero.long()
        )

    questions = QuestionSet.from_rows(table, [(*table.fact(3)[:3], "who")])
    found = measure(
        nothing, lambda numbers: torch.zeros(len(numbers), 48), table, one_per_fact(table), questions
    )
    assert (found.fact, found.pair, found.reads) == (0.0, 0.0, 0.0)
