"""Different names that read the same are counted; names that are the same are not."""

from __future__ import annotations

import pytest

from hmn.facts.table import FactTable
from hmn.qa.words.alike import names_alike
from hmn.qa.words.splitting import LETTERS, SCRIPTS, splitting

NAMES = {
    "a": ["Zoë", "Zoë,"],
    "b": ["C", "zoë."],
    "c": ["C++"],
    "d": ["Paris", "PARIS", "paris."],
    "e": ["Paris"],
    "f": ["?"],
    "g": ["…"],
    "x": ["zoe"],
}


@pytest.mark.parametrize(
    ("way", "alike", "examples"),
    [
        (SCRIPTS, 4, [("Zoë", "zoë."), ("?", "…")]),
        (LETTERS, 6, [("Zoë", "zoë."), ("C", "C++"), ("?", "…")]),
    ],
)
def test_names_that_read_the_same(way: str, alike: int, examples: list[tuple[str, str]]) -> None:
    """Only subjects are asked about: x is none."""
    facts = FactTable.from_triples([(subject, "r", "x") for subject in "abcdefg"], NAMES)
    found = names_alike(facts, splitting(way))
    assert found == (7, alike, examples) and found.many
    assert str(found).startswith(f"{alike} of 7 names read the same as another one: 'Zoë' like 'zoë.'")


def test_other_tables_have_none() -> None:
    found = names_alike(FactTable.from_triples([("a", "r", "b")]), splitting(SCRIPTS))
    assert found == (1, 0, []) and not found.many
