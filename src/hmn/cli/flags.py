"""Flags that commands share: one for each setting, and those that choose another index."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from hmn.qa.config import DataConfig, ModelConfig, TrainConfig

OtherIndex = Annotated[
    str | None,
    typer.Option(
        "--index", help="Search with this one, built now, in place of the model's own; see hmn train --help."
    ),
]
OtherStrategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="Read the candidates of a strategy, as top-k:4+sample-k:4, drawn for each question alone, in "
        "place of the cells that the index finds best.",
    ),
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting of the configurations; they arrive as ``settings``."""
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]
    flags = []
    for kind in (DataConfig, ModelConfig, TrainConfig):
        types = get_type_hints(kind)
        for one in fields(kind):
            flag = "--" + one.name.replace("_", "-")
            names = [f"{flag}/--no-{flag[2:]}"] if types[one.name] is bool else [flag]
            default = "" if one.default in {None, ""} else f" [default: {one.default}]"
            option = typer.Option(*names, help=one.metadata["help"] + default, show_default=False)
            wanted = types[one.name] | None
            flags.append(
                inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[wanted, option],
                )
            )

    def given(**values: Any) -> None:
        names = {flag.name for flag in flags}
        settings = {name: value for name, value in values.items() if name in names and value is not None}
        command(**{name: value for name, value in values.items() if name not in names}, settings=settings)

    hints = get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    given.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    given.__annotations__ = {one.name: one.annotation for one in [*own, *flags]}
    given.__doc__, given.__name__ = command.__doc__, command.__name__
    return given
