"""``hmn ask``: answers from a trained model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.flags import OtherHops, OtherIndex, OtherStrategy
from hmn.cli.output import exit_on_error, log, print_answers
from hmn.errors import HMNError, RankError
from hmn.qa.over_ranks.launch import joined, same_texts, unbuffered_lines
from hmn.starting import starting

NOT_KNOWN = 1
"""Exit status if the answer to the question is not in the table."""
BYTE_ORDER_MARK = "\ufeff"
"""First character that some editors write before text."""
STDIN = "-"
"""Question that stands for one question per line of standard input."""


def ask(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    question: Annotated[
        str | None,
        typer.Argument(
            help="Question in words. Use - to read one question per line from standard input; "
            "leave it out for a prompt."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Maximum number of answers.")] = 5,
    index: OtherIndex = None,
    strategy: OtherStrategy = None,
    hops: OtherHops = None,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Share of right ones among the answers that count as known; the others are reported as not "
            "in the table.  [default: the model's]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per question.")] = False,
) -> None:
    """Answer questions, with supporting facts.

    If the answer to QUESTION is not in the table, as far as the model can tell,
    the nearest facts are shown all the same, and the exit status is 1. It is 2
    if a line of standard input is no question; --json has its "error" in its place.
    Under torchrun the cells are divided among the processes, and the status is 0.
    """
    with exit_on_error(interrupted=""), ExitStack() as stack:
        with starting(model):
            from hmn.qa.factoid_qa import FactoidQA

            ranks = stack.enter_context(joined())
            qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy, ranks=ranks)
        if hops is not None:
            qa.use_hops(hops)
        if precision is not None:
            qa.use_precision(precision)
        single, mistakes = question not in {None, STDIN}, 0
        for text in same_texts(_questions(question, several=ranks is not None), ranks):
            try:
                answers = qa.ask(text, k)
            except HMNError as error:
                if single or isinstance(error, RankError):
                    raise
                log(f"error: {error}")
                mistakes += 1
                if as_json:
                    print(json.dumps({"question": text, "error": str(error)}, ensure_ascii=False), flush=True)
                continue
            if as_json:
                print(json.dumps({"question": text, **answers.as_dict()}, ensure_ascii=False))
            else:
                print_answers(answers, text if question == STDIN else None)
            sys.stdout.flush()
            if single and answers.known is False and ranks is None:
                raise typer.Exit(NOT_KNOWN)
        if mistakes and question == STDIN and ranks is None:
            raise typer.Exit(2)


def _questions(question: str | None, *, several: bool) -> Iterable[str]:
    """The question of the command line, those of standard input, or those typed at a prompt.

    Args:
        question: The argument.
        several: Whether there are several processes. The first then reads in a thread.
    """
    if question is None and (sys.stdin.isatty() or not several):
        return _prompt()
    if question is None or question == STDIN:
        source = unbuffered_lines() if several else sys.stdin
        lines = (line.removeprefix(BYTE_ORDER_MARK).strip() for line in source)
        return (line for line in lines if line)
    return [question]


def _prompt() -> Iterable[str]:
    """Questions typed at a prompt, until the end of input."""
    while True:
        try:
            line = input("question> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line
