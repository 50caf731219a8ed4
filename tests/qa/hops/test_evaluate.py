from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.hops.answers import HopAnswers
from hmn.qa.hops.beam import Beam
from hmn.qa.hops.evaluate import evaluate_chains
from hmn.qa.hops.graph import Graph
from hmn.qa.hops.reader import Chains
from hmn.qa.metrics import Evaluation, Outcome

FACTS = FactTable.from_triples([("a", "r", "x"), ("a", "r", "y"), ("a", "s", "z"), ("b", "r", "z")])


def figures(
    rows: list[tuple[str, list[str]]], weights: dict[str, float], outcomes: list[Outcome] | None = None
) -> Evaluation:
    """Figures where every question reads the facts of "a" with the given weights."""
    questions = QuestionSet.from_rows(FACTS, rows)
    graph = Graph(FACTS, Cells.of(FACTS))
    fact = np.flatnonzero(FACTS.subject == FACTS.entity_number("a"))
    weight = torch.tensor([weights[FACTS.fact(int(number)).object] for number in fact])

    def read(numbers: NDArray[np.int64]) -> Chains:
        question = np.repeat(np.arange(len(numbers)), len(fact))
        source, start = np.full(len(question), -1), np.full(len(question), FACTS.entity_number("a"))
        repeated = np.tile(fact, len(numbers))
        beam = Beam.along(graph, question, start, source, repeated, weight.repeat(len(numbers)))
        return Chains((beam,), torch.ones(len(numbers), 1), np.full((len(numbers), 1), 7.0))

    return evaluate_chains(read, HopAnswers(FACTS), questions, k=2, outcomes=outcomes)


@pytest.mark.parametrize(
    ("answers", "weights", "accuracy", "mrr", "recall"),
    [
        (["x", "y"], {"x": 0.4, "y": 0.4, "z": 0.2}, 1.0, 1.0, 1.0),
        (["x"], {"x": 0.4, "y": 0.4, "z": 0.2}, 0.5, 0.75, 1.0),  # x and y tie
        (["x"], {"x": 0.3, "y": 0.5, "z": 0.2}, 0.0, 0.5, 1.0),
        (["z"], {"x": 0.3, "y": 0.3, "z": 0.4}, 0.0, 1 / 3, 0.0),  # the reading of x and y is more probable
        (["z"], {"x": 0.1, "y": 0.1, "z": 0.8}, 1.0, 1.0, 1.0),
    ],
)
def test_figures(
    answers: list[str], weights: dict[str, float], accuracy: float, mrr: float, recall: float
) -> None:
    found = figures([("q", answers)], weights)
    assert found.answer_accuracy == pytest.approx(accuracy)
    assert found.mrr == pytest.approx(mrr)
    assert found.recall_at_k == pytest.approx(recall)
    assert found.pair_accuracy is None
    assert (found.reads, found.hop_reads, found.questions) == (7.0, (7.0,), 1)


def test_known_facts_give_pairs_and_facts() -> None:
    weights = {"x": 0.4, "y": 0.4, "z": 0.2}
    outcomes: list[Outcome] = []
    found = figures([("a", "r", "x", "q"), ("a", "s", "z", "q")], weights, outcomes)  # type: ignore[list-item]
    assert (found.fact_accuracy, found.pair_accuracy, found.answer_accuracy) == (0.25, 0.5, 0.5)
    assert [outcome.pair for outcome in outcomes] == [1.0, 0.0]


def test_more_questions_than_a_batch() -> None:
    rows = [("q", ["x", "y"] if number % 3 else ["z"]) for number in range(300)]
    assert figures(rows, {"x": 0.4, "y": 0.4, "z": 0.2}).answer_accuracy == pytest.approx(2 / 3)
