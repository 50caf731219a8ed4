"""The paper's seven claims and some of ours, each decided by a rule that was fixed before its figures.

``report/text/claims.md`` has the claims and their rules in words, ``decisions`` has them as code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hmn.paper.verdicts import decisions
from hmn.paper.verdicts.compared import (
    BY_CLUSTERS,
    CLUSTERS,
    FAMILIES,
    FAMILIES_AT_SPEED_UP,
    FILTER,
    OURS,
    OURS_AT_A_TENTH,
    SMALLER_K,
    SOFTMAX,
    STRATEGIES,
    TEN,
    TWO_LEVELS,
)
from hmn.paper.verdicts.decisions import UNDECIDED, Decision
from hmn.paper.verdicts.table import Table

ONE_SEED = "one seed"
"""Note on a verdict whose noise from seed to seed nothing measures."""
STILL_RISING = "still rising"
"""Note on a verdict that rests on a row whose training was cut too early."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        number: number of the claim, with a letter where it is judged in parts.
        verdict: ``holds``, ``does not`` or ``undecided``.
        figures: figures that it was decided by.
        note: what the verdict lacks: ``one seed``, ``still rising``, or nothing.
    """

    number: str
    verdict: str
    figures: str
    note: str = ""

    @property
    def text(self) -> str:
        """The verdict with its note."""
        if self.note == STILL_RISING:
            return f"{self.verdict}: {self.note}"
        return f"{self.verdict} ({self.note})" if self.note else self.verdict


class Claim(NamedTuple):
    """A claim, the rows and the search that it needs, and how it is decided."""

    number: str
    needed: tuple[str, ...]
    how: str
    decide: Callable[[Table], Decision]
    by_curve: bool = False
    """Whether it is decided by when an accuracy is reached."""


CLAIMS = (
    Claim("1", (SOFTMAX, *SMALLER_K), "own", decisions.smaller_k),
    Claim("2a", (SOFTMAX, TEN), "own", decisions.in_epochs, by_curve=True),
    Claim("2b", (SOFTMAX, TEN), "own", decisions.in_seconds, by_curve=True),
    Claim("3a", FAMILIES, "own", decisions.clusters_best),
    Claim("3b", FAMILIES_AT_SPEED_UP, "own", decisions.clusters_best_at_speed_up),
    Claim("4", STRATEGIES, "exact", decisions.strategies),
    Claim("5", (TEN, FILTER), "own", decisions.keyword_filter),
    Claim("6a", (SOFTMAX, TWO_LEVELS), "exact", decisions.hierarchy, by_curve=True),
    Claim("6b", (TWO_LEVELS, CLUSTERS), "own", decisions.levels),
    Claim("7", (TEN, BY_CLUSTERS), "exact", decisions.search_in_training),
    Claim("8a", (OURS, BY_CLUSTERS), "own", decisions.our_clusters),
    Claim("8b", (TEN, OURS_AT_A_TENTH), "own", decisions.at_a_tenth),
)
"""All claims, in the order of the report."""


def verdicts(table: Table) -> list[Verdict]:
    """A verdict on each claim; undecided where a row that it needs was not run, or was cut too early."""
    return [_judged(table, claim) for claim in CLAIMS]


def _judged(table: Table, claim: Claim) -> Verdict:
    missing = [name for name in claim.needed if table.accuracy(name, claim.how) is None]
    if missing:
        return Verdict(claim.number, UNDECIDED, f"not run yet: {', '.join(missing)}")
    verdict, figures = claim.decide(table)
    rising = [name for name in claim.needed if table.rising(name)]
    if rising:
        figures = f"{figures}; stopped while rising: {', '.join(rising)}"
        return Verdict(claim.number, UNDECIDED, figures, STILL_RISING)
    unsure = verdict != UNDECIDED and table.one_seed(claim.needed, curves=claim.by_curve)
    return Verdict(claim.number, verdict, figures, ONE_SEED if unsure else "")
