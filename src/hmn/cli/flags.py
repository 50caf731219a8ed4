"""Flags that commands share, one for each setting, and reading the files that they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from hmn.cli.output import log, log_left_out, log_skipped
from hmn.qa.config import DataConfig, ModelConfig, TrainConfig

if TYPE_CHECKING:
    from hmn.facts.questions import QuestionSet
    from hmn.facts.table import FactTable

GROUPS = {"Data": DataConfig, "Model": ModelConfig, "Training": TrainConfig}
"""Configurations whose settings become flags, under the heading that each has in the help."""

FILES = {"facts", "names", "questions", "valid"}
"""Settings that are the path of a file; the help says so."""

READING = ("names", "columns", "separator", "wide", "subject", "sheet", "language", "encoding", "skip_bad")
"""Settings that say how files of facts are read."""

OtherIndex = Annotated[
    str | None,
    typer.Option(
        "--index",
        help="Build this index and search with it instead of the model's own; 'hmn train --help' lists them.",
    ),
]
OtherStrategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="Read the candidates that this strategy draws for each question, such as "
        "top-k:4+sample-k:4, instead of the best cells that the index finds.",
    ),
]
OtherHops = Annotated[
    int | None,
    typer.Option(
        "--hops", min=2, help="Follow chains of at most this number of facts instead of the model's own."
    ),
]


class GroupedCommand(TyperCommand):
    """A command whose help lists its settings under the headings of ``GROUPS``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # of click, which some Typers vendor
        """Write the flags of the command itself first, then those of each configuration."""
        heading = {field.name: name for name, config in GROUPS.items() for field in fields(config)}
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Options", *GROUPS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[heading.get(str(parameter.name), "Options")].append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def with_settings(command: Callable[..., None], only: Collection[str] = ()) -> Callable[..., None]:
    """Give a command one flag per setting of the configurations, or per setting of ``only``.

    The settings that are given on the command line reach the command as the dictionary ``settings``. Typer
    reads flags from a signature, so this builds a function with the signature that has all of them.
    """
    flags = [
        _flag(field, hints[field.name])
        for config, hints in ((config, get_type_hints(config)) for config in GROUPS.values())
        for field in fields(config)
        if not only or field.name in only
    ]
    names = {flag.name for flag in flags}

    def with_flags(**values: Any) -> None:
        settings = {name: value for name, value in values.items() if name in names and value is not None}
        command(**{name: value for name, value in values.items() if name not in names}, settings=settings)

    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "settings"
    ]
    with_flags.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *flags]}
    with_flags.__doc__, with_flags.__name__ = command.__doc__, command.__name__
    return with_flags


def read_table(data: DataConfig, *, quiet: bool, inverse: bool = False) -> FactTable:
    """Read the facts and the names of their entities."""
    from hmn.facts.table import FactTable

    facts = FactTable.read(
        str(data.facts),
        data.names,
        columns=data.columns.split(","),
        separator=data.separator,
        encoding=data.encoding,
        wide=data.wide,
        subject=data.subject,
        sheet=data.sheet,
        language=data.language,
        inverse=inverse,
        skip_bad=data.skip_bad,
        progress=not quiet,
    )
    for note in facts.notes:
        log(note)
    log_skipped("facts and names", facts.skipped)
    if facts.repeated.total:
        log(f"{facts.repeated.total:,} facts came again and are kept once: {facts.repeated.messages[0]}")
    return facts


def read_questions(data: DataConfig, path: str, facts: FactTable) -> QuestionSet:
    """Read questions about a table."""
    from hmn.facts.questions import QuestionSet

    questions = QuestionSet.read(
        path, facts, separator=data.separator, encoding=data.encoding, skip_bad=data.skip_bad
    )
    log_left_out(path, questions)
    return questions


def _flag(field: Field[Any], kind: Any) -> inspect.Parameter:
    """The flag of a setting, as a parameter of a function; None where it is not given."""
    flag = "--" + field.name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if bool in {kind, *get_args(kind)} else [flag]
    default = "" if field.default in {None, ""} else f" [default: {_shown(field.default)}]"
    metavar = "<file>" if field.name in FILES else "<folder>" if field.name == "out" else None
    option = typer.Option(*names, help=field.metadata["help"] + default, show_default=False, metavar=metavar)
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown(default: Any) -> Any:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
