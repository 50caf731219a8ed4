"""All spellings of an id become one; ids and relations are put into words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import FORMS

from hmn.facts.ids import canonical_id, one_form, readable_id, relation_parts, relation_text


@pytest.mark.parametrize(
    "spelling",
    ["www.freebase.com/m/0a_1", "fb:m.0a_1", "<fb:m.0a_1>", "/m/0a_1", "m/0a_1", "m.0a_1", " m.0a_1 ",
     "http://www.freebase.com/m/0a_1", "<http://rdf.freebase.com/ns/m.0a_1>"],
)  # fmt: skip
def test_spellings_of_a_freebase_entity(spelling: str) -> None:
    assert canonical_id(spelling) == "m.0a_1"


@pytest.mark.parametrize("prefix", ["www.freebase.com/", "www.freebase.com//", "fb:/", "<fb:/>"])
def test_a_prefix_without_an_id_stays_as_it_is(prefix: str) -> None:
    assert canonical_id(prefix) == prefix


@pytest.mark.parametrize(
    "spelling",
    ["www.freebase.com/people/person/place_of_birth", "fb:people.person.place_of_birth",
     "<fb:people.person.place_of_birth>", "/people/person/place_of_birth", "people/person/place_of_birth",
     "<http://rdf.freebase.com/ns/people.person.place_of_birth>"],
)  # fmt: skip
def test_spellings_of_a_freebase_relation(spelling: str) -> None:
    assert canonical_id(spelling) == "people/person/place_of_birth"
    assert canonical_id("~" + spelling) == "~people/person/place_of_birth"
    assert relation_parts(canonical_id(spelling)) == ["people", "person", "place of birth"]


@pytest.mark.parametrize(
    "other",
    ["m/smith", "J.R.R. Tolkien", "city/4250542", "http://dbpedia.org/resource/New_York", "~", "/m/", "a.b.c",
     "/usr/bin", "fb: x", "m", "g.x", "<x>", "3.14", "www.freebase.com"],
)  # fmt: skip
def test_other_ids_are_kept(other: str) -> None:
    assert canonical_id(other) == other


@pytest.mark.parametrize(
    ("entity", "words"),
    [("New_York", "New York"), ("m.0abc", "m.0abc"), ("_", "_"), ("Q42", "Q42"), ("city/12", "city/12"),
     ("<http://dbpedia.org/resource/S%C3%A3o_Paulo>", "São Paulo"), ("http://x.org/a#New_York", "New York"),
     ("<b>bold</b>", "<b>bold</b>"), ("<x>", "x"), ("a < b > c", "a < b > c")],
)  # fmt: skip
def test_readable_id(entity: str, words: str) -> None:
    assert readable_id(entity) == words


@pytest.mark.parametrize(
    ("relation", "words"),
    [("people/person/place_of_birth", "people person place of birth"), ("~city/area", "inverse of city area"),
     ("placeOfBirth", "place of birth"), ("hasISBN", "has ISBN"), ("http://x.org/birthPlace", "birth place"),
     ("capital of", "capital of"), ("people.person.gender", "people person gender"), ("/", "/")],
)  # fmt: skip
def test_relation_in_words(relation: str, words: str) -> None:
    assert relation_text(relation) == words


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_an_id_has_one_form_of_unicode(usual: str, other: str) -> None:
    assert usual != other
    assert canonical_id(f" {other}\u00a0") == canonical_id(usual) == one_form(other) == usual
    assert canonical_id(f"~{other}") == f"~{usual}"


@given(st.text())
def test_the_one_form_is_stable_and_reads_the_same(text: str) -> None:
    form = one_form(text)
    assert one_form(form) == form == one_form(unicodedata.normalize("NFD", text))
    assert "".join(unicodedata.normalize("NFKC", form).split()) == "".join(
        unicodedata.normalize("NFKC", text).split()
    )


@pytest.mark.parametrize("text", ["E²", "½", "…", "№ 5", "ﬁ", "zoë", "ZOË", "～reversed", "a  b"])
def test_names_that_read_otherwise_stay_apart(text: str) -> None:
    assert one_form(text) == text
