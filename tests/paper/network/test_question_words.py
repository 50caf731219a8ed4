from __future__ import annotations

import pytest
import torch

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable
from hmn.paper.network.question_words import Vocabulary, WordSum, artificial_questions


def test_words_are_summed_and_unknown_ones_left_out() -> None:
    vocabulary = Vocabulary(["where was ada born", "ada"])
    words = WordSum(len(vocabulary), 5, 0.1)
    query = words(vocabulary.read(["ada ada was zanzibar", "zanzibar", "born"]))
    weight = words.bag.weight
    assert torch.allclose(query[0], 2 * weight[2] + weight[1])
    assert torch.equal(query[1], torch.zeros(5))
    assert torch.allclose(query[2], weight[3])
    assert float(WordSum(1000, 50, 0.3).bag.weight.detach().std()) == pytest.approx(0.3, rel=0.05)


def test_facts_that_no_one_asks_for_get_a_question_of_name_and_relation() -> None:
    facts = FactTable.from_triples(
        [("e1", "people/person/born_in", "e2"), ("e1", "people/person/job", "e3"), ("e3", "r", "e1")],
        {"e1": ["Ada Lovelace", "Countess"]},
    )
    train = QuestionSet.from_rows(facts, [("e1", "people/person/job", "e3", "what did ada do")])
    text, fact = artificial_questions(facts, train)
    assert fact == [0, 2]
    assert text[0] == "Ada Lovelace people person born in"
