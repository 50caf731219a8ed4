"""Whether a table is wide, by its first rows, and which of its columns names the entities."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hmn.errors import DataError, closest
from hmn.facts.files.headers import plain
from hmn.facts.files.layout import shown
from hmn.facts.wide.cells import MISSING, is_value

FEWEST_COLUMNS = 4
"""Lower limit of the columns of a table that is recognised as wide; three are those of facts."""
_LONGEST_NAME = 60
"""Upper limit of the characters of a column's name."""
_SAME_WIDTH = 0.9
"""Share of rows that have as many columns as the first."""
_DISTINCT = 0.75
"""Share of distinct values in the column that names the entities."""
_YEAR = re.compile(r"[12]\d{3}( ?\[.*\])?")
"""Pattern of a year as the name of a column."""
_ID_NAMES = re.compile(r"(.*[ _-])?(id|entity|item|key|code|qid|no|nr|number|index|uuid|iri|uri|url|iso\d*)")
"""Pattern of the name of a column of ids, which nobody asks by."""
_NAME_NAMES = {"name", "label", "title", "full name", "common name", "display name"}
"""Names of a column that names the entities, if the first column holds ids."""


def looks_wide(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns, and each further row is an entity of its own.

    A row of values, such as a fact with its source, is no header: it has numbers or dates in it, or a value
    that comes again in its column.
    """
    header, body = list(rows[0]), rows[1:]
    even = [row for row in body if len(row) == len(header)]
    if len(header) < FEWEST_COLUMNS or len(even) < 2 or len(even) < _SAME_WIDTH * len(body):
        return False
    names = [plain(name) for name in header]
    if sum(not name for name in names) > 1 or any(len(name) > _LONGEST_NAME for name in names):
        return False
    years = sum(_YEAR.fullmatch(name) is not None for name in names)
    values = [name for name in names if is_value(name) and not (years > 1 and _YEAR.fullmatch(name))]
    if values or any(name in MISSING - {""} for name in names):
        return False
    recurs = any(header[place] in {row[place] for row in even} - {""} for place in range(len(header)))
    return not recurs and _naming_column(header, even) is not None


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
    """The first column of distinct texts; a column called ``name`` or the like comes before one of ids."""
    distinct = [row for row in dict.fromkeys(map(tuple, rows)) if any(cell.strip() for cell in row)]
    able = [place for place in range(len(header)) if _names_rows([row[place] for row in distinct])]
    able = [place for place in able if plain(header[place])] or able
    if not able:
        return None
    if _ID_NAMES.fullmatch(plain(header[able[0]])):
        named = [place for place in able if plain(header[place]).replace("_", " ") in _NAME_NAMES]
        return next(iter(named), able[0])
    return able[0]


def _names_rows(cells: Sequence[str]) -> bool:
    """Whether the cells of a column could name the rows: texts, nearly all of them distinct."""
    filled = [cell.strip() for cell in cells if cell.strip().casefold() not in MISSING]
    if len(filled) < _DISTINCT * len(cells) or len(set(filled)) < _DISTINCT * len(filled):
        return False
    return sum(map(is_value, filled)) < len(filled) / 2
