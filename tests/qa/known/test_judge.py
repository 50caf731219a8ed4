"""Judging the answers of one hop: what it sees without a fact is what there is once the fact is removed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.qa.small import Split, fitted

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.asking import make_judge
from hmn.qa.config import ModelConfig
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.known.judge import CellJudge, Judge


@pytest.fixture(scope="module")
def trained(small_facts: FactTable, small_split: Split) -> FactoidQA:
    return fitted(small_facts, small_split)


@pytest.fixture(scope="module")
def with_softmax(small_facts: FactTable, small_split: Split) -> FactoidQA:
    qa = FactoidQA(small_facts, reader="softmax", table_bits=11, name_features=32, relation_features=16)
    return qa.fit(small_split[0], quiet=True, epochs=1)


def judge_of(qa: FactoidQA) -> CellJudge:
    assert isinstance(qa.judge, CellJudge)
    return qa.judge


def evidence(qa: FactoidQA, text: str) -> torch.Tensor:
    """Evidence ``(1, E)`` on a question to the model as it is."""
    judge = judge_of(qa)
    with torch.no_grad():
        asked = judge._asked([text])
        read = qa.network.reader.read(asked.query, qa.config.k)
        return judge.evidence(asked, read.cell, read.weight)


@pytest.mark.parametrize("model", ["trained", "with_softmax"])
def test_without_a_fact_it_sees_what_it_sees_once_the_fact_is_removed(
    model: str, small_split: Split, request: pytest.FixtureRequest
) -> None:
    qa: FactoidQA = request.getfixturevalue(model)
    questions, numbers = small_split[1], np.arange(3)
    with torch.no_grad():
        seen = judge_of(qa)._gather(questions, numbers, 0)
    for row, number in enumerate(numbers):
        changed = copy.deepcopy(qa)
        fact = qa.facts.fact(int(questions.cell[number]))
        torch.testing.assert_close(seen.known[row], evidence(changed, questions.text[number])[0])
        changed.remove_facts([fact[:3]])
        torch.testing.assert_close(
            seen.without_fact[row], evidence(changed, questions.text[number])[0], rtol=3e-3, atol=3e-3
        )


def test_right_is_the_share_of_right_facts_of_the_best_cell(trained: FactoidQA, small_split: Split) -> None:
    questions = small_split[1]
    with torch.no_grad():
        seen = judge_of(trained)._gather(questions, np.arange(50), 0)
    for number in range(50):
        best = trained.ask(questions.text[number])[0].facts[0]
        gold = trained.facts.fact(int(questions.cell[number]))
        assert bool(seen.right[number] > 0) == (best[:2] == gold[:2])


def test_questions_about_what_is_not_there_are_less_probable(trained: FactoidQA, small_split: Split) -> None:
    qa, questions = copy.deepcopy(trained), small_split[1]
    before = [found.known_probability for found in qa.ask_all(questions.text)]
    gone = {qa.facts.fact(int(cell))[:3] for cell in questions.cell}
    qa.remove_facts(sorted(gone)[: len(gone) // 2])
    after = [found.known_probability for found in qa.ask_all(questions.text)]
    removed = [qa.facts.fact(int(cell))[:3] in sorted(gone)[: len(gone) // 2] for cell in questions.cell]
    assert all(value is not None for value in before + after)
    lost = [(before[n] or 0) - (after[n] or 0) for n in range(len(questions)) if removed[n]]
    assert np.mean(lost) > 0.2


def test_the_same_seed_gives_the_same_head(trained: FactoidQA, small_split: Split) -> None:
    heads: list[Judge] = []
    state = torch.get_rng_state()
    for _ in range(2):
        judge = make_judge(trained.network, trained.config.k)
        assert judge.learn(small_split[0], None, 3)
        heads.append(judge)
    for name, value in heads[0].head.state_dict().items():
        assert torch.equal(value, heads[1].head.state_dict()[name]), name
    assert torch.equal(state, torch.get_rng_state())  # training that goes on draws the same numbers


def test_too_few_questions_give_no_judge(small_facts: FactTable, small_rows: list[tuple[str, ...]]) -> None:
    one = QuestionSet.from_rows(small_facts, small_rows[:1])
    qa = FactoidQA(small_facts, table_bits=11, name_features=32).fit(
        one, quiet=True, epochs=1, made_questions=0
    )
    assert qa.judge is None and qa.ask("where was she born").known is None
    assert ModelConfig().precision == 0.9


def test_a_probability_does_not_depend_on_who_else_asks() -> None:
    """In a table of few rows, words of other questions are not taken for those of a name."""
    facts, names, rows = [], {}, []
    for number in range(60):
        facts += [
            (f"p{number}", "person/born_in", f"t{number % 7}"),
            (f"p{number}", "person/job", f"j{number % 5}"),
        ]
        names[f"p{number}"] = [f"{chr(97 + number % 26)}olf{number} {chr(97 + number // 3)}ber"]
        rows.append((*facts[-2], f"where was {names[f'p{number}'][0]} born"))
        rows.append((*facts[-1], f"which job does {names[f'p{number}'][0]} have"))
    table = FactTable.from_triples(facts, names)
    qa = FactoidQA(table, table_bits=8, count_bits=18, name_features=16, relation_features=8)
    qa.fit(QuestionSet.from_rows(table, rows), quiet=True, epochs=1, made_questions=0)
    texts = [row[3] for row in rows] + [f"where was stranger {number} born" for number in range(400)]
    together = [found.known_probability for found in qa.ask_all(texts)]
    assert together == pytest.approx([qa.ask(text).known_probability for text in texts], abs=1e-4)
