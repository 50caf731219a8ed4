"""Right and ignored cells agree with a loop over all facts and cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.cells import Cells
from hmn.qa.training.targets import MOST_ADDED, Targets

quick = settings(max_examples=40, deadline=None)
entity = st.sampled_from([f"e{number}" for number in range(5)])
triples = st.lists(
    st.tuples(entity, st.sampled_from(["r", "s"]), entity), min_size=1, max_size=12, unique=True
)
naming = st.dictionaries(entity, st.lists(st.sampled_from(["Ann", "Bob", "Cy"]), min_size=1, unique=True))

Triple = tuple[str, str, str]


def reading(facts: FactTable, cells: Cells, wanted: set[Triple]) -> set[int]:
    """Cells that stand for any of these facts."""
    found = set()
    for cell in range(len(cells)):
        if any(facts.fact(int(fact))[:3] in wanted for fact in cells.facts.row(cell)):
            found.add(cell)
    return found


@quick
@given(triples=triples, names=naming, objects=st.booleans(), known=st.booleans(), data=st.data())
def test_agree_with_the_loop(
    triples: list[Triple], names: dict[str, list[str]], objects: bool, known: bool, data: st.DataObject
) -> None:
    facts = FactTable.from_triples(triples, names)
    cells = Cells.of(facts, objects=objects)
    asked = data.draw(st.lists(st.sampled_from(triples), min_size=1, max_size=4))
    given_answers = [sorted({row[2], triples[0][2]}) for row in asked]
    rows = [(*row, "q") if known else ("q", many) for row, many in zip(asked, given_answers, strict=True)]
    targets = Targets.of(QuestionSet.from_rows(facts, rows), facts, cells)
    right, ignored = [], []
    for row, many in zip(asked, given_answers, strict=True):
        if known:
            right.append(reading(facts, cells, {row}))
            ignored.append(reading(facts, cells, {one for one in triples if one[:2] == row[:2]}) - right[-1])
        else:
            # answers are ids here, or names that several entities may share
            meant = {one for one in triples if one[2] in many}
            right.append(reading(facts, cells, meant))
            ignored.append(set())
    assert [set(targets.right.row(at).tolist()) for at in range(len(asked))] == right
    assert [set(targets.ignored.row(at).tolist()) for at in range(len(asked))] == ignored

    chosen = np.array(data.draw(st.lists(st.integers(0, len(asked) - 1), min_size=1)))
    some = data.draw(st.sets(st.integers(0, len(cells) - 1), min_size=1))
    candidates = torch.tensor(sorted(some))
    is_right, is_ignored = targets.masks(chosen, candidates)
    assert is_right.tolist() == [[cell in right[at] for cell in sorted(some)] for at in chosen]
    wanted = [[cell in ignored[at] for cell in sorted(some)] for at in chosen]
    if is_ignored is None:
        assert not any(map(any, wanted))
    else:
        assert is_ignored.dtype == torch.bool and is_ignored.tolist() == wanted

    query, snapshot = torch.zeros(len(chosen), 2), torch.zeros(len(cells), 2)
    added = targets.added(chosen, query, snapshot.__getitem__)
    assert added.dtype == torch.int64
    assert sorted(added.tolist()) == sorted(cell for at in chosen for cell in right[at])


def test_facts_of_one_pair_are_as_right_and_so_ignored() -> None:
    rows = [("a", "r", "x"), ("a", "r", "y"), ("a", "s", "x"), ("b", "r", "x")]
    facts = FactTable.from_triples(rows)
    questions = QuestionSet.from_rows(facts, [("a", "r", "y", "q"), ("b", "r", "x", "q")])
    apart = Targets.of(questions, facts, Cells.of(facts, objects=True))
    assert (apart.right.row(0).tolist(), apart.ignored.row(0).tolist()) == ([1], [0])
    assert (apart.right.row(1).tolist(), apart.ignored.row(1).tolist()) == ([3], [])
    together = Targets.of(questions, facts, Cells.of(facts))
    assert (together.right.row(0).tolist(), together.ignored.row(0).tolist()) == ([0], [])
    assert together.masks(np.array([0, 1]), torch.tensor([0, 1, 2]))[1] is None


@quick
@given(triples=triples, names=naming, objects=st.booleans(), data=st.data())
def test_asking_for_another_pair_makes_all_its_facts_right(
    triples: list[Triple], names: dict[str, list[str]], objects: bool, data: st.DataObject
) -> None:
    facts = FactTable.from_triples(triples, names)
    cells = Cells.of(facts, objects=objects)
    own = Targets.of(QuestionSet.from_rows(facts, [("q", [row[2]]) for row in triples]), facts, cells)
    number = data.draw(st.lists(st.integers(0, len(triples) - 1), min_size=1, max_size=4))
    other = [data.draw(st.one_of(st.none(), st.sampled_from(triples))) for _ in number]
    pair = np.array([-1 if row is None else facts.pair[facts.cell_of(*row)] for row in other])
    found = own.asking(np.array(number), pair)
    assert found.right.rows == found.ignored.rows == len(number)
    for at, row in enumerate(other):
        right = own.right.row(number[at]).tolist()
        if row is not None:
            alike = [
                cell
                for cell in range(len(facts))
                if facts.fact(cell)[:2] == facts.fact(facts.cell_of(*row))[:2]
            ]
            right = sorted({one for cell in alike for one in cells.of_fact.row(cell).tolist()})
        assert (found.right.row(at).tolist(), found.ignored.row(at).tolist()) == (right, [])


@pytest.mark.parametrize("count", [MOST_ADDED, MOST_ADDED + 1, 3 * MOST_ADDED])
def test_of_many_right_cells_the_best_are_added(count: int) -> None:
    rows = [(f"s{at:03}", "r", "x" if at % 2 else "y") for at in range(2 * count)]
    facts = FactTable.from_triples(rows)
    cells = Cells.of(facts)
    questions = QuestionSet.from_rows(facts, [("q", "x"), ("q", "y")])
    targets = Targets.of(questions, facts, cells)
    generator = torch.Generator().manual_seed(0)
    snapshot = torch.randn(len(cells), 3, generator=generator)
    query = torch.randn(2, 3, generator=generator, requires_grad=True)
    added = targets.added(np.array([1, 0]), query, snapshot.__getitem__)
    assert not added.requires_grad and len(added) == 2 * min(count, MOST_ADDED)
    wanted = set()
    for row, rest in ((0, 0), (1, 1)):
        right = range(rest, 2 * count, 2)
        score = {cell: float(snapshot[cell].double() @ query[row].detach().double()) for cell in right}
        wanted |= set(sorted(right, key=lambda cell: -score[cell])[:MOST_ADDED])
    assert set(added.tolist()) == wanted
    # those left out still count as right where the reader finds them
    mask, _ = targets.masks(np.array([0]), torch.arange(len(cells)))
    assert mask[0].tolist() == [at % 2 == 1 for at in range(2 * count)]


def test_what_is_ignored_stays_with_the_own_pair_of_a_question() -> None:
    rows = [("a", "r", "x"), ("a", "r", "y"), ("b", "r", "x"), ("b", "r", "z")]
    facts = FactTable.from_triples(rows)
    cells = Cells.of(facts, objects=True)
    own = Targets.of(QuestionSet.from_rows(facts, [("a", "r", "y", "q"), ("b", "r", "x", "q")]), facts, cells)
    assert [own.ignored.row(row).tolist() for row in range(2)] == [[0], [3]]
    other = int(facts.pair[facts.cell_of("b", "r", "x")])
    asking = own.asking(np.array([0, 0, 1]), np.array([other, -1, -1]))
    assert [asking.right.row(row).tolist() for row in range(3)] == [[2, 3], [1], [2]]
    assert [asking.ignored.row(row).tolist() for row in range(3)] == [[], [0], [3]]
    assert asking.masks(np.array([0]), torch.arange(4))[1] is None
