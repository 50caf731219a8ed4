"""Which columns a first row names: by the names that people give them, and by their order."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from hmn.facts.ids import one_form

_ENDING = re.compile(r"[ _-]?(id|name|label|entity|uri|iri)s?$")
"""Pattern of an ending of a likely name that says what kind of value the column has."""


@cache
def known_names() -> dict[str, dict[str, set[str]]]:
    """Other names of columns: ``sure`` and ``likely`` ones; ``headers.toml`` explains them."""
    text = files("hmn.facts.files").joinpath("headers.toml").read_text(encoding="utf-8")
    return {
        kind: {column: set(names) for column, names in columns.items()}
        for kind, columns in tomllib.loads(text).items()
    }


def _sure(column: str) -> set[str]:
    """The names of a column, apart from its own, that are recognised in any order."""
    return known_names()["sure"].get(column, set())


def plain(name: str) -> str:
    """A column's name without the differences that do not matter."""
    return one_form(one_form(name).lstrip("#?").casefold())


def columns_named(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Find the wanted columns among a file's names; None unless all are there.

    A column goes by its own name or a sure one. If the file has no other columns, and has them in the
    order that is wanted, likely names do as well.
    """
    given = [plain(name) for name in names]
    places: list[int] = []
    for column in wanted:
        own = plain(column)
        known = [name for name in (own, *sorted(_sure(column))) if name in given]
        if not known:
            return _in_order(given, wanted)
        places.append(given.index(known[0]))
    return places if len(set(places)) == len(places) else None


def is_sure(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether all wanted columns are there by their own names or by sure ones."""
    given = {plain(name) for name in names}
    return all(given & {plain(column), *_sure(column)} for column in wanted)


def heads_questions(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a row stands above questions, whatever it calls the answers: nobody asks "question"."""
    return (
        wanted[0] == "question"
        and len(names) == len(wanted)
        and plain(names[0]) in {"question", *_sure("question")}
    )


def _in_order(given: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """All places, if each name is a likely one for the column that is wanted there."""
    if len(given) != len(wanted) or len(set(given)) != len(given):
        return None
    for name, column in zip(given, wanted, strict=True):
        known = {column, *_sure(column), *known_names()["likely"].get(column, ())}
        if name not in known and _ENDING.sub("", name) not in known:
            return None
    return list(range(len(given)))
