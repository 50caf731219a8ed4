"""What the commands print: answers and figures on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from hmn.errors import HMNError

if TYPE_CHECKING:
    from hmn.facts.files.source import Skipped
    from hmn.facts.questions import QuestionSet
    from hmn.qa.answer import Answer, Answers
    from hmn.qa.factoid_qa import FactoidQA

NAMES_PER_LINE = 5
"""Names of an answer's objects that a line shows; the rest is counted."""


def print_answers(answers: Answers, question: str | None = None) -> None:
    """Print answers, one per line, best first; under their question if it is given."""
    if question is not None:
        print(question)
    if not answers:
        print("  the index found no cell for this question: raise num_probes, num_leaves or the like")
    elif answers.known is False:
        probability = answers.known_probability or 0.0
        unsure = "perhaps in the table, but not as surely as --precision asks for"
        verdict = unsure if probability >= 0.5 else "not in the table"
        print(f"{verdict} (probability that it is: {probability:.1%}); nearest facts:")
    for rank, answer in enumerate(answers):
        mark = "  " if rank or answers.known is False else "> "
        names = ", ".join(answer.answers[:NAMES_PER_LINE])
        hidden = answer.count - min(len(answer.answers), NAMES_PER_LINE)
        if hidden:
            names += f" and {hidden} more"
        print(f"{mark}{names}  {answer.probability:.1%}   {_support(answer)}")
    print()


def _support(answer: Answer) -> str:
    """The fact that supports an answer, or the chain of facts that leads to its first object."""
    first, *further = answer.chains[0] if answer.chains else answer.facts[:1]
    links = [f"{first.subject_name} ({first.subject}) · {first.relation_name}"]
    links += [f"{fact.subject_name} · {fact.relation_name}" for fact in further]
    return " → ".join(links)


def format_figure(value: float | int | tuple[float, ...] | None) -> str:
    """A figure of an evaluation as text."""
    if isinstance(value, tuple):
        return " + ".join(map(format_figure, value))
    if value is None:
        return "unknown: the questions name only their answers"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if value < 10 else f"{value:,.1f}"


def log(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def log_skipped(files: str, skipped: Skipped) -> None:
    """Report how many bad lines of some files were skipped, if any were."""
    if skipped.total:
        log(f"{files}: skipped {skipped.total} bad lines, the first: {skipped.messages[0]}")


def log_left_out(files: str, questions: QuestionSet) -> None:
    """Report how some files of questions were read: notes, and which lines and answers were left out."""
    for note in questions.notes:
        log(note)
    log_skipped(files, questions.skipped)
    unknown = questions.unknown
    if unknown.total:
        shown = next((line for line in unknown.messages if "--inverse" in line), unknown.messages[0])
        log(f"{files}: left out {unknown.total:,} answers, such as {shown}")
    if count := len(questions.unanswerable):
        log(f"{files}: {count:,} questions have no other answer: not trained on, and wrong when evaluated")


@contextmanager
def exit_on_error(interrupted: str) -> Iterator[None]:
    """Turn a user's mistake into one line and status 2, and Ctrl-C into status 130.

    Args:
        interrupted: line to print on Ctrl-C; nothing is printed if it is empty.
    """
    try:
        yield
    except HMNError as error:
        log(f"error: {error}")
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise  # such as under `head`: Typer ends without a word
    except (OSError, UnicodeError) as error:
        log(f"error: standard input or output: {error}: expected text in UTF-8, and room to write")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if interrupted:
            log(interrupted)
        raise typer.Exit(130) from None


def log_names(qa: FactoidQA) -> None:
    """Say what in a table's names may lead to poor answers, if there is anything."""
    from hmn.qa.words.alike import names_alike
    from hmn.qa.words.chinese import INSTALL, is_chinese
    from hmn.qa.words.splitting import SCRIPTS, some_names

    found = names_alike(qa.facts, qa.cells.splitting)
    if found.many:
        log(f"{found}; questions cannot tell their facts apart")
    if qa.config.splitting == SCRIPTS and is_chinese(some_names(qa.facts)):
        log(f"the names are Chinese: to take traditional and simplified characters as one, {INSTALL}")
