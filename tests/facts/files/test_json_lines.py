"""Values of JSON objects, and objects that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.facts.files.written import read, read_skipping

from hmn.errors import DataError


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad JSON"),
        ("[" * 200_000, "bad JSON"),
        ('["a", "r", "b"]', "a JSON list, expected one object per line"),
        (
            '{"subject": "a", "object": "b"}',
            "has keys 'subject', 'object', expected subject, relation, object",
        ),
        ('{"subject": "a", "relation": null, "object": "b"}', "'relation' is NoneType"),
        ('{"subject": "a", "relation": true, "object": "b"}', "'relation' is bool"),
        ('{"subject": "a", "relation": NaN, "object": "b"}', "'relation' is float"),
        ('{"subject": "a", "relation": ["r"], "object": "b"}', "'relation' is list"),
        ('{"subject": "a", "relation": "", "object": "b"}', "empty field: relation"),
        (
            '{"subject": "a", "relation": "r\\u0000", "object": "b"}',
            "NUL character in the value of 'relation'",
        ),
        ('{"subject": "a", "relation": "\\ud800", "object": "b"}', "surrogate"),
    ],
)
def test_bad_json(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"subject": "a", "relation": "r", "object": 7}\n' + line + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert reason in str(error.value)
    rows, skipped = read_skipping(path)
    assert (rows, skipped.total) == ([["a", "r", "7"]], 1)


def test_json_numbers_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text('{"subject": 12345678901234567890, "relation": 1.10, "object": "b", "more": []}\n')
    assert read(path) == [(1, ["12345678901234567890", "1.10", "b"])]


def test_one_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text('[{"head": "a",\n "relation": "r", "tail": 1.50},\n {"head": "c", "relation": "r"}, 7]\n')
    rows, skipped = read_skipping(path)
    assert (rows, skipped.total) == ([["a", "r", "1.50"]], 2)
    assert skipped.messages[0].startswith(f"{path}:2: the JSON object has keys 'head', 'relation', expected")
    for content in ("[{]", "[" * 200_000, "[]"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"facts\.json: (bad JSON|no rows)"):
            read(path)
