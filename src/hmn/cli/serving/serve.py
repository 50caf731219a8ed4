"""``hmn serve``: answers over HTTP from a trained model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hmn.cli.output import exit_on_error, log
from hmn.errors import ConfigError, MissingPackageError
from hmn.starting import starting

TOKEN = "HMN_TOKEN"
"""Environment variable of the token."""


def serve(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients need; the variable HMN_TOKEN stands for it."),
    ] = None,
    read_token_file: Annotated[
        Path | None, typer.Option(help="File with a token that allows reading alone.")
    ] = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Allow writes without a token, on a loopback address.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further name by which clients call the server; may be repeated.")
    ] = None,
    index: Annotated[str | None, typer.Option(help="Answer through another index; see 'hmn ask'.")] = None,
) -> None:
    """Answer questions over HTTP, and change facts while answering.

    Writes are kept in a journal beside MODEL; 'hmn compact' folds it in.
    """
    with exit_on_error(interrupted=""):
        with starting(model):
            try:
                from hmn.serve.http.server import log_to_stderr, make_server, run
                from hmn.serve.http.settings import Settings
            except ModuleNotFoundError as error:
                raise MissingPackageError(f"hmn serve needs {error.name}: pip install 'hmn[serve]'") from None
            from hmn.serve.served import ServedModel

            settings = Settings(
                host,
                port,
                _secret(token_file) or os.environ.get(TOKEN) or None,
                _secret(read_token_file),
                allow_writes,
                tuple(allow_host or ()),
            )
            log_to_stderr()
            served = ServedModel.open(model, index=index)
        with served:
            log(f"serving {model} at http://{host}:{port}")
            run(make_server(served, settings))


def _secret(file: Path | None) -> str | None:
    """The token in a file.

    Raises:
        ConfigError: There is no such file, or no token in it.
    """
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}, expected a file with a token in it") from None
    if len(text.split()) != 1:
        raise ConfigError(f"{file}: expected a token in it, one word: make one with 'openssl rand -hex 32'")
    return text
