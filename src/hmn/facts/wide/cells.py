"""What stands in a cell of a wide table: no value, one, or a list of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Cell = str | list[str]
"""A cell: its text, or the values of a list where the file has lists."""

MISSING = {
    *("", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "null", "(null)", "none", "nil"),
    *("-", "--", "–", "—", "―", "?", "..", "...", "…", "\\n"),
}
"""Texts, in lower case, that stand for no value."""
LONGEST_VALUE = 100
"""Upper limit of the characters of a value in a list; longer ones are prose, which is not split."""

_RULE = " \t-:=+"
"""Characters of the rule below a header, as text with ``|`` between the columns often has it."""
_LIST_MARKS = re.compile(r"[;|؛、]")
"""Pattern of what stands between the values of a list: the last but one in Arabic, the last in Chinese."""
_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*)(?:\.(\d+))?")
"""Pattern of a number, perhaps with commas between thousands; groups are sign, whole part and decimals."""
_DECIMAL_COMMA = re.compile(
    r"[+-]?(\d{1,3}(\.\d{3})+|\d+),(\d{1,2}|\d{4,})\D*|[+-]?\d{1,3}(\.\d{3})+(,\d+|\.\d{3})\D*"
)
"""Pattern of a number with a decimal comma, or points between thousands."""
_VALUE = re.compile(
    r"[^\w\s]?\s?[+-]?\d[\d.,'\s/:-]*(?:\s?(?:%|[^\W\d_]{1,4}[²³]?|[€$£¥])(?:/\w{1,3})?)?|true|false|yes|no",
    re.IGNORECASE,
)
"""Pattern of a number, date, percentage or quantity, or a truth value."""
_CODE = re.compile(r"[A-Z]{2}")
"""Pattern of a code of two letters, of which NA is one."""


class Column:
    """Reads the cells of one column.

    Args:
        cells: all cells of the column. Among codes of two letters, NA is one, and no missing value.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        codes = [cell for cell in cells if isinstance(cell, str) and cell.strip().casefold() not in MISSING]
        self._has_codes = bool(codes) and all(_CODE.fullmatch(cell.strip()) for cell in codes)
        self._has_decimal_commas = any(_DECIMAL_COMMA.fullmatch(cell.strip()) for cell in codes)
        self._spelled: dict[tuple[str, str, str], str] = {}

    def values(self, cell: Cell) -> list[str]:
        """The values in a cell, as they are written, without repeats; none if there is no value.

        A number that was written in another way before, such as 1000 for 1,000, is given as it was then.
        1.000 may be a thousand, and is 1 only where it is written so; nor is 1,000 another number where the
        column has decimal commas.
        """
        texts = cell if isinstance(cell, list) else _parts(cell)
        values = (" ".join(text.split()) for text in texts)
        return list(
            dict.fromkeys(self._one_spelling(value) for value in values if not self._is_missing(value))
        )

    def _is_missing(self, value: str) -> bool:
        return value.casefold() in MISSING and not (self._has_codes and value == "NA")

    def _one_spelling(self, value: str) -> str:
        number = _NUMBER.fullmatch(value)
        if number is None or self._has_decimal_commas:
            return value
        decimals = number[3] or ""
        decimals = decimals if len(decimals) == 3 else decimals.rstrip("0")
        key = number[1].strip("+"), number[2].replace(",", ""), decimals
        return self._spelled.setdefault(key, value)


def is_value(text: str) -> bool:
    """Whether a text is a number, a date, a quantity or a truth value, and so no name of a column."""
    return _VALUE.fullmatch(text.strip()) is not None


def is_empty(cells: Sequence[Cell]) -> bool:
    """Whether no cell of a row has any text, but perhaps a rule such as ``---`` of Markdown."""
    return not any(cell.strip(_RULE) if isinstance(cell, str) else cell for cell in cells)


def _parts(cell: str) -> list[str]:
    """The parts of a list in a cell; one part if it is none."""
    parts = _LIST_MARKS.split(cell)
    return parts if all(len(part) <= LONGEST_VALUE for part in parts) else [cell]
