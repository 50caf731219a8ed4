"""What a reader that knows all relations can reach, on facts that are counted by hand."""

from __future__ import annotations

import pytest
from bench.hops.ceiling import Walker, best_share, ceiling, phrasing, reachable, relations_asked

from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

FACTS = FactTable.from_triples(
    [
        ("Dune", "by", "Frank"),
        ("Soul", "by", "Frank"),
        ("Emma", "by", "Jane"),
        ("Persuasion", "by", "Jane"),
        ("Persuasion", "by", "Frank"),
        ("Dune", "year", "1965"),
    ],
    inverse=True,
)
BY, WRITTEN = (FACTS.relations.index(name) for name in ("by", "~by"))


def number(name: str) -> int:
    return FACTS.entity_number(name)


def test_walks_do_not_return_and_divide_the_weight() -> None:
    walker = Walker(FACTS)
    assert walker.weights(number("Dune"), (BY, WRITTEN)) == {number("Soul"): 0.5, number("Persuasion"): 0.5}
    assert walker.weights(number("Emma"), (BY, WRITTEN, BY)) == {number("Jane"): 0.5, number("Frank"): 0.5}
    assert walker.weights(number("1965"), (BY,)) == {}
    walks = walker.walks(number("Dune"), 2)
    assert walks[BY, WRITTEN] == {number("Soul"), number("Persuasion")}
    assert all(number("Dune") not in ends for ends in walks.values())


def test_relations_of_a_phrasing_and_what_they_reach() -> None:
    train = QuestionSet.from_rows(FACTS, [("what else did the author of [Emma] write", ["Persuasion"])])
    assert phrasing(train, 0, FACTS) == "what else did the author of [] write"
    walker = Walker(FACTS)
    asked = relations_asked(walker, train, 2)
    assert asked == {"what else did the author of [] write": (BY, WRITTEN)}
    valid = QuestionSet.from_rows(
        FACTS,
        [
            ("what else did the author of [Dune] write", ["Soul", "Persuasion"]),
            ("what else did the author of [Soul] write", ["Dune"]),
            ("who wrote what the author of [Emma] wrote", ["Frank"]),
        ],
    )
    assert ceiling(walker, asked, valid) == [1.0, 0.5, 0.0]
    assert reachable(walker, valid, 2) == pytest.approx(2 / 3)
    assert reachable(walker, valid, 3) == pytest.approx(1 / 3)


def test_shares_of_those_that_tie() -> None:
    assert best_share({1: 0.4, 2: 0.4, 3: 0.2}, {1, 3}) == 0.5
    assert best_share({}, {1}) == 0.0
