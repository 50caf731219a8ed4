"""Walks reach what a search over plain triples reaches, and questions are clear."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hmn.errors import ConfigError
from hmn.facts.table import FactTable
from hmn.qa.demo.walks import MOST_REACHED, Form, HopQuestion, Walks, question_set, without_brackets

TRIPLES = [
    ("city/1", "city/country", "country/A"),
    ("city/2", "city/country", "country/B"),
    ("region/1", "region/country", "country/B"),
    ("country/A", "country/capital", "city/1"),
    ("country/A", "country/neighbour", "country/B"),
    ("country/B", "country/neighbour", "country/A"),
    ("country/B", "country/neighbour", "country/C"),
    ("country/C", "country/capital", "city/3"),
]
NAMES = {
    "city/1": ["Rome", "Roma"],
    "city/2": ["Georgia"],
    "city/3": ["Oslo [old]"],
    "region/1": ["GEORGIA"],
    "country/A": ["Italy"],
    "country/B": ["France"],
    "country/C": ["rome"],
}
WALKS = Walks(TRIPLES, NAMES)

entity = st.sampled_from([f"{kind}/{number}" for kind in "ab" for number in range(4)])
triples = st.lists(
    st.tuples(entity, st.sampled_from(["a/x", "b/x", "a/y"]), entity), max_size=12, unique=True
)


def by_search(facts: list[tuple[str, str, str]], topic: str, steps: tuple[str, ...]) -> set[str]:
    ends = {topic}
    for step in steps:
        name, back = step.removeprefix("~"), step.startswith("~")
        pairs = [(o, s) if back else (s, o) for s, r, o in facts if r.split("/")[1] == name]
        ends = {o for s, o in pairs if s in ends and o != topic}
    return ends


@settings(max_examples=60, deadline=None)
@given(
    facts=triples,
    topic=entity,
    steps=st.lists(st.sampled_from(["x", "~x", "y", "~y"]), min_size=1, max_size=4),
)
@example([("a/0", "a/x", "b/0"), ("b/0", "a/y", "b/1")], "a/0", ["x", "~x"])
def test_walks_agree_with_a_search(facts: list[tuple[str, str, str]], topic: str, steps: list[str]) -> None:
    walks = Walks(facts, {name: [name] for row in facts for name in row[::2]})
    assert walks.reached(topic, tuple(steps)) == by_search(facts, topic, tuple(steps))


def test_kinds_and_single_steps() -> None:
    leads_to = WALKS.leads_to()
    assert leads_to["city", "country"] == {"country"}
    assert leads_to["country", "~country"] == {"city", "region"}
    assert WALKS.single() == {"country", "capital", "~capital", "~neighbour"}


def test_a_walk_that_spreads_too_far_reaches_nothing() -> None:
    facts = [("a/0", "a/x", f"b/{number}") for number in range(MOST_REACHED + 1)]
    names = {name: [name] for row in facts for name in row[::2]}
    assert (
        Walks(facts, names).reached("a/0", ("x",)) == Walks(facts, names).reached("a/0", ("x", "~x")) == set()
    )
    assert len(Walks(facts[1:], names).reached("a/0", ("x",))) == MOST_REACHED


def test_names_are_clear() -> None:
    rng = random.Random(0)
    assert {WALKS.clear_name("city/1", ("country", "neighbour"), rng) for _ in range(99)} == {"Rome", "Roma"}
    assert WALKS.clear_name("city/2", ("country", "neighbour"), rng) is None, "there is a region of that name"
    assert WALKS.clear_name("country/C", ("~neighbour",), rng) == "rome"
    assert WALKS.clear_name("city/2", ("~capital",), rng) == "Georgia"


def test_forms_take_turns_and_run_out() -> None:
    forms = [
        Form("city", ("country", "neighbour"), lambda name: f"near {name}?"),
        Form("country", ("neighbour", "capital"), lambda name: f"capitals by {name}"),
    ]
    topics = {"city": ["city/1", "city/2"], "country": ["country/A", "country/B", "country/C"]}
    asked = {"capitals by [italy]"}
    with pytest.raises(
        ConfigError, match="3 questions are wanted, but the built-in facts give only 2: ask for 2"
    ):
        WALKS.write(forms, topics, 3, set(asked), random.Random(0))
    written = WALKS.write(forms, topics, 2, asked, random.Random(1))
    assert {question.text.replace("Roma", "Rome") for question in written} == {
        "near [Rome]?",
        "capitals by [France]",
    }
    by_text = {question.text[:4]: question for question in written}
    assert by_text["near"][1:] == ("city/1", ("country/B",), ("country", "neighbour"))
    assert by_text["capi"][1:] == ("country/B", ("city/1", "city/3"), ("neighbour", "capital"))


def test_question_set() -> None:
    facts = FactTable.from_triples(TRIPLES, NAMES, inverse=True)
    questions = [
        HopQuestion("near [Rome]", "city/1", ("country/B",), ("country", "neighbour")),
        HopQuestion("cities with [Georgia]", "region/1", ("city/2",), ("country", "~country")),
        HopQuestion("who borders [Oslo [old]]'s land", "city/3", ("country/B",), ("~capital", "neighbour")),
    ]
    found = question_set(facts, questions)
    assert found.text == ["near Rome", "cities with Georgia", "who borders Oslo [old]'s land"]
    assert found.topic.tolist() == [facts.entity_number(question.topic) for question in questions]
    answers = [[facts.entities[int(number)].as_py() for number in found.answers(row)] for row in range(3)]
    assert answers == [["country/B"], ["city/2"], ["country/B"]]
    assert found.take(np.array([1])).topic.tolist() == [facts.entity_number("region/1")]
    assert without_brackets("[a]") == "a"
