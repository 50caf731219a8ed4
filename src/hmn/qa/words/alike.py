"""Names that differ and yet read the same: a question cannot tell their facts apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hmn.facts.lookup import folded
from hmn.qa.words.splitting import Splitting

if TYPE_CHECKING:
    from hmn.facts.table import FactTable

EXAMPLES = 3
"""Number of pairs of names that are shown."""
MANY = 0.01
"""Share of names that read like another one from which it is worth a word."""


class NamesAlike(NamedTuple):
    """What the names of a table's subjects have in common.

    Attributes:
        names: Number of different names.
        alike: Number of names that read the same as another subject's.
        examples: Some pairs of such names.
    """

    names: int
    alike: int
    examples: list[tuple[str, str]]

    @property
    def many(self) -> bool:
        """Whether the share of such names is above ``MANY``."""
        return self.alike > MANY * self.names

    def __str__(self) -> str:
        """The report in a sentence."""
        pairs = " and ".join(f"{one!r:.60} like {other!r:.60}" for one, other in self.examples)
        return f"{self.alike:,} of {self.names:,} names read the same as another one: {pairs}"


def names_alike(facts: FactTable, splitting: Splitting) -> NamesAlike:
    """Count the names that read the same as another subject's.

    Names that differ in case and spacing alone are one, and so are those of one subject that read the same.
    """
    same: dict[str, dict[str, str]] = {}  # by what is read: each spelling, and the name that has it
    for entity in np.unique(facts.subject).tolist():
        own = {" ".join(splitting.words(name)): name for name in reversed(facts.names_of(entity))}
        for read, name in own.items():
            same.setdefault(read, {}).setdefault(folded(name), name)
    groups = [list(spellings.values()) for spellings in same.values() if len(spellings) > 1]
    examples = [(names[0], names[1]) for names in groups[:EXAMPLES]]
    return NamesAlike(sum(map(len, same.values())), sum(map(len, groups)), examples)
