"""The checks of the serving bench: they must see what is wrong, or they prove nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.serve.agreement import Table, built, contradiction, difference, facts_of
from tests.fuzz.bundles import make_bundle

from hmn.facts.table import Fact
from hmn.qa.answer import Answer, Answers
from hmn.qa.factoid_qa import FactoidQA

QUESTIONS = ["where was person 3 born", "what is the job of person 5", "where was newcomer born"]
NEW = ("q1", "person/born_in", "town1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bench") / "model")


def as_json(answers: Answers) -> dict[str, Any]:
    """Answers as they come over HTTP."""
    return answers.as_dict()


def test_a_table_takes_writes() -> None:
    table = Table([("a", "r", "x"), ("a", "r", "y"), ("b", "r", "x")])
    table.take("replace", [("a", "r", "z"), ("a", "r", "w")])
    table.take("remove", [("b", "r", "x")])
    table.take("add", [("b", "s", "x")])
    assert table.facts() == {("a", "r", "z"), ("a", "r", "w"), ("b", "s", "x")}
    other = table.copy()
    other.take("add", [("c", "r", "x")])
    assert len(table.facts()) == 3 and len(other.facts()) == 4


def test_a_model_in_one_go_agrees_with_one_that_took_the_writes(bundle: Path) -> None:
    stepwise = FactoidQA.from_pretrained(bundle)
    facts = facts_of(stepwise) | {NEW}
    gone = next(fact for fact in sorted(facts) if fact[0] == "p3")
    names = {"q1": ["newcomer"]}
    stepwise.add_facts([NEW], names)
    stepwise.remove_facts([gone])
    reference = built(bundle, facts - {gone}, names)
    assert {reference.facts.fact(cell)[:3] for cell in range(reference.facts.num_cells)} >= facts - {gone}
    found = stepwise.ask_all(QUESTIONS)
    for result, own in zip(found, reference.ask_all(QUESTIONS), strict=True):
        assert difference(as_json(result), own) == ""
        assert contradiction(as_json(result), Table(facts - {gone})) == ""


def test_what_differs_is_seen(bundle: Path) -> None:
    model = FactoidQA.from_pretrained(bundle)
    before = model.ask_all(QUESTIONS)
    table = Table(facts_of(model))
    asked = before[0][0].facts[0][:3]
    # a fact that was lost shows in the list of answers, in the table, and in the model
    model.remove_facts([asked])
    table.take("remove", [asked])
    assert difference(as_json(before[0]), model.ask(QUESTIONS[0]))
    assert contradiction(as_json(before[0]), table)


@pytest.mark.parametrize("change", ["probability", "count", "known_probability", "missing"])
def test_each_part_of_an_answer_counts(bundle: Path, change: str) -> None:
    own = FactoidQA.from_pretrained(bundle).ask(QUESTIONS[0])
    result = as_json(own)
    assert difference(result, own) == ""
    if change == "known_probability":
        result[change] = 0.123
    elif change == "missing":
        result["answers"] = result["answers"][1:]
    else:
        result["answers"][0][change] += 1
    assert difference(result, own)


def test_equal_probabilities_may_come_in_any_order() -> None:
    def answer(subject: str, probability: float) -> Answer:
        return Answer(["x"], probability, [Fact(subject, "r", "x", subject, "r", "x")], 1)

    left = Answers([answer("a", 0.5), answer("b", 0.2), answer("c", 0.1)])
    right = Answers([answer("a", 0.5), answer("d", 0.1), answer("b", 0.2)])
    assert difference(as_json(left), right) == ""
    other = Answers([answer("a", 0.5), answer("d", 0.15), answer("b", 0.2)])
    assert difference(as_json(left), other)
