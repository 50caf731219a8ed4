"""``hmn facts``: add facts to a trained model, remove or replace them, without training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmn.cli.flags import READING, read_table, with_settings
from hmn.cli.output import exit_on_error, log
from hmn.qa.config import make_configs

if TYPE_CHECKING:
    from hmn.facts.table import FactTable
    from hmn.qa.changes.changes import FactChange
    from hmn.qa.factoid_qa import FactoidQA

facts = typer.Typer(no_args_is_help=True, help="Change the facts of a trained model, without training.")

Model = Annotated[Path, typer.Argument(help="Folder of a trained model.")]
File = Annotated[
    Path, typer.Argument(help="Facts, in any format that 'hmn train' reads; - is standard input.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the changed model.  [default: MODEL itself]")]


with_reading = partial(with_settings, only=READING)


@facts.command()
@with_reading
def add(settings: dict[str, Any], model: Model, file: File, out: Out = None) -> None:
    """Add facts; new entities and relations come with them. Facts that are there change nothing."""

    def change(qa: FactoidQA, table: FactTable) -> FactChange:
        return qa.add_facts(table)

    _change(settings, model, file, out, change)


@facts.command()
@with_reading
def replace(settings: dict[str, Any], model: Model, file: File, out: Out = None) -> None:
    """Give (subject, relation) pairs new objects: all other facts of these pairs go."""

    def change(qa: FactoidQA, table: FactTable) -> FactChange:
        return qa.replace_facts(table)

    _change(settings, model, file, out, change)


@facts.command()
@with_reading
def remove(
    settings: dict[str, Any],
    model: Model,
    file: File,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Pass over facts that the model does not have.")
    ] = False,
    out: Out = None,
) -> None:
    """Remove facts; they are never answered again."""

    def change(qa: FactoidQA, table: FactTable) -> FactChange:
        return qa.remove_facts(table, ignore_missing=ignore_missing)

    _change(settings, model, file, out, change)


def _change(
    settings: dict[str, Any],
    model: Path,
    file: Path,
    out: Path | None,
    change: Callable[[FactoidQA, FactTable], FactChange],
) -> None:
    """Read the files, change the model's facts and write the model, completely or not at all."""
    with exit_on_error(interrupted="stopped: the model is as it was"):
        data, _, _ = make_configs({**settings, "facts": str(file)})
        from hmn.qa.factoid_qa import FactoidQA
        from hmn.serve.compact import without_journal

        table = read_table(data, quiet=False)
        with without_journal(model):
            qa = FactoidQA.from_pretrained(model)
            done = change(qa, table)
            qa.save_pretrained(model if out is None else out)
        log(
            f"{done.added:,} facts added, {done.removed:,} removed, {done.unchanged:,} unchanged; "
            f"wrote {model if out is None else out} with {len(qa.facts):,} facts"
        )
