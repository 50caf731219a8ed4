"""How answers, figures and mistakes are shown."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from hmn.errors import HMNError

if TYPE_CHECKING:
    from hmn.qa.answer import Answer

MOST_IN_LINE = 5


def show_answers(answers: list[Answer], question: str | None) -> None:
    """Show answers: the best in full, the runners-up a line each."""
    if question is not None:
        print(question)
    if not answers:
        print("  the index found no cell for it: let it look further (num_probes, num_leaves, …)")
    for rank, answer in enumerate(answers):
        shown = ", ".join(answer.answers[:MOST_IN_LINE])
        more = answer.count - min(len(answer.answers), MOST_IN_LINE)
        fact = answer.facts[0]
        told = f"{shown}{f' and {more} more' if more else ''}"
        source = f"{fact.subject_name} ({fact.subject}) · {fact.relation_name}"
        print(f"{'  ' if rank else '> '}{told}  {answer.probability:.1%}   {source}")
    print()


def show_figure(value: float | int | None) -> str:
    """A figure of an evaluation, for people to read."""
    if value is None:
        return "unknown: the questions give answers alone"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if value < 10 else f"{value:,.1f}"


def log(text: str) -> None:
    """Write a line to standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def exit_on_error(interrupted: str) -> Any:
    """Turn users' mistakes into one line and status 2, Ctrl-C into status 130."""
    try:
        yield
    except HMNError as error:
        log(f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if interrupted:
            log(interrupted)
        raise typer.Exit(130) from None
