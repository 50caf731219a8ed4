"""The rows that claims compare, and how their figures are worded."""

from __future__ import annotations

from collections.abc import Sequence

from hmn.paper.verdicts.significance import Accuracy, Difference
from hmn.paper.verdicts.table import Table

SOFTMAX = "full softmax"
"""Row of the full softmax."""
TEN = "exact 10-MIPS"
"""Row of exact K-MIPS with the K that the claims are about."""
FILTER = "keyword filter"
"""Row of the keyword filter with a softmax over its facts."""
CLUSTERS = "clustering"
"""Row of one level of the paper's clusters, all of whose cells are candidates."""
TWO_LEVELS = "two levels of clusters"
"""Row of two levels of the paper's clusters."""
BY_CLUSTERS = "10-MIPS by clusters"
"""Row of 10-MIPS through one level of the paper's clusters."""
OURS = "10-MIPS by hmn's clusters"
"""Row of 10-MIPS through hmn's own clusters."""
OURS_AT_A_TENTH = "10-MIPS by hmn's clusters with a tenth of the reads"
"""Row of the same with a tenth of the reads of exact search."""
SMALLER_K = ("exact 10-MIPS", "exact 50-MIPS", "exact 100-MIPS", "exact 1000-MIPS")
"""Rows of exact K-MIPS by rising K."""
FAMILIES = (CLUSTERS, "WTA-Hash", "PCA-Tree")
"""Rows of the paper's three families of structures."""
FAMILIES_AT_SPEED_UP = tuple(f"{name} at the paper's speed-up" for name in FAMILIES)
"""Rows of the same with more reads."""
SIZES = ("few", "many")
"""Names of the two numbers of clusters in the grid of strategies."""
STRATEGIES = tuple(
    f"{name} with {size} clusters"
    for name in ("Top-K", "Top-K + Sample-K", "Top-K + Rand-block")
    for size in SIZES
)
"""Rows of the strategies that claim 4 compares."""
EQUAL_READS = 1.1
"""Largest ratio of two numbers of reads that count as equal."""


def accuracy_of(table: Table, name: str, how: str = "own") -> Accuracy:
    """The accuracy of a row with one search.

    Raises:
        KeyError: the row was not tested with it.
    """
    accuracy = table.accuracy(name, how)
    if accuracy is None:
        raise KeyError(f"{name} was not tested with its {how} search")
    return accuracy


def compared(table: Table, ours: str, theirs: str, how: str = "own") -> Difference:
    """The accuracy of a row minus that of another.

    Raises:
        KeyError: one of them was not tested with this search.
    """
    return contrast(table, [(1.0, ours), (-1.0, theirs)], how)


def contrast(table: Table, terms: Sequence[tuple[float, str]], how: str) -> Difference:
    """A weighted sum of the accuracies of rows.

    Raises:
        KeyError: one of them was not tested with this search.
    """
    difference = table.contrast(terms, how)
    if difference is None:
        raise KeyError(f"not all of {[name for _, name in terms]} were tested with their {how} search")
    return difference


def points(difference: Difference) -> str:
    """A difference with its margin, in per cent."""
    return f"{100 * difference.value:+z.1f} ± {100 * difference.margin:.1f}"


def percent(accuracy: Accuracy) -> str:
    """An accuracy in per cent."""
    return f"{100 * accuracy.mean.value:.1f}"


def accuracies(table: Table, names: Sequence[str], how: str = "own") -> str:
    """Rows with their accuracies."""
    return ", ".join(f"{name} {percent(accuracy_of(table, name, how))}" for name in names)


def against(table: Table, names: Sequence[str], theirs: str, how: str = "own") -> str:
    """Rows with their accuracies and their differences from another row."""
    each = [
        f"{name} {percent(accuracy_of(table, name, how))} ({points(compared(table, name, theirs, how))})"
        for name in names
    ]
    return f"{', '.join(each)} against {theirs} {percent(accuracy_of(table, theirs, how))}"


def best_epochs(table: Table, *names: str) -> str:
    """Validation under exact search at the best epoch for it, which need not be the one kept."""
    each = ", ".join(f"{name} {100 * table.best_valid(name):.1f}" for name in names)
    return f"at the best epoch under exact search: {each}"


def equal_reads(table: Table, names: Sequence[str]) -> tuple[bool, str]:
    """Whether rows spend about the same reads with their own searches, and these reads in words."""
    means = [table.mean(name, "tested", table.split, "own", "reads") for name in names]
    reads = [mean.value for mean in means if mean is not None]
    equal = max(reads) <= EQUAL_READS * min(reads)
    listed = ", ".join(f"{value:,.0f}" for value in reads)
    return equal, f"reads {listed}" + ("" if equal else ", not equal")
