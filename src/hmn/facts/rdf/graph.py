"""Facts and names of an RDF graph: its statements, with labels as names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from hmn.errors import DataError
from hmn.facts.files.layout import Row
from hmn.facts.files.source import Source
from hmn.facts.rdf.statements import Statement, Term, read_statements

_SCHEMA = (
    "http://www.w3.org/2000/01/rdf-schema#",
    "http://www.w3.org/2002/07/owl#",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
)
"""Beginnings of the addresses of RDF's own terms, which are no answers."""
_SKOS = "http://www.w3.org/2004/02/skos/core#"
"""Beginning of the addresses of SKOS."""
_NAMES = {
    f"{_SCHEMA[0]}label": 0,
    f"{_SKOS}prefLabel": 0,
    "http://schema.org/name": 0,
    "https://schema.org/name": 0,
    "http://xmlns.com/foaf/0.1/name": 0,
    "http://rdf.freebase.com/ns/type.object.name": 0,
    f"{_SKOS}altLabel": 1,
    "http://schema.org/alternateName": 1,
    "https://schema.org/alternateName": 1,
    "http://rdf.freebase.com/ns/common.topic.alias": 1,
}
"""Rank of a name, by the property that gives it; the lowest is shown."""
_USUAL = "en"
"""Language that is preferred where half as many names have it as have any other."""
_MIDNIGHT = re.compile(r"[+]?(-?\d{4,}-\d\d-\d\d)T00:00:00(?:\.0+)?(?:Z|[+-]00:00)?")
"""Pattern of a date that is written as a time at midnight; group 1 is the date."""


class Graph(NamedTuple):
    """What a graph says.

    Attributes:
        rows: line number, and ids of subject, relation and object.
        names: names of entities and relations, as ``(id, rank, name)``.
    """

    rows: list[Row]
    names: list[tuple[str, int, str]]


def read_graph(source: Source, language: str | None) -> Graph:
    """Read an RDF file.

    A label is a name, and every other statement a fact. Of names and values in several languages, those in
    the given language are kept, and others where there is none. Blank nodes without a name are left out.

    Args:
        source: the file.
        language: a language such as ``de``; None for the one that most names have.

    Raises:
        MissingPackageError: pyoxigraph is missing.
        DataError: the file cannot be read, or has a bad line and bad lines are not skipped.
    """
    if language is not None and (not isinstance(language, str) or not language.strip()):
        raise DataError(f"language is {language!r:.80}, expected a language such as 'en' or 'de'")
    names, facts = [], []
    for statement in read_statements(source):
        if statement.predicate in _NAMES and statement.object.kind == "literal":
            names.append(statement)
        elif not (statement.object.kind == "iri" and statement.object.text.startswith(_SCHEMA)):
            facts.append(statement)
    chosen = (language or _most_frequent(source, names)).strip().lower()
    others = {_main(each.object.language) for each in (*names, *facts)} - {""}
    if language is not None and others and _main(chosen) not in others:
        shown = ", ".join(sorted(others)[:8])
        source.note(f"{source.path}: no name is in the language {language!r}, expected one of {shown}")
    names = _in_language(names, chosen)
    named = {statement.subject.text for statement in names}
    kept = [each for each in facts if _is_named(each.subject, named) and _is_named(each.object, named)]
    if len(kept) < len(facts):
        source.note(
            f"{source.path}: left out {len(facts) - len(kept):,} statements about nodes without a name"
        )
    rows = [
        (each.line, [each.subject.text, each.predicate, _MIDNIGHT.sub(r"\1", each.object.text)])
        for each in _in_language(kept, chosen)
        if each.object.text.strip()
    ]
    ranked = [
        (each.subject.text, 2 * _NAMES[each.predicate] + (not each.object.language), each.object.text)
        for each in names
        if each.object.text.strip()
    ]
    return Graph(rows, ranked)


def _most_frequent(source: Source, names: Iterable[Statement]) -> str:
    """The language to prefer: the one that most names have, or English where it is about as frequent."""
    count = Counter(_main(statement.object.language) for statement in names if statement.object.language)
    if not count:
        return _USUAL
    best = max(sorted(count), key=lambda language: count[language])
    chosen = _USUAL if 2 * count[_USUAL] >= count[best] else best
    if len(count) > 1:
        shown = ", ".join(f"{language} {number:,}" for language, number in count.most_common(5))
        source.note(f"{source.path}: names in several languages ({shown}): {chosen} is used (--language)")
    return chosen


def _in_language(statements: Iterable[Statement], language: str) -> list[Statement]:
    """Of values that one property gives to one subject, those in a language or in none; all if none is."""
    groups: dict[tuple[str, str], list[Statement]] = defaultdict(list)
    for statement in statements:
        groups[statement.subject.text, statement.predicate].append(statement)
    kept = []
    for group in groups.values():
        wanted = [each for each in group if _main(each.object.language) in ("", _main(language))]
        kept += wanted or group
    return kept


def _main(language: str) -> str:
    """A language without its region: ``en`` for ``en-GB``."""
    return language.partition("-")[0]


def _is_named(term: Term, named: set[str]) -> bool:
    """Whether a user can read a term: a blank node needs a name."""
    return term.kind != "blank" or term.text in named
