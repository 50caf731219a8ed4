"""Rows in any order and spelling become the same numbered facts; repeats are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from tests.facts.tables import Triple, quick, some_triples, triples_of

from hmn.errors import DataError
from hmn.facts.numbering import canonical, from_columns, in_order
from hmn.facts.table import FactTable


@quick
@given(triples=some_triples)
def test_inverse_adds_each_fact_backwards(triples: list[Triple]) -> None:
    facts = FactTable.from_triples(triples, inverse=True)
    assert triples_of(facts) == sorted([*triples, *((o, f"~{r}", s) for s, r, o in triples)])


def test_inverse_of_a_table_that_has_some_already() -> None:
    facts = FactTable.from_triples([("a", "r", "b"), ("b", "~r", "a")], inverse=True)
    assert triples_of(facts) == [("a", "r", "b"), ("b", "~r", "a")]


def test_fb2m_line_with_several_objects(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_text(
        "www.freebase.com/m/0x\twww.freebase.com/a/b/c\twww.freebase.com/m/0z www.freebase.com/m/0y\n"
        "fb:m.0x\tfb:a.b.c\tNew York City\n"
        "m.0x\ta/b/c\tfb:m.0q other\n"
    )
    assert triples_of(FactTable.read(path)) == [
        ("m.0x", "a/b/c", entity) for entity in ("New York City", "fb:m.0q other", "m.0y", "m.0z")
    ]


def test_repeated_fact_is_kept_once_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("b\tr\tc\na\tr\tb\nm.0a\tr\tm.0b\n\nfb:m.0a\tr\tfb:m.0c fb:m.0b\na\tr\tb\n")
    facts = FactTable.read(path)
    assert triples_of(facts) == [
        ("a", "r", "b"),
        ("b", "r", "c"),
        ("m.0a", "r", "m.0b"),
        ("m.0a", "r", "m.0c"),
    ]
    assert (facts.skipped.total, facts.repeated.total) == (0, 2)
    assert [message.split(":")[1:] for message in facts.repeated.messages] == [
        [line, " an earlier line has the same fact"] for line in ("5", "6")
    ]
    again = FactTable.from_triples([*triples_of(facts), ("a", "r", "b")], inverse=True)
    assert (len(again), again.repeated.messages) == (8, ("triples:5: an earlier line has the same fact",))


@pytest.mark.parametrize("triples", [[], [("a", "r")], [("a", "r", "b"), ("a", " ", "b")], [("a", 1, "b")]])
def test_bad_triples(triples: list[Triple]) -> None:
    with pytest.raises(DataError, match=f"triples:?{len(triples) or ''}"):
        FactTable.from_triples(triples)


ORDERED = (["a", "b", "é"], ["r", "s"], [0, 0, 1, 2], [0, 1, 0, 1], [1, 2, 0, 2])
"""Entities, relations, and the numbers of subjects, relations and objects of a canonical table."""


def columns(
    entities: list[str], relations: list[str], *numbers: list[int], objects: list[str] | None = None
) -> list[pa.ChunkedArray]:
    """Columns of facts as a saved table has them."""
    ids = (entities, relations, entities if objects is None else objects)
    return [
        pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(texts))])
        for places, texts in zip(numbers, ids, strict=True)
    ]


def test_columns_of_a_canonical_table_are_taken_as_they_are() -> None:
    found = in_order(*columns(*ORDERED))
    assert found is not None
    facts, repeated = canonical(from_columns(*columns(*ORDERED)))
    assert (found[0].to_pylist(), found[1]) == (facts.entities, facts.relations) and not len(repeated)
    assert found[0].type == pa.large_string()
    for ours, theirs in zip(found[2:], facts[2:], strict=True):
        assert ours.tolist() == theirs.tolist() and ours.dtype == theirs.dtype == np.int32


@pytest.mark.parametrize(
    "odd",
    [
        columns(["b", "a", "é"], *ORDERED[1:]),
        columns(["a", "a", "é"], *ORDERED[1:]),
        columns(["a", "b", "long " * 99], *ORDERED[1:]),
        columns(["a", "b", "c", "unused"], *ORDERED[1:]),
        columns(ORDERED[0], ["s", "r"], *ORDERED[2:]),
        columns(ORDERED[0], ["r", "s", "unused"], *ORDERED[2:]),
        columns(*ORDERED, objects=["a", "b", "z"]),
        columns(*ORDERED[:2], [0, 1, 0, 2], *ORDERED[3:]),
        columns(*ORDERED[:2], [0, 0, 0, 2], [0, 0, 1, 1], [1, 1, 0, 2]),
        [pa.chunked_array([*part.chunks, *part.chunks]) for part in columns(*ORDERED)],
    ],
)
def test_columns_that_may_not_be_in_order_are_not(odd: list[pa.ChunkedArray]) -> None:
    assert in_order(*odd) is None
