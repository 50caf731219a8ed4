"""Texts of equal width are in the order of Python's, and are found as in a dictionary, whatever they hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmn.facts.files.texts import WIDEST, fixed_width, is_ascending, large, lengths, places_in

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
KINDS = st.sampled_from([pa.string(), pa.large_string()])


@given(st.lists(TEXT, max_size=12), KINDS, st.integers(0, 3))
def test_a_part_of_an_array_holds_its_own_texts(texts: list[str], kind: pa.DataType, first: int) -> None:
    part = pa.array(["before", *texts, "after"], kind)[1 : 1 + len(texts)][first:]
    wanted = texts[first:]
    assert large(part).type == pa.large_string() and large(part).to_pylist() == wanted
    assert lengths(part).tolist() == [len(text.encode()) for text in wanted]
    found = fixed_width(part)
    assert found is not None and [text.decode() for text in found.tolist()] == wanted


@given(st.lists(TEXT, max_size=12))
def test_the_order_is_that_of_python(texts: list[str]) -> None:
    found = fixed_width(pa.array(texts, pa.large_string()))
    assert found is not None
    assert [text.decode() for text in np.sort(found).tolist()] == sorted(texts)
    assert is_ascending(found) == (sorted(set(texts)) == texts)


@given(st.lists(TEXT, unique=True, max_size=12), st.lists(TEXT, max_size=12), st.data())
def test_places_are_those_of_a_list(known: list[str], others: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.permutations(others + known))
    places = places_in(pa.array(wanted, pa.large_string()), pa.array(known, pa.large_string()))
    assert places.tolist() == [known.index(text) if text in known else -1 for text in wanted]


@pytest.mark.parametrize("odd", ["long " * WIDEST, "with a \0 in it", "ends with a \0"])
def test_texts_that_have_no_fixed_width_are_found_all_the_same(odd: str) -> None:
    known = pa.array(["a", odd, "c"], pa.large_string())
    assert fixed_width(known) is None
    assert places_in(pa.array([odd, "b", "c"], pa.large_string()), known).tolist() == [1, -1, 2]
    assert places_in(pa.array(["a", odd], pa.large_string()), known[:1]).tolist() == [0, -1]
