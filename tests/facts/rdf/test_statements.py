"""RDF in every format gives the same facts; errors name their line."""

from __future__ import annotations

import builtins
import gzip
from pathlib import Path
from typing import Any

import pytest

from hmn.errors import DataError, MissingPackageError
from hmn.facts.questions import QuestionSet
from hmn.facts.table import FactTable

pyoxigraph = pytest.importorskip("pyoxigraph", reason="the extra 'rdf' is not installed")

TURTLE = """@prefix ex: <http://example.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
ex:dune ex:author ex:herbert ; ex:pages 412 ; rdfs:label "Dune"@en .
ex:dune a ex:Book , rdfs:Resource .
ex:herbert ex:born "1920-10-08"^^<http://www.w3.org/2001/XMLSchema#date> .
"""
FACTS = [
    ("http://example.org/dune", "http://example.org/author", "http://example.org/herbert"),
    ("http://example.org/dune", "http://example.org/pages", "412"),
    ("http://example.org/dune", "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "http://example.org/Book"),
    ("http://example.org/herbert", "http://example.org/born", "1920-10-08"),
]
FORMATS = {".nt": "N_TRIPLES", ".nq": "N_QUADS", ".ttl": "TURTLE", ".n3": "TURTLE", ".trig": "TRIG",
           ".rdf": "RDF_XML", ".owl": "RDF_XML", ".jsonld": "JSON_LD"}  # fmt: skip
LINE = "<http://a/x> <http://a/p> <http://a/y> .\n"


def written(path: Path, name: str) -> Path:
    quads = pyoxigraph.parse(TURTLE, format=pyoxigraph.RdfFormat.TURTLE)
    file_format = getattr(pyoxigraph.RdfFormat, name)
    given = (quad.triple for quad in quads) if name in ("N_TRIPLES", "TURTLE", "RDF_XML") else quads
    path.write_bytes(pyoxigraph.serialize(given, format=file_format))
    return path


def facts_of(table: FactTable) -> list[tuple[str, str, str]]:
    return [table.fact(cell)[:3] for cell in range(len(table))]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"g{suffix}", FORMATS[suffix])
    table = FactTable.read(path)
    assert facts_of(table) == FACTS
    assert table.fact(0)[3:] == ("Dune", "author", "herbert")
    (tmp_path / f"g{suffix}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert facts_of(FactTable.read(tmp_path / f"g{suffix}.gz")) == FACTS


@pytest.mark.parametrize("suffix", [*FORMATS, ""])
def test_a_byte_order_mark_is_no_part_of_a_graph(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"g{suffix}", FORMATS.get(suffix, "TURTLE"))
    path.write_bytes("\ufeff".encode() + path.read_bytes())
    assert facts_of(FactTable.read(path)) == FACTS


def test_nodes_without_a_label_are_the_same_at_every_reading(tmp_path: Path) -> None:
    path, other = tmp_path / "g.ttl", tmp_path / "other.ttl"
    prefix = "@prefix e: <http://e/> . @prefix s: <http://schema.org/> .\n"
    path.write_text(prefix + 'e:a e:at [ s:name "Main Street" ; e:no 5 ] , [ s:name "Side Street" ] .')
    first, second = FactTable.read(path), FactTable.read(path)
    assert [first.fact(cell) for cell in range(3)] == [second.fact(cell) for cell in range(3)]
    assert {first.fact(cell).object_name for cell in range(3)} == {"Main Street", "Side Street", "5"}
    assert facts_of(FactTable.read(path, path)) == facts_of(first)
    other.write_text(prefix + 'e:b e:at [ s:name "Another Street" ] .')
    assert first.fact(0).subject_name == FactTable.read(path, other).fact(0).subject_name
    names = {name for cell in range(3) for name in FactTable.read(path, other).fact(cell)[3:]}
    assert "Another Street" not in names


def test_a_graph_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "g.ttl"
    path.write_bytes('<http://a/x> <http://a/p> "Zoë" .\n'.encode("cp1252"))
    with pytest.raises(DataError, match=r"g\.ttl:1: bad RDF \(Invalid UTF-8.*give it \(--encoding windows"):
        FactTable.read(path)
    assert FactTable.read(path, encoding="windows-1252").fact(0).object == "Zoë"


@pytest.mark.parametrize("name", ["N_TRIPLES", "TURTLE", "RDF_XML"])
@pytest.mark.parametrize("file", ["graph", "graph.data"])
def test_a_file_without_a_known_suffix(tmp_path: Path, name: str, file: str) -> None:
    assert facts_of(FactTable.read(written(tmp_path / file, name))) == FACTS


def test_relative_addresses_and_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "g.ttl"
    path.write_text("<é> <http://a/p> <#y> .\n", encoding="utf-16")
    assert facts_of(FactTable.read(path, encoding="utf-16")) == [("é", "http://a/p", "y")]
    with pytest.raises(DataError, match=r"g\.ttl:1: it is in UTF-16"):
        FactTable.read(path)


@pytest.mark.parametrize("suffix", [".nt", ".nq"])
def test_bad_lines_and_repeats_have_their_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g{suffix}"
    path.write_bytes(
        f"# a comment\n\n{LINE}<http://a/x> <p> .\n{LINE}".encode() + b'<http://a/\xff> <b> "c" .\n'
    )
    with pytest.raises(DataError, match=rf"g\{suffix}:6: invalid UTF-8"):
        FactTable.read(path)
    other = tmp_path / f"h{suffix}"
    other.write_text(f"# a comment\n\n{LINE}<http://a/x> <p> .\n{LINE}")
    with pytest.raises(DataError, match=rf"h\{suffix}:4: bad RDF \(.*\); correct the line"):
        FactTable.read(other)
    table = FactTable.read(path, skip_bad=True)
    assert (len(table), table.skipped.total) == (1, 2)
    assert table.repeated.messages == (f"{path}:5: an earlier line has the same fact",)


def test_bad_turtle_and_xml(tmp_path: Path) -> None:
    path = tmp_path / "g.ttl"
    path.write_text(TURTLE + "ex:x ex:p ] .\nex:x ex:p ex:y .\nex:dune ex:pages 412 .\n")
    with pytest.raises(DataError, match=r"g\.ttl:6: bad RDF \(.*\); correct the line"):
        FactTable.read(path)
    table = FactTable.read(path, skip_bad=True)
    assert (len(table), table.skipped.total, table.repeated.total) == (5, 1, 0)
    path = tmp_path / "g.rdf"
    path.write_bytes(written(tmp_path / "whole.rdf", "RDF_XML").read_bytes()[:-60])
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=r"g\.rdf"):
            FactTable.read(path, skip_bad=skip_bad)


def test_a_table_of_questions_is_no_rdf(tmp_path: Path) -> None:
    path = written(tmp_path / "g.ttl", "TURTLE")
    with pytest.raises(DataError, match=r"g\.ttl: it is RDF, expected a table with the columns subject"):
        QuestionSet.read(path, FactTable.read(path))


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "g.ttl", "TURTLE")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pyoxigraph":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"g\.ttl: .*pip install '.*\[rdf\]'"):
        FactTable.read(path)
