"""The paper's seven claims, each decided by a rule that was fixed before there were figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hmn.paper.table import Accuracy, Table, compare, sign

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not", "undecided"
SOFTMAX, TEN, FILTER, CLUSTERS = "full softmax", "exact 10-MIPS", "keyword filter", "clustering"
TWO_LEVELS, BY_CLUSTERS = "two levels of clusters", "10-MIPS by clusters"
SMALLER_K = ("exact 10-MIPS", "exact 50-MIPS", "exact 100-MIPS", "exact 1000-MIPS")
SIZES = ("few", "many")
REACHED = 0.95
"""Share of the flat memory's best validation accuracy at which training counts as converged."""
SLOWER = 1.1
"""Times as many seconds: what takes less more than this is neither slower nor faster."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: the claim.
        rule: how it is decided.
        verdict: ``holds``, ``does not`` or ``undecided``.
        figures: what it was decided by.
    """

    claim: str
    rule: str
    verdict: str
    figures: str


def verdicts(table: Table) -> list[Verdict]:
    """A verdict on each claim; undecided where a row that it needs was not run."""
    found = []
    for claim, rule, needed, decide in CLAIMS:
        missing = [name for name in needed if name not in table]
        if missing:
            found.append(Verdict(claim, rule, UNDECIDED, f"not run: {', '.join(missing)}"))
        else:
            found.append(Verdict(claim, rule, *decide(table)))
    return found


Decision = tuple[str, str]


def _of(table: Table, name: str, how: str = "own") -> Accuracy:
    found = table.accuracy(name, how)
    if found is None:
        raise KeyError(f"{name} was not tested with its {how} search")
    return found


def _told(table: Table, *names: str, how: str = "own") -> str:
    return ", ".join(f"{name} {_percent(_of(table, name, how))}" for name in names)


def _percent(one: Accuracy) -> str:
    return f"{100 * one.mean.value:.1f} ± {100 * one.error:.1f}"


def _smaller_k(table: Table) -> Decision:
    softmax = _of(table, SOFTMAX)
    against = [compare(_of(table, name), softmax) for name in SMALLER_K]
    trend = compare(_of(table, SMALLER_K[0]), _of(table, SMALLER_K[-1]))
    verdict = UNDECIDED
    if "less" in against or trend == "less":
        verdict = DOES_NOT
    elif trend == "more":
        verdict = HOLDS
    shown = ["exact 1-MIPS"] if "exact 1-MIPS" in table else []
    return verdict, _told(table, SOFTMAX, *shown, *SMALLER_K)


def _converges(table: Table) -> Decision:
    goal = REACHED * table.best_valid(SOFTMAX)
    verdict, told = [], []
    for clock in ("epoch", "seconds"):
        flat, ours = table.until(SOFTMAX, goal, clock), table.until(TEN, goal, clock)
        if flat is None:
            return UNDECIDED, f"not every run of {SOFTMAX} reached {100 * goal:.1f} %"
        if ours is None:
            return DOES_NOT, f"{TEN} did not reach {100 * goal:.1f} % in every run"
        slower = flat.value + 1 if clock == "epoch" else flat.value * SLOWER
        verdict.append(DOES_NOT if ours.value > slower else HOLDS if ours.value <= flat.value else UNDECIDED)
        told.append(f"{TEN} {ours.value:,.1f} {clock}s, {SOFTMAX} {flat.value:,.1f}".replace("ss,", "s,"))
    together = DOES_NOT if DOES_NOT in verdict else UNDECIDED if UNDECIDED in verdict else HOLDS
    return together, f"until {100 * goal:.1f} % on validation: " + "; ".join(told)


def _clusters_best(table: Table) -> Decision:
    names = (CLUSTERS, "WTA-Hash", "PCA-Tree")
    against = [compare(_of(table, CLUSTERS), _of(table, name)) for name in names[1:]]
    reads = {name: table.mean(name, "tested", table.split, "own", "reads") for name in names}
    told = (
        _told(table, *names)
        + "; reads "
        + ", ".join(f"{mean.value:,.0f}" for mean in reads.values() if mean is not None)
    )
    values = [mean.value for mean in reads.values() if mean is not None]
    if max(values) > 1.25 * min(values):
        return UNDECIDED, told + ": not equal"
    if "less" in against:
        return DOES_NOT, told
    return (HOLDS if against == ["more", "more"] else UNDECIDED), told


def _strategies(table: Table) -> Decision:
    sample, block = (_both(table, f"Top-K + {part}", "Top-K") for part in ("Sample-K", "Rand-block"))
    told = _told(table, *NEEDED_STRATEGIES)
    if sample == "less" or block == "more":
        return DOES_NOT, told
    return (HOLDS if sample == "more" else UNDECIDED), told


def _both(table: Table, ours: str, theirs: str) -> str:
    """Compare two strategies over both numbers of clusters together."""
    pairs = [
        (_of(table, f"{ours} with {size} clusters"), _of(table, f"{theirs} with {size} clusters"))
        for size in SIZES
    ]
    difference = sum(one.mean.value - two.mean.value for one, two in pairs) / len(pairs)
    error = sum(one.error**2 + two.error**2 for one, two in pairs) ** 0.5 / len(pairs)
    return sign(difference, 2 * error)


def _filter(table: Table) -> Decision:
    found = compare(_of(table, TEN), _of(table, FILTER))
    return {"more": HOLDS, "less": DOES_NOT, "level": UNDECIDED}[found], _told(table, TEN, FILTER)


def _hierarchy(table: Table) -> Decision:
    goal = REACHED * table.best_valid(SOFTMAX)
    flat, ours = (table.until(name, goal, "epoch") for name in (SOFTMAX, TWO_LEVELS))
    better = compare(_of(table, TWO_LEVELS), _of(table, SOFTMAX))
    never = "not in every run"
    epochs = [never if one is None else f"{one.value:.1f}" for one in (ours, flat)]
    shown = [CLUSTERS] if CLUSTERS in table else []
    told = _told(table, TWO_LEVELS, SOFTMAX, *shown)
    told += f"; epochs until {100 * goal:.1f} % on validation: {epochs[0]} against {epochs[1]}"
    faster = ours is not None and flat is not None and ours.value < flat.value - 1
    if better == "more" or (faster and better != "less"):
        return HOLDS, told
    slower = ours is None or (flat is not None and ours.value >= flat.value)
    return (DOES_NOT if better == "less" or slower else UNDECIDED), told


def _search_in_training(table: Table) -> Decision:
    four = {
        "both exact": _of(table, TEN, "exact"),
        "trained exact, tested by clusters": _of(table, TEN, "other"),
        "trained by clusters, tested exact": _of(table, BY_CLUSTERS, "exact"),
        "both by clusters": _of(table, BY_CLUSTERS),
    }
    exact, tested, trained, neither = four.values()
    found = compare(exact, trained)
    told = ", ".join(f"{name} {_percent(one)}" for name, one in four.items())
    of_training = 100 * (exact.mean.value - trained.mean.value)
    of_search = 100 * (trained.mean.value - neither.mean.value)
    told += (
        f"; of {100 * (exact.mean.value - neither.mean.value):.1f} points lost, {of_training:.1f} in "
        f"training and {of_search:.1f} in the search at test time (which costs the exactly trained network "
        f"{100 * (exact.mean.value - tested.mean.value):.1f})"
    )
    return {"more": HOLDS, "less": DOES_NOT, "level": UNDECIDED}[found], told


NEEDED_STRATEGIES = tuple(
    f"{name} with {size} clusters"
    for name in ("Top-K", "Top-K + Sample-K", "Top-K + Rand-block")
    for size in SIZES
)

CLAIMS: tuple[tuple[str, str, tuple[str, ...], Callable[[Table], Decision]], ...] = (
    (
        "Exact K-MIPS is at least as accurate as the full softmax, and smaller K is better",
        "Holds if no K of 10, 50, 100, 1000 is less accurate than the full softmax and K = 10 is more "
        "accurate than K = 1000; does not if either is reversed. K = 1 is shown and decides nothing.",
        (SOFTMAX, *SMALLER_K),
        _smaller_k,
    ),
    (
        "K-MIPS converges no slower than the full softmax, in epochs and in seconds",
        f"Until {REACHED:.0%} of the full softmax's best validation accuracy. Holds if exact 10-MIPS needs "
        f"no more epochs and no more seconds; does not if it needs over one epoch more, over {SLOWER} times "
        "the seconds, or never gets there.",
        (SOFTMAX, TEN),
        _converges,
    ),
    (
        "Clustering beats WTA-Hash and PCA-Tree at equal reads",
        "Holds if it is more accurate than both; does not if it is less than either; undecided also where "
        "the reads differ by more than a quarter.",
        (CLUSTERS, "WTA-Hash", "PCA-Tree"),
        _clusters_best,
    ),
    (
        "Sample-K helps; Rand-block does not",
        "Both numbers of clusters together. Holds if Top-K + Sample-K is more accurate than Top-K and "
        "Top-K + Rand-block is not; does not if Top-K + Sample-K is less, or Top-K + Rand-block more.",
        NEEDED_STRATEGIES,
        _strategies,
    ),
    (
        "K-MIPS beats the keyword filter",
        "Holds if exact 10-MIPS is more accurate than the filter with its softmax; does not if less.",
        (TEN, FILTER),
        _filter,
    ),
    (
        "The hierarchy (two levels) converges faster or generalises better than the flat memory",
        f"Holds if it is more accurate than the full softmax, or no less and over one epoch sooner at "
        f"{REACHED:.0%} of its best validation accuracy; does not if it is less accurate or, without being "
        "more accurate, no sooner.",
        (SOFTMAX, TWO_LEVELS),
        _hierarchy,
    ),
    (
        "Approximate search in training costs accuracy",
        "Both tested with exact search. Holds if 10-MIPS trained exactly is more accurate than 10-MIPS "
        "trained by clusters; does not if less.",
        (TEN, BY_CLUSTERS),
        _search_in_training,
    ),
)
"""Claim, rule, rows that it needs, and how it is decided."""
