"""The ways to split text into words, by name: a model keeps the one that it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from hmn.errors import ConfigError, expected_one_of
from hmn.qa.words import letters, scripts
from hmn.qa.words.chinese import installed, is_chinese, simplified
from hmn.qa.words.folding import plain

if TYPE_CHECKING:
    from hmn.facts.table import FactTable

AUTO = "auto"
"""Setting that chooses the newest way, with Chinese where the table is Chinese and OpenCC is installed."""
LETTERS = "letters"
"""The way of version 0.1: runs of letters, without accents and signs."""
SCRIPTS = "scripts"
"""The way of today: by script, with accents and signs that break ties."""
CHINESE = "scripts+chinese"
"""The way of today, in which traditional and simplified Chinese are one."""


LOOKED_AT = 5000
"""Number of entities whose names decide whether a table is Chinese."""


@dataclass(frozen=True)
class Splitting:
    """A way to split text into words.

    Attributes:
        name: Its name in the settings.
        words: Splits a text into words, as they are spelled.
        plain: Gives the plain form of a word; words with one plain form find each other.
        kinds: Number of kinds of features; see ``hmn.qa.text``.
    """

    name: str
    words: Callable[[str], list[str]]
    plain: Callable[[str], str]
    kinds: int


@lru_cache
def splitting(name: str) -> Splitting:
    """A way to split text, by its name in the settings.

    Raises:
        ConfigError: There is no such way.
        MissingPackageError: It needs a package that is not installed.
    """
    if name == LETTERS:
        return Splitting(LETTERS, letters.words, str, 5)
    if name in (AUTO, SCRIPTS):
        return Splitting(SCRIPTS, scripts.words, plain, 6)
    if name == CHINESE:
        convert = simplified()
        return Splitting(CHINESE, scripts.words, lambda word: convert(plain(word)), 6)
    raise ConfigError(f"splitting is {name!r}, {expected_one_of(name, (AUTO, LETTERS, SCRIPTS, CHINESE))}")


def chosen_splitting(name: str, facts: FactTable) -> str:
    """The way that a setting means for a table: itself, unless it is ``auto``.

    Raises:
        ConfigError, MissingPackageError: See ``splitting``.
    """
    if name == AUTO and installed() and is_chinese(some_names(facts)):
        name = CHINESE
    return splitting(name).name


def some_names(facts: FactTable) -> list[str]:
    """Names of some entities from everywhere in a table."""
    step = max(1, len(facts.entities) // LOOKED_AT)
    return [name for entity in range(0, len(facts.entities), step) for name in facts.names_of(entity)]
