"""The paper's seven claims and one of ours, each decided by a rule that was fixed before its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hmn.paper.verdicts.significance import Accuracy, Difference, Spread, difference
from hmn.paper.verdicts.table import Table

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not", "undecided"
ONE_SEED, STILL_RISING = "one seed", "still rising"
SOFTMAX, TEN, FILTER, CLUSTERS = "full softmax", "exact 10-MIPS", "keyword filter", "clustering"
TWO_LEVELS, BY_CLUSTERS = "two levels of clusters", "10-MIPS by clusters"
OURS, OURS_AT_A_TENTH = "10-MIPS by hmn's clusters", "10-MIPS by hmn's clusters with a tenth of the reads"
SMALLER_K = ("exact 10-MIPS", "exact 50-MIPS", "exact 100-MIPS", "exact 1000-MIPS")
FAMILIES = (CLUSTERS, "WTA-Hash", "PCA-Tree")
SIZES = ("few", "many")
REACHED = 0.95
"""Share of the full softmax's best validation accuracy at which training counts as converged."""
SLOWER = 0.1
"""Share of the full softmax's seconds by which another may be later and is not yet slower."""
NEXT_TO_NOTHING = 0.01
"""The most accuracy that an approximate search may lose, in training and at test time together."""
EQUAL_READS = 1.1
"""The most times as many reads that count as equal."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        number: of the claim, with a letter where it is judged in parts.
        claim: the claim.
        rule: how it is decided.
        verdict: ``holds``, ``does not`` or ``undecided``.
        figures: what it was decided by.
        note: what the verdict lacks: ``one seed``, ``still rising``, or nothing.
    """

    number: str
    claim: str
    rule: str
    verdict: str
    figures: str
    note: str = ""

    @property
    def told(self) -> str:
        """The verdict with its note."""
        if self.note == STILL_RISING:
            return f"{self.verdict}: {self.note}"
        return f"{self.verdict} ({self.note})" if self.note else self.verdict


Decision = tuple[str, str]


class Claim(NamedTuple):
    """A claim, the rows and the search that it needs, and how it is decided."""

    number: str
    claim: str
    rule: str
    needed: tuple[str, ...]
    how: str
    decide: Callable[[Table], Decision]
    by_curve: bool = False
    """Whether it is decided by when an accuracy is reached."""


def verdicts(table: Table) -> list[Verdict]:
    """A verdict on each claim; undecided where a row that it needs was not run, or was cut too early."""
    return [_judged(table, one) for one in CLAIMS]


def _judged(table: Table, one: Claim) -> Verdict:
    told = one.number, one.claim, one.rule
    missing = [name for name in one.needed if table.accuracy(name, one.how) is None]
    if missing:
        return Verdict(*told, UNDECIDED, f"not run: {', '.join(missing)}")
    verdict, figures = one.decide(table)
    rising = [name for name in one.needed if table.rising(name)]
    if rising:
        return Verdict(*told, UNDECIDED, f"{figures}; cut while rising: {', '.join(rising)}", STILL_RISING)
    unsure = verdict != UNDECIDED and table.one_seed(one.needed, curves=one.by_curve)
    return Verdict(*told, verdict, figures, ONE_SEED if unsure else "")


def _of(table: Table, name: str, how: str = "own") -> Accuracy:
    found = table.accuracy(name, how)
    if found is None:
        raise KeyError(f"{name} was not tested with its {how} search")
    return found


def _compared(table: Table, ours: str, theirs: str, how: str = "own") -> Difference:
    return _contrast(table, [(1.0, ours), (-1.0, theirs)], how)


def _contrast(table: Table, terms: Sequence[tuple[float, str]], how: str) -> Difference:
    found = table.contrast(terms, how)
    if found is None:
        raise KeyError(f"not all of {[name for _, name in terms]} were tested with their {how} search")
    return found


def _points(one: Difference) -> str:
    """A difference with its margin, in per cent."""
    return f"{100 * one.value:+z.1f} ± {100 * one.margin:.1f}"


def _percent(one: Accuracy) -> str:
    return f"{100 * one.mean.value:.1f}"


def _told(table: Table, names: Sequence[str], how: str = "own") -> str:
    return ", ".join(f"{name} {_percent(_of(table, name, how))}" for name in names)


def _against(table: Table, names: Sequence[str], theirs: str, how: str = "own") -> str:
    """Accuracies of rows, each with its difference from another row."""
    each = [
        f"{name} {_percent(_of(table, name, how))} ({_points(_compared(table, name, theirs, how))})"
        for name in names
    ]
    return f"{', '.join(each)} against {theirs} {_percent(_of(table, theirs, how))}"


def _equal_reads(table: Table, names: Sequence[str]) -> tuple[bool, str]:
    """Whether rows read about the same with their own search, and their reads."""
    means = [table.mean(name, "tested", table.split, "own", "reads") for name in names]
    reads = [mean.value for mean in means if mean is not None]
    equal = max(reads) <= EQUAL_READS * min(reads)
    told = ", ".join(f"{one:,.0f}" for one in reads)
    return equal, f"reads {told}" + ("" if equal else ", which are not equal")


def _smaller_k(table: Table) -> Decision:
    against = [_compared(table, name, SOFTMAX).sign for name in SMALLER_K]
    trend = _compared(table, SMALLER_K[0], SMALLER_K[-1])
    verdict = UNDECIDED
    if "less" in against or trend.sign == "less":
        verdict = DOES_NOT
    elif trend.sign == "more":
        verdict = HOLDS
    shown = ["exact 1-MIPS"] if "exact 1-MIPS" in table else []
    told = _against(table, [*shown, *SMALLER_K], SOFTMAX)
    return verdict, f"{told}; K = 10 against K = 1000: {_points(trend)}"


def _until(table: Table, name: str, goal: float, clock: str) -> str:
    found = table.until(name, goal, clock)
    if found is not None:
        return f"{name} {found.value:,.1f}"
    reaching = table.reaching(name, goal)
    return f"{name} {f'in {reaching} of {len(table.runs[name])} runs' if reaching else 'never'}"


def _later(table: Table, ours: str, goal: float, clock: str) -> Difference | None:
    """How much later than the full softmax a row reaches an accuracy; None where one does not."""
    flat, one = table.until(SOFTMAX, goal, clock), table.until(ours, goal, clock)
    if flat is None or one is None:
        return None
    return difference([(1.0, one), (-1.0, flat)], Spread.of([one, flat]))


def _converges(table: Table, clock: str) -> Decision:
    goal = REACHED * table.best_valid(SOFTMAX)
    names = [name for name in (*SMALLER_K, SOFTMAX) if name in table]
    unit = "epochs" if clock == "epoch" else clock
    told = f"{unit} until {100 * goal:.1f} % on validation: " + ", ".join(
        _until(table, name, goal, clock) for name in names
    )
    flat = table.until(SOFTMAX, goal, clock)
    if flat is None:
        return UNDECIDED, told
    late = _later(table, TEN, goal, clock)
    if late is None:
        return DOES_NOT, told
    told += f"; {TEN} less {SOFTMAX}: {late.value:+z,.1f}" + (f" ± {late.margin:,.1f}" if late.error else "")
    allowed = 1.0 if clock == "epoch" else SLOWER * flat.value
    if late.value <= 0 and late.value + late.margin <= allowed:
        return HOLDS, told
    return (DOES_NOT if late.value > max(allowed, late.margin) else UNDECIDED), told


def _best_epochs(table: Table, *names: str) -> str:
    """What exact search finds in validation after the epoch that is best for it, which need not be kept."""
    each = ", ".join(f"{name} {100 * table.best_valid(name):.1f}" for name in names)
    return f"after the epoch that is best under exact search: {each}"


def _in_epochs(table: Table) -> Decision:
    return _converges(table, "epoch")


def _in_seconds(table: Table) -> Decision:
    return _converges(table, "seconds")


def _clusters_best(table: Table) -> Decision:
    found = [(name, _compared(table, CLUSTERS, name)) for name in FAMILIES[1:]]
    signs = [one.sign for _, one in found]
    equal, reads = _equal_reads(table, FAMILIES)
    less = ", ".join(f"{CLUSTERS} less {name}: {_points(one)}" for name, one in found)
    told = f"{_told(table, FAMILIES)}; {less}; {reads}"
    if not equal:
        return UNDECIDED, told
    if "less" in signs:
        return DOES_NOT, told
    return (HOLDS if signs == ["more", "more"] else UNDECIDED), told


def _strategies(table: Table) -> Decision:
    told, signs = [], []
    for part in ("Sample-K", "Rand-block"):
        terms = [
            (weight / len(SIZES), f"{name} with {size} clusters")
            for weight, name in ((1.0, f"Top-K + {part}"), (-1.0, "Top-K"))
            for size in SIZES
        ]
        judged = _contrast(table, terms, "exact")
        signs.append(judged.sign)
        shown = [(how, table.contrast(terms, how)) for how in ("common", "own")]
        beside = ", ".join(f"{how} search {_points(one)}" for how, one in shown if one is not None)
        told.append(f"{part} brings, with exact search, {_points(judged)} ({beside})")
    groups = [[name for name in STRATEGIES if f" {size} " in name] for size in SIZES]
    reads = [_equal_reads(table, names) for names in groups]
    told += [f"{size} clusters: {text}" for size, (_, text) in zip(SIZES, reads, strict=True)]
    figures = "; ".join(told)
    if not all(equal for equal, _ in reads):
        return UNDECIDED, figures
    sample, block = signs
    if sample == "less" or block == "more":
        return DOES_NOT, figures
    return (HOLDS if sample == "more" else UNDECIDED), figures


BY_SIGN = {"more": HOLDS, "less": DOES_NOT, "level": UNDECIDED}


def _filter(table: Table) -> Decision:
    told = _against(table, [TEN], FILTER)
    coverage = table.mean(FILTER, "tested", table.split, "own", "coverage")
    if coverage is not None:
        told += f"; the right fact is among the filter's candidates for {100 * coverage.value:.1f} %"
    return BY_SIGN[_compared(table, TEN, FILTER).sign], told


def _hierarchy(table: Table) -> Decision:
    goal = REACHED * table.best_valid(SOFTMAX)
    better = _compared(table, TWO_LEVELS, SOFTMAX, "exact").sign
    each = ", ".join(_until(table, name, goal, "epoch") for name in (TWO_LEVELS, SOFTMAX))
    told = f"{_against(table, [TWO_LEVELS], SOFTMAX, 'exact')}; {_best_epochs(table, TWO_LEVELS, SOFTMAX)}"
    told += f"; epochs until {100 * goal:.1f} %: {each}"
    if better == "less":
        return DOES_NOT, told
    late = _later(table, TWO_LEVELS, goal, "epoch")
    if better == "more" or (late is not None and late.value < -1 and late.value + late.margin < 0):
        return HOLDS, told
    if table.until(SOFTMAX, goal, "epoch") is None:
        return UNDECIDED, told
    return (DOES_NOT if late is None or late.value >= 0 else UNDECIDED), told


def _at_equal_reads(table: Table, ours: str, theirs: str) -> Decision:
    equal, reads = _equal_reads(table, (ours, theirs))
    found = _compared(table, ours, theirs).sign
    return (BY_SIGN[found] if equal else UNDECIDED), f"{_against(table, [ours], theirs)}; {reads}"


def _levels(table: Table) -> Decision:
    return _at_equal_reads(table, TWO_LEVELS, CLUSTERS)


def _our_clusters(table: Table) -> Decision:
    return _at_equal_reads(table, OURS, BY_CLUSTERS)


def _search_in_training(table: Table) -> Decision:
    four = {
        "both exact": table.accuracy(TEN, "exact"),
        "trained exact, tested by clusters": table.accuracy(TEN, "other"),
        "trained by clusters, tested exact": table.accuracy(BY_CLUSTERS, "exact"),
        "both by clusters": table.accuracy(BY_CLUSTERS),
    }
    known = {name: one.mean.value for name, one in four.items() if one is not None}
    found = _compared(table, TEN, BY_CLUSTERS, "exact")
    told = ", ".join(f"{name} {100 * value:.1f}" for name, value in known.items())
    told += f"; exact less by clusters in training: {_points(found)}"
    told += f" ({_best_epochs(table, TEN, BY_CLUSTERS)})"
    if len(known) == len(four):
        exact, tested, trained, neither = (100 * value for value in known.values())
        told += (
            f"; of {exact - neither:.1f} points lost, {exact - trained:.1f} in training and "
            f"{trained - neither:.1f} in the search at test time (which costs the exactly trained network "
            f"{exact - tested:.1f})"
        )
    return BY_SIGN[found.sign], told


def _at_a_tenth(table: Table) -> Decision:
    lost = _compared(table, TEN, OURS_AT_A_TENTH)
    told = f"{_told(table, (TEN, OURS_AT_A_TENTH))}; lost: {_points(lost)}"
    if lost.value + lost.margin <= NEXT_TO_NOTHING:
        return HOLDS, told
    return (DOES_NOT if lost.value - lost.margin > NEXT_TO_NOTHING else UNDECIDED), told


STRATEGIES = tuple(
    f"{name} with {size} clusters"
    for name in ("Top-K", "Top-K + Sample-K", "Top-K + Rand-block")
    for size in SIZES
)
UNTIL = (
    f"Until {100 * REACHED:.0f} % of the full softmax's best validation accuracy, both under exact search, "
    "evenly rising between epochs. Holds if exact 10-MIPS needs no more"
)

CLAIMS = (
    Claim(
        "1",
        "Exact K-MIPS is at least as accurate as the full softmax, and smaller K is better",
        "Holds if no K of 10, 50, 100, 1000 is less accurate than the full softmax and K = 10 is more "
        "accurate than K = 1000; does not if either is reversed. K = 1 is shown and decides nothing.",
        (SOFTMAX, *SMALLER_K),
        "own",
        _smaller_k,
    ),
    Claim(
        "2a",
        "K-MIPS converges no slower than the full softmax, in epochs",
        f"{UNTIL} epochs; does not if it needs over one more, or never gets there. Other K decide nothing.",
        (SOFTMAX, TEN),
        "own",
        _in_epochs,
        by_curve=True,
    ),
    Claim(
        "2b",
        "The same in seconds (ours: the paper gives no times)",
        f"{UNTIL} seconds of building, tuning and training; does not if it needs over {100 * SLOWER:.0f} % "
        "more, or never gets there. Other K decide nothing.",
        (SOFTMAX, TEN),
        "own",
        _in_seconds,
        by_curve=True,
    ),
    Claim(
        "3",
        "Clustering beats WTA-Hash and PCA-Tree at equal reads",
        "Each with its own search. Holds if it is more accurate than both; does not if it is less than "
        "either; undecided also where the reads differ by more than a tenth.",
        FAMILIES,
        "own",
        _clusters_best,
    ),
    Claim(
        "4",
        "Sample-K helps; Rand-block does not",
        "All tested with exact search, so that only training differs; both numbers of clusters together. "
        "Holds if Top-K + Sample-K is more accurate than Top-K and Top-K + Rand-block is not; does not if "
        "Top-K + Sample-K is less, or Top-K + Rand-block more; undecided also where the reads of those with "
        "one number of clusters differ by more than a tenth. Tests with one common search (the best clusters "
        "alone) and with the row's own are shown and decide nothing.",
        STRATEGIES,
        "exact",
        _strategies,
    ),
    Claim(
        "5",
        "K-MIPS beats the keyword filter",
        "Holds if exact 10-MIPS is more accurate than the filter with its softmax; does not if less.",
        (TEN, FILTER),
        "own",
        _filter,
    ),
    Claim(
        "6a",
        "The hierarchy (two levels) converges faster or generalises better than the flat memory",
        "Both under exact search. Holds if it is more accurate than the full softmax, or no less and over "
        f"one epoch sooner at {100 * REACHED:.0f} % of its best validation accuracy; does not if it is less "
        "accurate or, without being more accurate, no sooner.",
        (SOFTMAX, TWO_LEVELS),
        "exact",
        _hierarchy,
        by_curve=True,
    ),
    Claim(
        "6b",
        "Two levels of clusters are more accurate than one at equal reads (ours)",
        "Each with its own search. Holds if they are more accurate, does not if less; undecided also where "
        "the reads differ by more than a tenth.",
        (TWO_LEVELS, CLUSTERS),
        "own",
        _levels,
    ),
    Claim(
        "7",
        "Approximate search in training costs accuracy",
        "Both tested with exact search. Holds if 10-MIPS trained exactly is more accurate than 10-MIPS "
        "trained by clusters; does not if less.",
        (TEN, BY_CLUSTERS),
        "exact",
        _search_in_training,
    ),
    Claim(
        "8a",
        "hmn's own clusters are more accurate than the paper's at equal reads (ours)",
        "Both with 10-MIPS in training and each with its own search. Holds if they are more accurate, does "
        "not if less; undecided also where the reads differ by more than a tenth.",
        (OURS, BY_CLUSTERS),
        "own",
        _our_clusters,
    ),
    Claim(
        "8b",
        "At a tenth of the reads, hmn's own clusters lose next to nothing (ours)",
        "Each with its own search, so that training and test lose together. Holds if exact 10-MIPS is at "
        f"most {100 * NEXT_TO_NOTHING:.0f} point more accurate, with the ± added; does not if it is more so "
        "with the ± taken off.",
        (TEN, OURS_AT_A_TENTH),
        "own",
        _at_a_tenth,
    ),
)
