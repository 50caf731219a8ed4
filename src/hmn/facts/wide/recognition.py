"""Whether a table is wide, by its first rows, and which of its columns names the entities."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hmn.errors import DataError, closest
from hmn.facts.files.headers import columns_named, plain
from hmn.facts.files.layout import shown
from hmn.facts.wide.cells import MISSING, is_value

FEWEST_COLUMNS = 4
"""Lower limit of the columns of a table that is recognised as wide; three are those of facts."""
FEWEST_RELATIONS = 4
"""Lower limit of the different relations that make rows of three columns look like no facts."""
_LONGEST_NAME = 60
"""Upper limit of the characters of a column's name."""
_SAME_WIDTH = 0.9
"""Share of rows that have as many columns as the first."""
_DISTINCT = 0.75
"""Share of distinct values in the column that names the entities."""
SMALL = 8
"""Upper limit of the rows of a table whose names may come again more often than those of a large one."""
_MOSTLY = 0.5
"""Share of distinct values that the first column of a small table exceeds if it names the entities."""
_YEAR = re.compile(r"[12]\d{3}( ?\[.*\])?")
"""Pattern of a year as the name of a column."""
_ID_NAMES = re.compile(r"(.*[ _-])?(id|entity|item|key|code|qid|no|nr|number|index|uuid|iri|uri|url|iso\d*)")
"""Pattern of the name of a column of ids, which nobody asks by."""
_FACT = ("subject", "relation", "object")
"""Columns of facts."""
_RELATION_NAMES = {"predicate", "pred", "relation", "rel", "relationship", "property", "attribute", "edge"}
"""Names of a column of relations, in tables of facts with further columns."""
_NAME_NAMES = {"name", "label", "title", "full name", "common name", "display name"}
"""Names of a column that names the entities, if the first column holds ids."""


def looks_wide(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns, and each further row is an entity of its own.

    A row of values, such as a fact with its source, is no header: it has numbers or dates in it, or a value
    that comes again in its column.
    """
    header, even = list(rows[0]), _even(rows)
    if len(header) < FEWEST_COLUMNS or not _may_head(header, even) or _has_facts(header, even):
        return False
    return _naming_column(header, even) is not None


def perhaps_wide(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of three columns, which are read as facts, look as if their first row named columns.

    Below that row, a column has only numbers or dates, or no relation comes again.
    """
    header, even = list(rows[0]), _even(rows)
    if len(header) != 3 or not _may_head(header, even):
        return False
    relations = [row[1].strip() for row in even]
    if len(even) >= FEWEST_RELATIONS and len(set(relations)) == len(even):
        return True
    return any(all(is_value(row[place]) for row in even) for place in (1, 2))


def _even(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows below the first that have as many columns; none if they are not nearly all, or too few."""
    even = [row for row in rows[1:] if len(row) == len(rows[0])]
    return even if len(even) >= max(2, _SAME_WIDTH * (len(rows) - 1)) else []


def _may_head(header: Sequence[str], even: Sequence[Sequence[str]]) -> bool:
    """Whether a first row may name the columns of the rows below it."""
    if not even:
        return False
    names = [plain(name) for name in header]
    if sum(not name for name in names) > 1 or any(len(name) > _LONGEST_NAME for name in names):
        return False
    years = sum(_YEAR.fullmatch(name) is not None for name in names)
    values = [name for name in names if is_value(name) and not (years > 1 and _YEAR.fullmatch(name))]
    if values or any(name in MISSING - {""} for name in names):
        return False
    return not any(header[place] in {row[place] for row in even} - {""} for place in range(len(header)))


def names_facts(header: Sequence[str]) -> bool:
    """Whether columns of facts are named among others, such as a source; names that are likely are enough."""
    return any(columns_named(header[place : place + 3], _FACT) for place in range(len(header) - 2))


def _has_facts(header: Sequence[str], even: Sequence[Sequence[str]]) -> bool:
    """Whether columns are those of facts and others, by their names; or some entity has several facts."""
    relations = [place for place, name in enumerate(header) if place and plain(name) in _RELATION_NAMES]
    several = any(len({row[place - 1] for row in even}) < len(even) for place in relations)
    return several or names_facts(header)


def subject_column(
    header: Sequence[str], rows: Sequence[Sequence[str]], wanted: str | None, file: str
) -> int:
    """The place of the column that names the entities: the wanted one, or the first that can.

    Raises:
        DataError: no column has the wanted name.
    """
    if wanted is None:
        place = _naming_column(header, rows)
        return 0 if place is None else place
    names = [plain(name) for name in header]
    if plain(wanted) not in names:
        near = closest(wanted, header)
        raise DataError(
            f"{file}: there is no column {wanted!r:.80}, expected one of {shown(header)}"
            + (f": did you mean {near!r}?" if near else ": give its name with --subject")
        )
    return names.index(plain(wanted))


def _naming_column(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """The first column of distinct texts; a column called ``name`` or the like comes before one of ids.

    In a small table, the first column may do even if a name comes again more often than elsewhere.
    """
    distinct = [row for row in dict.fromkeys(map(tuple, rows)) if any(cell.strip() for cell in row)]
    able = [place for place in range(len(header)) if _names_rows([row[place] for row in distinct])]
    able = [place for place in able if plain(header[place])] or able
    named = [place for place in able if plain(header[place]).replace("_", " ") in _NAME_NAMES]
    first = next((place for place, name in enumerate(header) if plain(name)), 0)
    if first not in able and not named and _names_few([row[first] for row in distinct]):
        return first
    if able and _ID_NAMES.fullmatch(plain(header[able[0]])):
        return next(iter(named), able[0])
    return able[0] if able else None


def _names_rows(cells: Sequence[str]) -> bool:
    """Whether the cells of a column could name the rows: texts, nearly all of them distinct."""
    filled = _filled(cells)
    return len(set(filled)) >= _DISTINCT * len(filled) and not _are_values(filled)


def _names_few(cells: Sequence[str]) -> bool:
    """Whether a first column could name the rows of a small table, where a name or two may come again."""
    filled = _filled(cells)
    return len(cells) <= SMALL and len(set(filled)) > _MOSTLY * len(filled) and not _are_values(filled)


def _filled(cells: Sequence[str]) -> list[str]:
    """The cells that hold values; none if many are empty."""
    filled = [cell.strip() for cell in cells if cell.strip().casefold() not in MISSING]
    return filled if len(filled) >= _DISTINCT * len(cells) else []


def _are_values(cells: Sequence[str]) -> bool:
    """Whether at least half of the cells are numbers, dates and the like, and no names."""
    return sum(map(is_value, cells)) >= len(cells) / 2
