"""When rows reach an accuracy in training, for the claims about convergence."""

from __future__ import annotations

from hmn.paper.verdicts.compared import SOFTMAX
from hmn.paper.verdicts.significance import Difference, Spread, difference
from hmn.paper.verdicts.table import Table

REACHED = 0.95
"""Share of the full softmax's best validation accuracy at which training counts as converged."""


def goal_of(table: Table) -> float:
    """The validation accuracy under exact search at which training counts as converged."""
    return REACHED * table.best_valid(SOFTMAX)


def until(table: Table, name: str, goal: float, clock: str) -> str:
    """A row with the ``epoch`` or the ``seconds`` at which it reaches an accuracy."""
    mean = table.until(name, goal, clock)
    if mean is not None:
        return f"{name} {mean.value:,.1f}"
    reaching = table.reaching(name, goal)
    return f"{name} {f'in {reaching} of {len(table.runs[name])} runs' if reaching else 'never'}"


def later(table: Table, ours: str, goal: float, clock: str) -> Difference | None:
    """How much later than the full softmax a row reaches an accuracy; None where one of them does not."""
    flat, own = table.until(SOFTMAX, goal, clock), table.until(ours, goal, clock)
    if flat is None or own is None:
        return None
    return difference([(1.0, own), (-1.0, flat)], Spread.of([own, flat]))
