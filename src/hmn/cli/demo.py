"""``hmn demo``: from built-in facts to answers, with nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.output import exit_on_error, print_answers


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the facts, the questions and the model.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the questions and of training.")] = 0,
    two_steps: Annotated[
        bool, typer.Option("--two-steps", help="Also questions that take two facts, one after the other.")
    ] = False,
) -> None:
    """Train a model on built-in facts and try it out.

    Writes a quarter of a million facts about the world and questions about them,
    trains on some of the questions, measures on the others and answers some.
    Takes a few minutes; needs the extra hmn[demo].
    """
    with exit_on_error(interrupted="stopped: run the same command again to start over"):
        from hmn.qa.demo.run import run_demo

        run_demo(out, seed, print_answers, two_steps=two_steps)
