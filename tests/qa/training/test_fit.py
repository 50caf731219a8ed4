"""What training is given: questions that have answers, and a checksum that says which they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.qa.small import SIZES

from hmn.errors import DataError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.training.fit import fingerprint

FACTS = FactTable.from_triples([(f"person{number}", "born_in", f"town{number % 4}") for number in range(24)])
ROWS = [(f"where was [person{number}] born", f"town{number % 4}") for number in range(24)]
BRIEF = {"epochs": 1, "batch_size": 8, "made_questions": 0}


def trained(questions: QuestionSet | list[Path]) -> FactoidQA:
    return FactoidQA(FACTS, **SIZES).fit(questions, questions, quiet=True, **BRIEF)


def test_questions_without_answers_are_not_trained_on(tmp_path: Path) -> None:
    files = [tmp_path / "one.tsv", tmp_path / "two.tsv"]
    for file in files:
        file.write_text("".join("\t".join(row) + "\n" for row in ROWS) + "where was nobody born\tnowhere\n")
    qa = trained(files)
    expected = FactoidQA(FACTS, **SIZES).fit(
        QuestionSet.from_rows(FACTS, ROWS * 2),
        QuestionSet.read(files, FACTS),
        quiet=True,
        **BRIEF,
    )
    for name, weights in qa.network.state_dict().items():
        assert torch.equal(weights, expected.network.state_dict()[name]), name
    figures = qa.evaluate(QuestionSet.from_rows(FACTS, ROWS * 2))
    lower = qa.evaluate(files)
    assert (figures.questions, lower.questions) == (48, 50)
    assert lower.answer_accuracy == pytest.approx(figures.answer_accuracy * 48 / 50)
    empty = QuestionSet(["q"], np.array([-1]), np.array([0, 0]), np.zeros(0, np.int32))
    with pytest.raises(DataError, match="no question has an answer"):
        trained(empty)


def test_checksum_knows_topics_and_keeps_that_of_questions_without() -> None:
    questions = QuestionSet.from_rows(FACTS, ROWS)
    without = replace(questions, topic=np.zeros(0, np.int32))
    other = replace(questions, topic=questions.topic[::-1].copy())
    assert len({fingerprint(FACTS, each) for each in (questions, without, other)}) == 3
    bare = QuestionSet.from_rows(
        FACTS, [(text.replace("[", "").replace("]", ""), name) for text, name in ROWS]
    )
    assert fingerprint(FACTS, bare) == fingerprint(FACTS, without)
