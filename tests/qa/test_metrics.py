"""Figures agree with an average over every order in which tied facts can stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.index.structures.exact import ExactIndex
from hmn.qa.cells import Cells
from hmn.qa.metrics import DEPTH, Evaluation, Outcome, evaluate
from hmn.results import SearchResult

quick = settings(max_examples=40, deadline=None)
entity = st.sampled_from([f"e{number}" for number in range(4)])
triples = st.lists(
    st.tuples(entity, st.sampled_from(["r", "s"]), entity), min_size=1, max_size=6, unique=True
)
naming = st.dictionaries(entity, st.lists(st.sampled_from(["Ann", "Bob", "Cy"]), min_size=1, unique=True))
FIGURES = ("fact_accuracy", "pair_accuracy", "answer_accuracy", "mrr", "recall_at_k")


class Shuffled:
    """Exact search over the same cells in another order, so that ties come out another way."""

    def __init__(self, keys: Tensor, seed: int) -> None:
        self.cell = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))
        self.index = ExactIndex(keys[self.cell])

    def __len__(self) -> int:
        return len(self.cell)

    def update(self, keys: Tensor) -> None:
        self.index.build(keys[self.cell])

    def search(self, query: Tensor, k: int) -> SearchResult:
        found = self.index.search(query, k)
        cell = torch.where(found.cell < 0, -1, self.cell[found.cell.clamp(min=0)])
        return found._replace(cell=cell)


def measured(
    facts: FactTable, questions: QuestionSet, keys: Tensor, query: Tensor, k: int, seed: int | None = None
) -> Evaluation:
    index = ExactIndex(keys) if seed is None else Shuffled(keys, seed)
    return evaluate(lambda numbers: query[numbers], index, facts, Cells.of(facts), questions, k=k)


def figures(found: Evaluation) -> list[float | None]:
    return [getattr(found, name) for name in FIGURES]


def by_permutations(
    facts: FactTable, questions: QuestionSet, keys: Tensor, query: Tensor, k: int
) -> list[float | None]:
    """Score every fact by the best of its cells in float64; average over all orders that the scores allow."""
    cells, known = Cells.of(facts), bool((questions.cell >= 0).all())
    scores = query.double().numpy() @ keys.double().numpy().T
    rows = [facts.fact(at) for at in range(len(facts))]
    totals = np.zeros(5)
    for number, score in enumerate(scores):
        of_fact = [max(score[cell] for cell in cells.of_fact.row(at)) for at in range(len(facts))]
        orders = [
            order
            for order in permutations(range(len(facts)))
            if all(of_fact[one] >= of_fact[two] for one, two in pairwise(order))
        ]
        gold = int(questions.cell[number])
        answers = {facts.entities[int(one)].as_py() for one in questions.answers(number)}
        wanted = {gold} if known else {at for at, row in enumerate(rows) if row.object in answers}
        for order in orders:
            best, place = order[0], next(rank for rank, at in enumerate(order) if at in wanted)
            counted = [
                best == gold,
                known and rows[best][:2] == rows[gold][:2],
                rows[best].object in answers,
                1 / (place + 1),
                place < k,
            ]
            totals += np.array(counted, float) / len(orders) / len(scores)
    return [None if at < 2 and not known else float(total) for at, total in enumerate(totals)]


def assert_figures(found: Sequence[float | None], wanted: Sequence[float | None]) -> None:
    for name, one, two in zip(FIGURES, found, wanted, strict=True):
        assert one == (None if two is None else pytest.approx(two, abs=1e-12)), name


@quick
@given(
    triples=triples,
    names=naming,
    known=st.booleans(),
    spread=st.sampled_from([0, 1, 30]),
    k=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_agrees_with_every_order_of_ties(
    triples: list[tuple[str, str, str]],
    names: dict[str, list[str]],
    known: bool,
    spread: int,
    k: int,
    seed: int,
) -> None:
    facts = FactTable.from_triples(triples, names)
    rng = np.random.default_rng(seed)
    asked = [triples[at] for at in rng.integers(len(triples), size=2)]
    rows = [(*row, "q") if known else ("q", [row[2], triples[0][2]]) for row in asked]
    questions = QuestionSet.from_rows(facts, rows)
    keys = torch.from_numpy(rng.integers(-spread, spread + 1, (len(Cells.of(facts)), 2))).float()
    query = torch.from_numpy(rng.integers(-2, 3, (2, 2))).float()
    found = measured(facts, questions, keys, query, k)
    assert_figures(figures(found), by_permutations(facts, questions, keys, query, k))
    assert (found.questions, found.k, found.reads, found.cells_scored) == (2, k, len(keys), len(keys))
    assert_figures(figures(measured(facts, questions, keys, query, k, seed)), figures(found))


def line_of_facts(count: int, asked: int = 3) -> tuple[FactTable, QuestionSet]:
    """Facts with a pair, an object and a cell of their own each; the question asks for number ``asked``."""
    facts = FactTable.from_triples([(f"s{at:04}", "r", f"o{at:04}") for at in range(count)])
    return facts, QuestionSet.from_rows(facts, [(f"s{asked:04}", "r", f"o{asked:04}", "q")])


@pytest.mark.parametrize(("gap", "share"), [(1e-7, 0.5), (1e-5, 0.0)])
@pytest.mark.parametrize("scale", [1.0, 1000.0, -1.0, -1000.0])
def test_scores_within_a_millionth_of_their_size_tie(gap: float, share: float, scale: float) -> None:
    facts, questions = line_of_facts(4, asked=3)
    asked, other = (1.0, 1.0 + gap) if scale > 0 else (1.0 + gap, 1.0)
    keys = scale * torch.tensor([[0.0], [other], [0.0], [asked]])
    keys[[0, 2]] = -1e4
    found = measured(facts, questions, keys, torch.ones(1, 1), 1)
    assert found.fact_accuracy == found.pair_accuracy == found.answer_accuracy == share


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("count", [DEPTH - 1, DEPTH + 1, 3 * DEPTH])
def test_all_tie_deeper_than_the_search(count: int, seed: int | None) -> None:
    facts, questions = line_of_facts(count)
    found = measured(facts, questions, torch.zeros(count, 2), torch.ones(1, 2), 10, seed)
    reciprocal = sum(1 / rank for rank in range(1, min(count, DEPTH) + 1)) / count
    assert_figures(figures(found), [1 / count, 1 / count, 1 / count, reciprocal, 10 / count])


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("above", [1, DEPTH - 1])
def test_a_level_that_reaches_below_the_search_counts_whole(above: int, seed: int | None) -> None:
    """The asked fact ties with more facts than the search sees, below some that are better."""
    count = 3 * DEPTH
    facts, questions = line_of_facts(count, asked=count // 2)
    keys = torch.zeros(count, 1)
    keys[:above, 0] = torch.arange(1.0, above + 1)
    found = measured(facts, questions, keys, torch.ones(1, 1), 10, seed)
    level = count - above
    reciprocal = sum(1 / rank for rank in range(above + 1, DEPTH + 1)) / level
    assert_figures(figures(found), [0.0, 0.0, 0.0, reciprocal, max(0, 10 - above) / level])


def test_many_names_of_one_fact_do_not_push_others_out_of_rank() -> None:
    """Ranks count facts; one fact has more cells here than the search is deep."""
    names = {"a": [f"name {at:03}" for at in range(DEPTH + 5)]}
    facts = FactTable.from_triples([("a", "r", "x"), ("b", "r", "y")], names)
    questions = QuestionSet.from_rows(facts, [("b", "r", "y", "q")])
    cells = Cells.of(facts)
    keys = torch.arange(float(len(cells)), 0.0, -1.0).unsqueeze(1)
    keys[cells.of_fact.row(1)] = 0.5
    found = measured(facts, questions, keys, torch.ones(1, 1), 2)
    assert_figures(figures(found), [0.0, 0.0, 0.0, 0.5, 1.0])


def test_a_fact_that_stands_higher_by_another_name_is_counted_once() -> None:
    facts = FactTable.from_triples([("a", "r", "x"), ("b", "r", "y")], {"a": ["Ann", "Annie"]})
    questions = QuestionSet.from_rows(facts, [("b", "r", "y", "q")])
    cells = Cells.of(facts)
    keys = torch.ones(3, 1)
    keys[cells.names.index("ann")] = 2.0
    found = measured(facts, questions, keys, torch.ones(1, 1), 2)
    assert_figures(figures(found), [0.0, 0.0, 0.0, 0.5, 1.0])


def test_more_questions_than_a_batch_and_their_outcomes() -> None:
    facts, _ = line_of_facts(5)
    asked = [int(at) for at in np.random.default_rng(0).integers(5, size=600)]
    questions = QuestionSet.from_rows(facts, [(f"s{at:04}", "r", f"o{at:04}", "q") for at in asked])
    query = torch.eye(5)[torch.tensor(asked)]
    query[500:] = torch.eye(5)[0]
    kept: list[Outcome] = []
    index = ExactIndex(torch.eye(5))
    found = evaluate(lambda at: query[at], index, facts, Cells.of(facts), questions, k=1, outcomes=kept)
    hits = [float(number < 500 or at == 0) for number, at in enumerate(asked)]
    assert [one.fact for one in kept] == hits
    assert [one.best.tolist() for one in kept] == [[at if n < 500 else 0] for n, at in enumerate(asked)]
    assert found.fact_accuracy == found.recall_at_k == pytest.approx(sum(hits) / 600)
    assert found.as_dict()["questions"] == 600 and found.queries_per_second > 0


@pytest.mark.parametrize("k", [1, DEPTH + 1, 2 * DEPTH])
@pytest.mark.parametrize("above", [0, DEPTH - 1, DEPTH, DEPTH + 1])
def test_ranks_end_at_the_depth_and_recall_ends_at_k(above: int, k: int) -> None:
    count = 3 * DEPTH
    facts, questions = line_of_facts(count, asked=above)
    keys = torch.arange(float(count), 0.0, -1.0).unsqueeze(1)
    found = measured(facts, questions, keys, torch.ones(1, 1), k)
    assert found.mrr == (1 / (above + 1) if above < DEPTH else 0.0)
    assert found.recall_at_k == float(above < k)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("count", [5, 3 * DEPTH])
def test_a_question_without_answers_is_wrong_and_counts(count: int, seed: int | None) -> None:
    facts, _ = line_of_facts(count)
    row = ("who", [f"o{number:04}" for number in range(3)])
    known = QuestionSet.from_rows(facts, [row] * 3)
    start, answer = np.array([0, 3, 3, 6]), known.answer[:6]
    questions = QuestionSet(known.text, known.cell, start, answer)
    assert questions.unanswerable.tolist() == [1]
    keys = torch.arange(float(count)).unsqueeze(1)  # the best fact is a wrong one
    query = torch.tensor([[-1.0], [-1.0], [1.0]])  # the first two questions get a fact about the first entity
    found = measured(facts, questions, keys, query, 10, seed)
    reciprocal = (1 + (1 / (count - 2) if count <= DEPTH else 0)) / 3
    assert_figures(figures(found), [None, None, 1 / 3, reciprocal, (1 + (count <= 10)) / 3])
