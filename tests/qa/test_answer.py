"""Answers on a table small enough to reckon by hand."""

from __future__ import annotations

import json

import pytest
import torch

from hmn.facts.table import FactTable
from hmn.qa.answer import MOST_SHOWN, Answer, AnswerModule
from hmn.qa.cells import Cells
from hmn.results import Read

TRIPLES = [
    ("ann1", "child", "bob"),
    ("ann1", "child", "cy"),
    ("ann1", "born", "rome"),
    ("ann2", "child", "dee"),
    ("ann2", "born", "oslo"),
]
NAMES = {"ann1": ["Ann", "Annie"], "ann2": ["Ann"], "bob": ["Bob"], "cy": ["Cy"], "dee": ["Dee"]}
FACTS = FactTable.from_triples(TRIPLES, NAMES)
CELLS = Cells.of(FACTS)


def cell(name: str, relation: str) -> int:
    wanted = CELLS.names.index(name), FACTS.relations.index(relation)
    texts = list(zip(CELLS.subject.tolist(), CELLS.relation.tolist(), strict=True))
    return texts.index(wanted)


def read(*rows: list[tuple[int, float]]) -> Read:
    cells = torch.tensor([[at for at, _ in row] for row in rows])
    weight = torch.tensor([[share for _, share in row] for row in rows])
    return Read(None, weight, cells, weight.log(), torch.full((len(rows),), float(len(CELLS))))


def summary(answers: list[Answer]) -> list[tuple[object, ...]]:
    return [
        (a.facts[0].subject, a.facts[0].relation, a.answers, pytest.approx(a.probability)) for a in answers
    ]


def test_weights_are_shared_by_facts_and_summed_by_pairs() -> None:
    # "ann child" reads as three facts (two of ann1, one of ann2), "annie child" as two of ann1 alone
    (answers,) = AnswerModule(FACTS, CELLS)(
        read([(cell("ann", "child"), 0.6), (cell("annie", "child"), 0.3), (cell("ann", "born"), 0.1)])
    )
    assert summary(answers) == [
        ("ann1", "child", ["Bob", "Cy"], 0.6 * 2 / 3 + 0.3),
        ("ann2", "child", ["Dee"], 0.6 / 3),
        ("ann1", "born", ["rome"], 0.05),
    ]
    assert [answer.count for answer in answers] == [2, 1, 1]


def test_pairs_of_one_cell_stand_by_their_probability_and_cells_by_their_place() -> None:
    # the second cell makes ann1's facts likelier than all of the first, but the first is the best cell
    module = AnswerModule(FACTS, CELLS)
    (answers,) = module(
        read([(cell("ann", "born"), 0.4), (cell("annie", "child"), 0.35), (cell("ann", "child"), 0.25)])
    )
    assert [(a.facts[0].subject, a.facts[0].relation) for a in answers] == [
        ("ann1", "born"),
        ("ann2", "born"),
        ("ann1", "child"),
    ]
    (answers,) = module(read([(cell("ann", "born"), 0.5), (cell("annie", "born"), 0.5), (-1, 0.0)]))
    assert summary(answers) == [("ann1", "born", ["rome"], 0.75), ("ann2", "born", ["oslo"], 0.25)]


def test_at_most_as_many_answers_as_cells_read_and_unused_places_are_none() -> None:
    module = AnswerModule(FACTS, CELLS)
    one, two, none = module(
        read(
            [(cell("ann", "child"), 1.0), (-1, 0.0)],
            [(cell("annie", "born"), 0.9), (cell("ann", "born"), 0.1)],
            [(-1, 0.0), (-1, 0.0)],
        )
    )
    assert summary(one) == [("ann1", "child", ["Bob", "Cy"], 2 / 3), ("ann2", "child", ["Dee"], 1 / 3)]
    assert summary(two) == [("ann1", "born", ["rome"], 0.95), ("ann2", "born", ["oslo"], 0.05)]
    assert none == []
    (single,) = module(read([(cell("ann", "child"), 1.0)]))
    assert len(single) == 1


def test_the_best_answers_are_those_that_all_begin_with() -> None:
    module, generator = AnswerModule(FACTS, CELLS), torch.Generator().manual_seed(0)
    reads = []
    for _ in range(6):
        order = torch.randperm(len(CELLS), generator=generator).tolist()
        weight = torch.rand(len(CELLS), generator=generator).softmax(0).tolist()
        reads.append(list(zip(order, weight, strict=True)))
    whole = module(read(*reads))
    assert [len(answers) for answers in whole] == [4] * 6
    assert whole == [answers for one in reads for answers in module(read(one))]
    for k in (0, 1, 3, 9):
        assert module(read(*reads), k) == [answers[:k] for answers in whole]


def test_all_probability_is_given_out() -> None:
    weight = torch.rand(len(CELLS), generator=torch.Generator().manual_seed(0)).softmax(0).tolist()
    (answers,) = AnswerModule(FACTS, CELLS)(read(list(enumerate(weight))))
    assert len(answers) == 4
    assert sum(answer.probability for answer in answers) == pytest.approx(1.0)


def test_long_answers_are_cut_but_counted() -> None:
    facts = FactTable.from_triples([("a", "has", f"o{at:02}") for at in range(MOST_SHOWN + 5)])
    ((answer,),) = AnswerModule(facts, Cells.of(facts))(read([(0, 1.0)]))
    assert len(answer.answers) == len(answer.facts) == MOST_SHOWN
    assert answer.count == MOST_SHOWN + 5 and answer.probability == pytest.approx(1.0)


def test_an_answer_is_json() -> None:
    ((answer, _),) = AnswerModule(FACTS, CELLS)(read([(cell("ann", "born"), 0.5), (-1, 0.0)]))
    shown = json.loads(json.dumps(answer.as_dict()))
    assert shown["answers"] == ["rome"] and shown["count"] == 1 and shown["probability"] == 0.25
    assert shown["facts"] == [
        {
            "subject": "ann1",
            "relation": "born",
            "object": "rome",
            "subject_name": "Ann",
            "relation_name": "born",
            "object_name": "rome",
        }
    ]
