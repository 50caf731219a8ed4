"""``hmn ask``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.flags import OtherIndex, OtherStrategy
from hmn.cli.output import exit_on_error, log, show_answers
from hmn.errors import HMNError


def ask(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    question: Annotated[
        str | None, typer.Argument(help="In words; - reads one a line; without it, a prompt.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers to show.")] = 5,
    index: OtherIndex = None,
    strategy: OtherStrategy = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a question.")] = False,
) -> None:
    """Answer questions, with the facts that support the answers."""
    with exit_on_error(interrupted=""):
        from hmn.qa.factoid_qa import FactoidQA

        qa = FactoidQA.from_pretrained(model, index=index, strategy=strategy)
        asked: Iterable[str] = [question] if question is not None else _prompt()
        if question == "-":
            asked = (line.strip() for line in sys.stdin if line.strip())
        for one in asked:
            try:
                answers = qa.ask(one, k)
            except HMNError as error:
                if question not in {None, "-"}:
                    raise
                log(f"error: {error}")
                continue
            if as_json:
                print(
                    json.dumps(
                        {"question": one, "answers": [a.as_dict() for a in answers]}, ensure_ascii=False
                    )
                )
            else:
                show_answers(answers, one if question == "-" else None)
            sys.stdout.flush()


def _prompt() -> Iterable[str]:
    """Ask for questions until the end of input."""
    while True:
        try:
            line = input("question> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line
