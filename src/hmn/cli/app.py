"""The command line: the commands of ``hmn``."""

from __future__ import annotations

import typer

from hmn.cli.ask import ask
from hmn.cli.demo import demo
from hmn.cli.evaluate import evaluate
from hmn.cli.facts import facts
from hmn.cli.flags import GroupedCommand
from hmn.cli.paper import paper
from hmn.cli.serving.compact import compact
from hmn.cli.serving.serve import serve
from hmn.cli.train import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train memory networks that answer questions from a table of facts.",
)
app.command()(demo)
app.command(cls=GroupedCommand)(train)
app.command()(ask)
app.command()(evaluate)
app.add_typer(facts, name="facts")
app.command()(serve)
app.command()(compact)
app.command()(paper)


def main() -> None:
    """Run the command line."""
    app()
