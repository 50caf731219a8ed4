"""The figures of a sweep, as a page and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = ("setting", "accuracy", "facts", "recall", "reads", "speed-up", "scored", "questions/s")
"""Columns of the tables, after the structure."""


@dataclass(frozen=True)
class Point:
    """Figures of a structure at one effort; see ``hmn.qa.metrics.Evaluation``."""

    index: str
    """Text of the index. ``hmn evaluate --index`` with it gives these figures again."""
    value: int | None
    """Effort: the value of the structure's setting; None for exact search."""
    fact_accuracy: float | None
    pair_accuracy: float | None
    answer_accuracy: float
    recall_at_k: float
    """Share of the k cells that exact search finds."""
    reads: float | None
    """Reads per question; None if the structure does not count them."""
    cells_scored: float
    queries_per_second: float
    """Queries per second of the search alone, in batches."""

    @property
    def accuracy(self) -> float:
        """Accuracy on pairs, or on answers if only these are known."""
        return self.answer_accuracy if self.pair_accuracy is None else self.pair_accuracy


@dataclass(frozen=True)
class Curve:
    """A structure over the range of its effort."""

    structure: str
    setting: str | None
    build_seconds: float
    points: list[Point]


@dataclass
class Sweep:
    """Curves of several structures over the same questions and the same memory."""

    about: dict[str, Any]
    """Command, questions, sizes, machine, versions and date."""
    curves: list[Curve] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Reasons why structures could not be built, by name."""

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return asdict(self)

    def rows(self) -> list[list[str]]:
        """One row per point: the structure, then the columns ``SHOWN``."""
        cells = self.about["cells"]
        return [
            [
                curve.structure,
                "" if curve.setting is None else f"{curve.setting}={point.value}",
                f"{point.accuracy:.4f}",
                "" if point.fact_accuracy is None else f"{point.fact_accuracy:.4f}",
                f"{point.recall_at_k:.4f}",
                "" if point.reads is None else f"{point.reads:,.0f}",
                "" if not point.reads else f"{cells / point.reads:,.1f}",
                f"{point.cells_scored:,.0f}",
                f"{point.queries_per_second:,.0f}",
            ]
            for curve in self.curves
            for point in curve.points
        ]

    def markdown(self) -> str:
        """The figures as a page of Markdown."""
        about = self.about
        known = "pair_accuracy" if about["facts_known"] else "answer_accuracy"
        machine = ", ".join(f"{name} {about[name]}" for name in ("platform", "cores", "threads"))
        head = [f"structure ({known} in column accuracy)", *SHOWN]
        lines = [
            f"# {known} against reads",
            "",
            f"`{about['command']}`: {about['questions']:,} questions, {about['cells']:,} cells of "
            f"{about['features']} features, {about['k']} cells read per question.",
            f"{machine}; hmn {about['hmn']}, torch {about['torch']}; {about['date']}.",
            "",
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in self.rows()),
            "",
            *(f"Skipped: {name}: {reason}." for name, reason in self.skipped.items()),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def table(self) -> str:
        """The figures in columns, for a terminal."""
        rows = [["structure", *SHOWN], *self.rows()]
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines, last = [], ""
        for row in rows:
            name = "" if row[0] == last else row[0]
            last = row[0]
            texts = [name.ljust(width[0]), row[1].ljust(width[1])]
            texts += [text.rjust(wide) for text, wide in zip(row[2:], width[2:], strict=True)]
            lines.append("  ".join(texts).rstrip())
        return "\n".join(lines)
