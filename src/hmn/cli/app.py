"""The command line: ``hmn demo``, ``train``, ``ask``, ``evaluate``, ``paper``."""

from __future__ import annotations

import typer

from hmn.cli.ask import ask
from hmn.cli.demo import demo
from hmn.cli.evaluate import evaluate
from hmn.cli.paper import paper
from hmn.cli.train import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Memory networks that answer questions from a table of facts.",
)
for command in (train, ask, evaluate, demo, paper):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()
