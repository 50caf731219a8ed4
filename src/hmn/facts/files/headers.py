"""Which columns a first row names: by the names that people give them, and by their order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hmn.facts.ids import one_form

SURE = {
    "subject": {"head"},
    "relation": {"predicate"},
    "object": {"tail"},
    "answers": {"answer"},
    "entity": {"id"},
    "name": {"label"},
}
"""Other names of columns, which are recognised in any order and among other columns."""
LIKELY = {
    "subject": {"s", "h", "sub", "subj", "source", "src", "from", "item", "entity", "node1", "e1"},
    "relation": {"r", "p", "rel", "pred", "property", "attribute", "type", "edge", "relationship", "verb"},
    "object": {"o", "t", "obj", "target", "tgt", "to", "value", "node2", "e2"},
    "question": {"query", "text", "utterance"},
    "answers": {"target", "object", "label"},
    "entity": {"item", "key", "uri", "iri", "url", "qid", "mid", "node", "subject"},
    "name": {"title", "alias", "text", "itemlabel", "labels", "names"},
}
"""Further names of columns, which are recognised where all columns are wanted ones in their usual order."""

_ENDING = re.compile(r"[ _-]?(id|name|label|entity|uri|iri)s?$")
"""Pattern of an ending of a likely name that says what kind of value the column has."""


def plain(name: str) -> str:
    """A column's name without the differences that do not matter."""
    return one_form(one_form(name).lstrip("#?").casefold())


def columns_named(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Find the wanted columns among a file's names; None unless all are there.

    A column goes by its own name or one of ``SURE``. If the file has no other columns, and has them in the
    order that is wanted, names of ``LIKELY`` do as well.
    """
    given = [plain(name) for name in names]
    places: list[int] = []
    for column in wanted:
        own = plain(column)
        known = [name for name in (own, *sorted(SURE.get(column, ()))) if name in given]
        if not known:
            return _in_order(given, wanted)
        places.append(given.index(known[0]))
    return places if len(set(places)) == len(places) else None


def is_sure(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether all wanted columns are there by their own names or by those of ``SURE``."""
    given = {plain(name) for name in names}
    return all(given & {plain(column), *SURE.get(column, ())} for column in wanted)


def _in_order(given: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """All places, if each name is a likely one for the column that is wanted there."""
    if len(given) != len(wanted) or len(set(given)) != len(given):
        return None
    for name, column in zip(given, wanted, strict=True):
        known = {column, *SURE.get(column, ()), *LIKELY.get(column, ())}
        if name not in known and _ENDING.sub("", name) not in known:
            return None
    return list(range(len(given)))
