"""``hmn demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.output import exit_on_error, show_answers


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the facts, the questions and the model.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of questions and training.")] = 0,
) -> None:
    """Train on built-in facts about the world, measure, and answer six questions."""
    with exit_on_error(interrupted="stopped: run the same command again to start over"):
        from hmn.qa.demo.run import run_demo

        run_demo(out, seed, lambda answers, question: show_answers(answers, question))
