"""How each claim is decided from the runs; ``report/text/claims.md`` has the rules in words."""

from __future__ import annotations

from collections.abc import Sequence

from hmn.paper.verdicts.compared import (
    BY_CLUSTERS,
    CLUSTERS,
    FAMILIES,
    FAMILIES_AT_SPEED_UP,
    FILTER,
    OURS,
    OURS_AT_A_TENTH,
    SIZES,
    SMALLER_K,
    SOFTMAX,
    STRATEGIES,
    TEN,
    TWO_LEVELS,
    accuracies,
    against,
    best_epochs,
    compared,
    contrast,
    equal_reads,
    points,
)
from hmn.paper.verdicts.convergence import goal_of, later, until
from hmn.paper.verdicts.table import Table

HOLDS = "holds"
"""Verdict on a claim that the figures bear out."""
DOES_NOT = "does not hold"
"""Verdict on a claim that the figures contradict."""
UNDECIDED = "undecided"
"""Verdict on a claim that the figures leave open."""
BY_SIGN = {"more": HOLDS, "less": DOES_NOT, "level": UNDECIDED}
"""Verdicts on a claim that one row is more accurate than another, by the sign of their difference."""
SLOWER = 0.1
"""Share of the full softmax's seconds by which another row may be later without being slower."""
NEXT_TO_NOTHING = 0.01
"""Upper limit of the accuracy that an approximate search may lose in training and test together."""

Decision = tuple[str, str]
"""A verdict, and the figures that it was decided by."""


def smaller_k(table: Table) -> Decision:
    """Claim 1: exact K-MIPS is at least as accurate as the full softmax, and smaller K is better."""
    signs = [compared(table, name, SOFTMAX).sign for name in SMALLER_K]
    trend = compared(table, SMALLER_K[0], SMALLER_K[-1])
    verdict = UNDECIDED
    if "less" in signs or trend.sign == "less":
        verdict = DOES_NOT
    elif trend.sign == "more":
        verdict = HOLDS
    shown = ["exact 1-MIPS"] if "exact 1-MIPS" in table else []
    figures = against(table, [*shown, *SMALLER_K], SOFTMAX)
    return verdict, f"{figures}; K = 10 against K = 1000: {points(trend)}"


def in_epochs(table: Table) -> Decision:
    """Claim 2a: K-MIPS converges no slower than the full softmax, in epochs."""
    return _converges(table, "epoch")


def in_seconds(table: Table) -> Decision:
    """Claim 2b: the same in seconds."""
    return _converges(table, "seconds")


def _converges(table: Table, clock: str) -> Decision:
    goal = goal_of(table)
    names = [name for name in (*SMALLER_K, SOFTMAX) if name in table]
    unit = "epochs" if clock == "epoch" else clock
    figures = f"{unit} until {100 * goal:.1f} % on validation: " + ", ".join(
        until(table, name, goal, clock) for name in names
    )
    flat = table.until(SOFTMAX, goal, clock)
    if flat is None:
        return UNDECIDED, figures
    late = later(table, TEN, goal, clock)
    if late is None:
        return DOES_NOT, figures
    margin = f" ± {late.margin:,.1f}" if late.error else ""
    figures += f"; {TEN} minus {SOFTMAX}: {late.value:+z,.1f}{margin}"
    allowed = 1.0 if clock == "epoch" else SLOWER * flat.value
    if late.value <= 0 and late.value + late.margin <= allowed:
        return HOLDS, figures
    return (DOES_NOT if late.value > max(allowed, late.margin) else UNDECIDED), figures


def clusters_best(table: Table) -> Decision:
    """Claim 3a: clustering beats WTA-Hash and PCA-Tree at equal reads."""
    return _first_is_best(table, FAMILIES)


def clusters_best_at_speed_up(table: Table) -> Decision:
    """Claim 3b: the same with more reads; the figures have the differences of 3a as well, if it was run."""
    verdict, figures = _first_is_best(table, FAMILIES_AT_SPEED_UP)
    if all(table.accuracy(name) is not None for name in FAMILIES):
        figures += f"; with the reads of 3a: {_ahead(table, FAMILIES)}"
    return verdict, figures


def _ahead(table: Table, names: Sequence[str]) -> str:
    """By how much the first of some rows is more accurate than each of the others."""
    first, *others = names
    return ", ".join(f"{first} minus {name}: {points(compared(table, first, name))}" for name in others)


def _first_is_best(table: Table, names: Sequence[str]) -> Decision:
    """Whether the first of some rows is more accurate than all others at equal reads."""
    first, *others = names
    signs = [compared(table, first, name).sign for name in others]
    equal, reads = equal_reads(table, names)
    figures = f"{accuracies(table, names)}; {_ahead(table, names)}; {reads}"
    if not equal:
        return UNDECIDED, figures
    if "less" in signs:
        return DOES_NOT, figures
    return (HOLDS if set(signs) == {"more"} else UNDECIDED), figures


def strategies(table: Table) -> Decision:
    """Claim 4: Sample-K helps, Rand-block does not; each with both numbers of clusters together."""
    parts, signs = [], []
    for part in ("Sample-K", "Rand-block"):
        sign, figures = _brought(table, part)
        signs.append(sign)
        parts.append(figures)
    groups = [[name for name in STRATEGIES if f" {size} " in name] for size in SIZES]
    reads = [equal_reads(table, names) for names in groups]
    parts += [f"{size} clusters: {text}" for size, (_, text) in zip(SIZES, reads, strict=True)]
    listed = "; ".join(parts)
    if not all(equal for equal, _ in reads):
        return UNDECIDED, listed
    sample, block = signs
    if sample == "less" or block == "more":
        return DOES_NOT, listed
    return (HOLDS if sample == "more" else UNDECIDED), listed


def _brought(table: Table, part: str) -> tuple[str, str]:
    """The sign of what a part adds to Top-K under exact search, and the figures of all searches."""
    terms = [
        (weight / len(SIZES), f"{name} with {size} clusters")
        for weight, name in ((1.0, f"Top-K + {part}"), (-1.0, "Top-K"))
        for size in SIZES
    ]
    judged = contrast(table, terms, "exact")
    others = [(how, table.contrast(terms, how)) for how in ("common", "own")]
    shown = ", ".join(f"{how} search {points(value)}" for how, value in others if value is not None)
    return judged.sign, f"{part} adds {points(judged)} under exact search ({shown})"


def keyword_filter(table: Table) -> Decision:
    """Claim 5: K-MIPS beats the keyword filter."""
    figures = against(table, [TEN], FILTER)
    coverage = table.mean(FILTER, "tested", table.split, "own", "coverage")
    if coverage is not None:
        covered = f"{100 * coverage.value:.1f} % of the questions"
        figures += f"; the filter's candidates include the right fact for {covered}"
    return BY_SIGN[compared(table, TEN, FILTER).sign], figures


def hierarchy(table: Table) -> Decision:
    """Claim 6a: two levels converge faster or generalise better than the flat memory."""
    goal = goal_of(table)
    sign = compared(table, TWO_LEVELS, SOFTMAX, "exact").sign
    each = ", ".join(until(table, name, goal, "epoch") for name in (TWO_LEVELS, SOFTMAX))
    figures = f"{against(table, [TWO_LEVELS], SOFTMAX, 'exact')}; {best_epochs(table, TWO_LEVELS, SOFTMAX)}"
    figures += f"; epochs until {100 * goal:.1f} %: {each}"
    if sign == "less":
        return DOES_NOT, figures
    late = later(table, TWO_LEVELS, goal, "epoch")
    if sign == "more" or (late is not None and late.value < -1 and late.value + late.margin < 0):
        return HOLDS, figures
    if table.until(SOFTMAX, goal, "epoch") is None:
        return UNDECIDED, figures
    return (DOES_NOT if late is None or late.value >= 0 else UNDECIDED), figures


def levels(table: Table) -> Decision:
    """Claim 6b: two levels of clusters are more accurate than one at equal reads."""
    return _at_equal_reads(table, TWO_LEVELS, CLUSTERS)


def our_clusters(table: Table) -> Decision:
    """Claim 8a: hmn's own clusters are more accurate than the paper's at equal reads."""
    return _at_equal_reads(table, OURS, BY_CLUSTERS)


def _at_equal_reads(table: Table, ours: str, theirs: str) -> Decision:
    equal, reads = equal_reads(table, (ours, theirs))
    sign = compared(table, ours, theirs).sign
    return (BY_SIGN[sign] if equal else UNDECIDED), f"{against(table, [ours], theirs)}; {reads}"


def search_in_training(table: Table) -> Decision:
    """Claim 7: approximate search in training costs accuracy."""
    four = {
        "both exact": table.accuracy(TEN, "exact"),
        "trained exact, tested by clusters": table.accuracy(TEN, "other"),
        "trained by clusters, tested exact": table.accuracy(BY_CLUSTERS, "exact"),
        "both by clusters": table.accuracy(BY_CLUSTERS),
    }
    known = {name: accuracy.mean.value for name, accuracy in four.items() if accuracy is not None}
    cost = compared(table, TEN, BY_CLUSTERS, "exact")
    figures = ", ".join(f"{name} {100 * value:.1f}" for name, value in known.items())
    figures += f"; exact minus clusters in training: {points(cost)}"
    figures += f" ({best_epochs(table, TEN, BY_CLUSTERS)})"
    if len(known) == len(four):
        exact, tested, trained, neither = (100 * value for value in known.values())
        figures += (
            f"; of {exact - neither:.1f} points lost, {exact - trained:.1f} in training and "
            f"{trained - neither:.1f} in the search at test time (the same search costs the exactly trained "
            f"network {exact - tested:.1f})"
        )
    return BY_SIGN[cost.sign], figures


def at_a_tenth(table: Table) -> Decision:
    """Claim 8b: at a tenth of the reads, hmn's own clusters lose next to nothing."""
    lost = compared(table, TEN, OURS_AT_A_TENTH)
    figures = f"{accuracies(table, (TEN, OURS_AT_A_TENTH))}; lost: {points(lost)}"
    if lost.value + lost.margin <= NEXT_TO_NOTHING:
        return HOLDS, figures
    return (DOES_NOT if lost.value - lost.margin > NEXT_TO_NOTHING else UNDECIDED), figures
