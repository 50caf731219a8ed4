"""``hmn facts``: add facts to a trained model, remove or replace them, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmn.cli.output import exit_on_error, log, log_skipped
from hmn.qa.config import DataConfig

if TYPE_CHECKING:
    from hmn.facts.table import FactTable
    from hmn.qa.changes.changes import FactChange
    from hmn.qa.factoid_qa import FactoidQA

facts = typer.Typer(no_args_is_help=True, help="Change the facts of a trained model, without training.")

Model = Annotated[Path, typer.Argument(help="Folder of a trained model.")]
File = Annotated[Path, typer.Argument(help="Facts: TSV, CSV, JSON lines or Parquet; plain, .gz or .zst.")]
NamesFile = Annotated[Path | None, typer.Option(help="Names of new entities: rows of (entity, name).")]
Columns = Annotated[str, typer.Option(help="Names of the three columns in the header of the facts.")]
Separator = Annotated[str | None, typer.Option(help="Character between the files' columns.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip bad lines and count them, not stop.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the changed model.  [default: MODEL itself]")]


@facts.command()
def add(
    model: Model,
    file: File,
    names: NamesFile = None,
    columns: Columns = DataConfig.columns,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    out: Out = None,
) -> None:
    """Add facts; new entities and relations come with them. Facts that are there change nothing."""

    def change(qa: FactoidQA, table: FactTable) -> FactChange:
        return qa.add_facts(table)

    _change(model, file, names, columns, separator, skip_bad, out, change=change)


@facts.command()
def replace(
    model: Model,
    file: File,
    names: NamesFile = None,
    columns: Columns = DataConfig.columns,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    out: Out = None,
) -> None:
    """Give (subject, relation) pairs new objects: all other facts of these pairs go."""
    _change(
        model,
        file,
        names,
        columns,
        separator,
        skip_bad,
        out,
        change=lambda qa, table: qa.replace_facts(table),
    )


@facts.command()
def remove(
    model: Model,
    file: File,
    columns: Columns = DataConfig.columns,
    separator: Separator = None,
    skip_bad: SkipBad = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Pass over facts that the model does not have.")
    ] = False,
    out: Out = None,
) -> None:
    """Remove facts; they are never answered again."""

    def change(qa: FactoidQA, table: FactTable) -> FactChange:
        return qa.remove_facts(table, ignore_missing=ignore_missing)

    _change(model, file, None, columns, separator, skip_bad, out, change=change)


def _change(
    model: Path,
    file: Path,
    names: Path | None,
    columns: str,
    separator: str | None,
    skip_bad: bool,
    out: Path | None,
    *,
    change: Callable[[FactoidQA, FactTable], FactChange],
) -> None:
    """Read the files, change the model's facts and write the model, completely or not at all."""
    with exit_on_error(interrupted="stopped: the model is as it was"):
        from hmn.facts.table import FactTable
        from hmn.qa.factoid_qa import FactoidQA

        table = FactTable.read(
            file, names, columns=columns.split(","), separator=separator, skip_bad=skip_bad, progress=True
        )
        log_skipped("facts and names", table.skipped)
        qa = FactoidQA.from_pretrained(model)
        done = change(qa, table)
        qa.save_pretrained(model if out is None else out)
        log(
            f"{done.added:,} facts added, {done.removed:,} removed, {done.unchanged:,} unchanged; "
            f"wrote {model if out is None else out} with {len(qa.facts):,} facts"
        )
