"""Names and values of RDF graphs: languages, types and nodes without a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmn.errors import DataError
from hmn.facts.table import FactTable

pytest.importorskip("pyoxigraph", reason="the extra 'rdf' is not installed")

PREFIXES = """@prefix ex: <http://example.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix foaf: <http://xmlns.com/foaf/0.1/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""


def read(tmp_path: Path, body: str, **options: str) -> FactTable:
    path = tmp_path / "g.ttl"
    path.write_text(PREFIXES + body, encoding="utf-8")
    return FactTable.read(path, **options)  # type: ignore[arg-type]


def names_of(table: FactTable, entity: str) -> list[str]:
    return table.names_of(table.entity_number(f"http://example.org/{entity}"))


CITIES = """
ex:a ex:near ex:b ; rdfs:label "Vienna"@en-GB , "Wien"@de ; skos:altLabel "Vindobona"@la , "Wean"@de .
ex:b ex:near ex:a ; rdfs:label "Zürich"@de ; skos:prefLabel "Zurich" .
ex:near rdfs:label "in der Nähe von"@de .
ex:a ex:motto "hello"@en , "hallo"@de ; ex:song "la la"@fr .
"""


def test_names_in_one_language(tmp_path: Path) -> None:
    table = read(tmp_path, CITIES, language="en")
    assert names_of(table, "a") == ["Vienna", "Vindobona", "Wean"]
    assert names_of(table, "b") == ["Zürich", "Zurich"]
    assert sorted({table.fact(cell).object_name for cell in range(len(table))}) == [
        *("Vienna", "Zürich", "hello", "la la")
    ]
    table = read(tmp_path, CITIES, language="DE")
    assert names_of(table, "a") == ["Wien", "Wean"]
    assert "hallo" in table.entities.to_pylist() and "hello" not in table.entities.to_pylist()


def test_a_language_that_no_name_has(tmp_path: Path) -> None:
    table = read(tmp_path, CITIES, language="it")
    assert table.notes == (
        f"{tmp_path / 'g.ttl'}: no name is in the language 'it', expected one of de, en, fr, la",
    )
    assert not read(tmp_path, CITIES, language="en-US").notes
    assert not read(tmp_path, 'ex:a ex:near ex:b ; rdfs:label "Vienna" .', language="it").notes


@pytest.mark.parametrize(("german", "english", "used"), [(3, 2, "en"), (5, 2, "de"), (0, 2, ""), (2, 0, "")])
def test_the_language_of_most_names(tmp_path: Path, german: int, english: int, used: str) -> None:
    labels = [f'ex:{n} rdfs:label "Stadt {n}"@de .' for n in range(german)]
    labels += [f'ex:{n} rdfs:label "city {n}"@en .' for n in range(english)]
    table = read(tmp_path, "ex:0 ex:near ex:1 .\n" + "\n".join(labels))
    assert names_of(table, "0") == ["Stadt 0" if used == "de" or not english else "city 0"]
    assert [note for note in table.notes if f": {used} is used" in note] == list(table.notes)
    assert len(table.notes) == bool(used)


@pytest.mark.parametrize(
    ("literal", "shown"),
    [
        ('"1965-08-01T00:00:00Z"^^xsd:dateTime', "1965-08-01"),
        ('"+1965-08-01T00:00:00Z"', "1965-08-01"),
        ('"1965-08-01T10:30:00Z"^^xsd:dateTime', "1965-08-01T10:30:00Z"),
        ('"1965"^^xsd:gYear', "1965"),
        ("4.50", "4.50"),
        ("true", "true"),
        ('"12 km²"', "12 km²"),
    ],
)
def test_values_lose_their_type(tmp_path: Path, literal: str, shown: str) -> None:
    assert read(tmp_path, f"ex:a ex:p {literal} .").fact(0).object == shown


def test_nodes_without_a_name_are_left_out(tmp_path: Path) -> None:
    table = read(tmp_path, '_:x foaf:name "Ada" ; foaf:knows _:y , ex:bob ; ex:at [ ex:street "Main" ] .')
    assert [table.fact(cell)[3:] for cell in range(len(table))] == [("Ada", "knows", "bob")]
    assert table.notes[0].endswith("g.ttl: left out 3 statements about nodes without a name")


def test_terms_of_rdf_itself_are_no_answers(tmp_path: Path) -> None:
    body = "ex:a a rdfs:Class , <http://www.w3.org/2002/07/owl#Thing> ; a ex:City ."
    assert len(read(tmp_path, body)) == 1
    with pytest.raises(DataError, match="language is ' ', expected a language"):
        read(tmp_path, body, language=" ")


def test_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("Q1\tP19\tQ2\n")
    (tmp_path / "names.nt").write_text(
        '<http://www.wikidata.org/entity/Q1> <http://www.w3.org/2000/01/rdf-schema#label> "Ada"@en .\n'
        '<http://www.wikidata.org/entity/P19> <http://www.w3.org/2000/01/rdf-schema#label> "born in"@en .\n'
    )
    table = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.nt")
    assert table.fact(0)[3:] == ("Ada", "born in", "Q2")
