from __future__ import annotations

import pytest

from hmn.errors import DataError
from hmn.facts.changing import ChangingTable
from hmn.facts.table import FactTable
from hmn.serve.find import find_facts

FACTS = [
    ("q1", "person/born_in", "london"),
    ("q1", "person/wrote", "notes"),
    ("q2", "person/born_in", "wien"),
    ("q2", "person/wrote", "letters"),
    ("wien", "place/named_after", "q1"),
]
NAMES = {"q1": ["Ada Lovelace", "Countess"], "q2": ["Zoë Müller"], "wien": ["Wien", "Vienna"]}


def tables() -> list[FactTable]:
    """The same facts: in an ordinary table, and in one from which others were removed."""
    plain = FactTable.from_triples(FACTS, NAMES)
    changing = ChangingTable(FactTable.from_triples([*FACTS[:3], ("q1", "person/wrote", "gone")], NAMES))
    changing.add(FactTable.from_triples(FACTS, NAMES))
    changing.remove(changing.cells_of(["q1"], ["person/wrote"], ["gone"]))
    return [plain, changing]


@pytest.mark.parametrize("table", tables(), ids=["plain", "changing"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"subject": "q1"}, [0, 1]),
        ({"subject": "ada  LOVELACE"}, [0, 1]),
        ({"subject": "nobody"}, []),
        ({"subject": "gone"}, []),
        ({"object": "vienna"}, [2]),
        ({"object": "gone"}, []),
        ({"subject": "Zoe\u0308 Mu\u0308ller", "object": "letters"}, [3]),
        ({"subject": "q1", "object": "letters"}, []),
        ({"relation": "person/wrote"}, [1, 3]),
        ({"relation": "Person Wrote"}, [1, 3]),
        ({"relation": "person"}, []),
        ({"relation": "person/wrote", "subject": "countess"}, [1]),
        ({"text": "LOVE"}, [0, 1, 4]),
        ({"text": "müll"}, [2, 3]),
        ({"text": "MÜLL"}, [2, 3]),
        ({"text": "named"}, [4]),
        ({"text": "vienn", "relation": "person/born_in"}, [2]),
        ({"text": "100%"}, []),
    ],
)
def test_facts_are_found(table: FactTable, given: dict[str, str], expected: list[int]) -> None:
    page = find_facts(table, **given)  # type: ignore[arg-type]
    assert sorted(fact[:3] for fact in page.facts) == [FACTS[row] for row in expected]
    assert page.next is None


@pytest.mark.parametrize("table", tables(), ids=["plain", "changing"])
@pytest.mark.parametrize("limit", [1, 2, 4, 5])
def test_pages_have_each_fact_once(table: FactTable, limit: int) -> None:
    pages, after = [], None
    while not pages or after is not None:
        page = find_facts(table, after=after, limit=limit)
        pages.append([fact[:3] for fact in page.facts])
        after = page.next
    assert [len(page) for page in pages] == [limit] * (5 // limit) + [5 % limit] * (5 % limit > 0)
    assert sorted(fact for page in pages for fact in page) == FACTS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"subject": " "}, "subject is ' ', expected a text"),
        ({"text": "\ud800"}, "text is"),
        ({"limit": 0}, "limit is 0, expected a whole number from 1 to 1000"),
        ({"limit": True}, "limit is True"),
        ({"after": -1}, "after is -1"),
    ],
)
def test_odd_values_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_facts(tables()[0], **given)  # type: ignore[arg-type]


def test_a_page_is_ready_for_json() -> None:
    page = find_facts(tables()[0], limit=1, version=7).as_dict()
    assert page["facts"][0]["subject_name"] == "Ada Lovelace"
    assert (page["version"], page["next"]) == (7, 0)
