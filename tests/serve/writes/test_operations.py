from __future__ import annotations

import json
from typing import Any

import pytest

from hmn.errors import DataError
from hmn.serve.writes.operations import Operation, checked, digest, packed, restored

FACT = ["q1", "person/wrote", "q2"]


def test_operations_are_read_in_the_spelling_of_tables() -> None:
    found = checked(
        [
            {
                "add": [["fb:m.0b", "r", "Zu\u0308rich"], FACT, tuple(FACT)],
                "names": {" q1 ": ["Ada ", "A. L."]},
            },
            {
                "remove": [dict(zip(("subject", "relation", "object"), FACT, strict=True))],
                "ignore_missing": True,
            },
            {"replace": [["q1", "place of birth <P19>", "q3"]], "names": {}},
        ]
    )
    assert found == [
        Operation("add", [("m.0b", "r", "Zürich"), ("q1", "person/wrote", "q2")], {"q1": ["Ada", "A. L."]}),
        Operation("remove", [("q1", "person/wrote", "q2")], ignore_missing=True),
        Operation("replace", [("q1", "place of birth <P19>", "q3")]),
    ]
    assert checked({"add": [FACT]}) == checked([{"add": [FACT]}])


def test_they_are_the_same_after_they_were_packed() -> None:
    given: list[dict[str, Any]] = [
        {"add": [FACT, ["ü", "r", "💡"]], "names": {"ü": ["Ü\u2028", 'quo"te']}},
        {"remove": [FACT], "ignore_missing": True},
        {"replace": [FACT]},
    ]
    operations = checked(given)
    text = packed(operations)
    assert restored(text) == operations
    assert packed(checked(json.loads(text))) == text
    reordered = [{"names": given[0]["names"], "add": given[0]["add"][::-1]}, *given[1:]]
    assert digest(packed(checked(reordered))) == digest(text)
    assert digest(packed(checked(given[:2]))) != digest(text)


def test_a_name_of_a_property_becomes_its_label() -> None:
    (found,) = checked([{"add": [["Q1", "P19", "Q2"]], "names": {"P19": ["place of birth"]}}])
    assert found.facts == [("Q1", "place of birth <P19>", "Q2")] and found.names == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "operations is 3, expected a list"),
        ("add", "operations is 'add', expected a list"),
        ([], "there is no operation"),
        ([3], "operation 1: got 3, expected a dictionary"),
        ([{"add": [FACT]}, {}], r"operation 2: got the fields \[\], expected one of add, remove, replace"),
        ([{"add": [FACT], "remove": [FACT]}], "expected one of"),
        ([{"add": [FACT], "ignore_missing": True}], r"got the fields \['ignore_missing'\] beside add"),
        ([{"remove": [FACT], "names": {}}], "beside remove, expected ignore_missing"),
        ([{"remove": [FACT], "ignore_missing": "yes"}], "ignore_missing is 'yes'"),
        ([{"add": []}], "it holds no fact"),
        ([{"add": None}], "got None, expected rows of three texts"),
        ([{"add": "abc"}], "got 'abc', expected rows of three texts"),
        ([{"add": ["abc"]}], "expected three texts"),
        ([{"add": [["a", "b"]]}], r"operation 1: triples:1: got \['a', 'b'\]"),
        ([{"add": [["a", "b", " "]]}], "expected three texts"),
        ([{"add": [["a", "b", 3]]}], "expected three texts"),
        ([{"add": [{"a": 1, "b": 2, "c": 3}]}], "expected three texts"),
        ([{"add": [{"a", "b", "c"}]}], "expected three texts"),
        ([{"add": [FACT], "names": {"q1": "Ada"}}], "names of 'q1' are 'Ada', expected a list"),
        ([{"add": [FACT], "names": ["Ada"]}], "names is"),
        ([{"add": [FACT], "names": {"q7": ["Ada"]}}], "names are given for 'q7', which no fact"),
        ([{"add": [FACT], "names": {3: ["Ada"]}}], "names of 3"),
    ],
)
def test_what_is_no_operation_is_refused_by_its_number(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked(given)
