from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.qa.hops.test_network import rows
from tests.qa.hops.world import reached, table
from tests.qa.small import SIZES
from torch import Tensor

from hmn.errors import ConfigError
from hmn.facts.questions import QuestionSet
from hmn.facts.ragged import Ragged
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.hops.network import HopNetwork
from hmn.qa.text import bags_of
from hmn.qa.training.artificial_questions import Drawn
from hmn.qa.training.chain_trainer import ChainTrainer


@pytest.mark.parametrize(("objects", "stop_by"), [(False, "words"), (False, "reading"), (True, "reading")])
def test_loss_is_the_weight_of_all_chains_to_right_answers(
    objects: bool, stop_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all cells are candidates and no weight moves, the loss follows from the trained network."""
    seen: list[tuple[NDArray[np.int64], float]] = []
    loss_of = ChainTrainer._loss

    def recorded(self: ChainTrainer, batch: NDArray[np.int64], step: int) -> tuple[Tensor, Tensor]:
        loss, cells = loss_of(self, batch, step)
        seen.append((batch, float(loss.detach())))
        return loss, cells

    monkeypatch.setattr(ChainTrainer, "_loss", recorded)
    facts = table()
    questions = QuestionSet.from_rows(facts, rows(facts))
    still = {"learning_rate": 1e-8, "table_learning_rate": 1e-8, "relation_words": 0.0, "epochs": 1}
    qa = FactoidQA(
        facts, **SIZES, hops=2, dropout=0.0, word_dropout=0.0, k=1000, objects=objects, stop_by=stop_by
    )
    qa.fit(questions, quiet=True, batch_size=16, **still)
    for batch, loss in seen[:3]:
        expected = np.mean([-np.log(mass(qa, questions, int(number)) + 1e-8) for number in batch])
        assert loss == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def mass(qa: FactoidQA, questions: QuestionSet, number: int) -> float:
    """Weight of the right answers of a question, by brute force."""
    network, facts = qa.network, qa.facts
    assert isinstance(network, HopNetwork)
    bags = bags_of([questions.text[number]], qa.config.table_bits, qa.cells.splitting)
    asked = network.input_module.hops(bags, 2)
    topic = int(questions.topic[number])
    attention = (asked.first @ qa.memory.snapshot().T).softmax(dim=1)[0].tolist()
    weight: dict[int, float] = defaultdict(float)
    read, total = torch.zeros(1, SIZES["relation_features"]), 0.0
    for cell, share in enumerate(attention):
        own = [fact for fact in qa.cells.facts.row(cell) if facts.subject[fact] == topic]
        for fact in own:
            weight[int(facts.object[fact])] += share / len(own)
            read += share / len(own) * network.relations()[int(facts.relation[fact])]
            total += share / len(own)
    stop = torch.sigmoid(network.input_module.stop(asked, 0, read / total)).item()
    share = (asked.relation[0, 1:] @ network.relations().T).softmax(dim=1).double().numpy()
    after = reached(facts, topic, share, asked.back[0, 1:].tolist(), weight)[0]
    right = questions.answers(number).tolist()
    return sum(
        stop * sum(hop.get(entity, 0.0) for entity in right)
        for stop, hop in zip((stop, 1 - stop), (weight, after), strict=True)
    )


@pytest.mark.parametrize("stop_by", ["words", "reading"])
@pytest.mark.parametrize("known", ["topics", "facts", "answers alone"])
def test_a_batch_can_be_learned_by_heart(known: str, stop_by: str) -> None:
    facts = table()
    if known == "facts":
        asked: Any = [
            (fact.subject, fact.relation, fact.object, f"{fact.relation} of {fact.subject}")
            for fact in (facts.fact(cell) for cell in range(0, len(facts), 9))
        ]
    else:
        asked = rows(facts, brackets=known == "topics")[::4]
    questions = QuestionSet.from_rows(facts, asked)
    torch.manual_seed(0)
    qa = FactoidQA(facts, hops=2, stop_by=stop_by, **{**SIZES, "hidden": 24}, dropout=0.0, word_dropout=0.0)
    qa.fit(
        questions,
        quiet=True,
        epochs=40,
        batch_size=64,
        relation_words=0.0,
        other_subject=0.0,
        learning_rate=0.02,
        renew_steps=5,
        warmup=5,
    )
    assert qa.evaluate(questions).answer_accuracy > 0.9


def test_joined_questions_have_the_answers_of_both_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Drawn, NDArray[np.int64], list[list[int]]]] = []
    asked_of = ChainTrainer._asked

    def recorded(
        self: ChainTrainer, batch: NDArray[np.int64], drawn: Drawn
    ) -> tuple[NDArray[np.int64], Ragged]:
        topic, answers = asked_of(self, batch, drawn)
        seen.append((drawn, topic, [answers.row(row).tolist() for row in range(len(batch))]))
        return topic, answers

    monkeypatch.setattr(ChainTrainer, "_asked", recorded)
    facts = table()
    asked = [
        (fact.subject, fact.relation, fact.object, f"{fact.relation} of {fact.subject}")
        for fact in (facts.fact(cell) for cell in range(0, len(facts), 5))
    ]
    qa = FactoidQA(facts, hops=2, **SIZES)
    settings = {"epochs": 2, "relation_words": 0.0, "other_subject": 0.0, "joined": 1.0}
    qa.fit(QuestionSet.from_rows(facts, asked), quiet=True, batch_size=16, **settings)
    count = 0
    for drawn, topic, answers in seen:
        for row in np.flatnonzero(drawn.then >= 0):
            first = facts.cells_of_pair(int(drawn.pair[row]))
            middle = set(facts.object[first].tolist())
            assert {int(topic[row])} == set(facts.subject[first].tolist())
            ends = {
                int(facts.object[fact])
                for fact in range(len(facts))
                if facts.subject[fact] in middle and facts.relation[fact] == drawn.then[row]
            }
            assert answers[row] == sorted(ends - {int(topic[row])}) != []
            count += 1
    assert count > 20


def test_weights_that_the_loss_does_not_have_are_refused() -> None:
    facts = table()
    questions = QuestionSet.from_rows(facts, rows(facts)[:8])
    with pytest.raises(ConfigError, match="importance_weights is True with several hops"):
        FactoidQA(facts, **SIZES, hops=2).fit(questions, quiet=True, importance_weights=True)
