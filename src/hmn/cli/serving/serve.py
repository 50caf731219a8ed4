"""``hmn serve``: answers over HTTP from a trained model."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmn.cli.flags import READING, with_settings
from hmn.cli.output import exit_on_error, log
from hmn.cli.serving.table import model_of
from hmn.errors import ConfigError, MissingPackageError
from hmn.qa.over_ranks.launch import joined
from hmn.starting import starting

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

TOKEN = "HMN_TOKEN"
"""Environment variable of the token."""


@partial(with_settings, only=(*READING, "question_language"))
def serve(
    settings: dict[str, Any],
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a trained model; or a file of facts, beside which one is trained and kept."
        ),
    ],
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

    A browser shows a page for questions at the same address, and a description of the
    API at /docs. Writes are kept in a journal beside MODEL; 'hmn compact' folds it in.
    Under torchrun the cells are divided among the processes, and facts cannot be changed.
    """
    with exit_on_error(interrupted=""), ExitStack() as stack:
        with starting(model):
            try:
                from hmn.serve.http.server import log_to_stderr, make_server, run
                from hmn.serve.http.settings import Settings
            except ModuleNotFoundError as error:
                raise MissingPackageError(f"hmn serve needs {error.name}: pip install 'hmn[serve]'") from None
            from hmn.serve.served import ServedModel

            own = Settings(
                host,
                port,
                _secret(token_file) or _one_word(TOKEN, os.environ.get(TOKEN) or None),
                _secret(read_token_file),
                allow_writes,
                tuple(allow_host or ()),
            )
            ranks = stack.enter_context(joined())
            if ranks is not None and model.is_file():
                raise ConfigError(
                    f"{model}: got a file, expected the folder of a trained model over several ranks: train "
                    f"one with 'hmn train --facts {model}'"
                )
            if ranks is not None and ranks.rank:
                _follow(model, index, ranks)
                return
            _check_port(host, port)  # before work of seconds, or minutes of training
            folder = model_of(model, **settings) if ranks is None else model
            log_to_stderr()
            served = ServedModel.open(folder, index=index, ranks=ranks)
        with served:
            server = make_server(
                served, own, lambda url: log(f"serving {folder} at {url}: open it in a browser")
            )
            run(server)
            if served.failure is not None:
                raise served.failure


def _follow(model: Path, index: str | None, ranks: Ranks) -> None:
    """Join in what rank 0 answers, until it ends: signals to stop are its own to follow."""
    from hmn.qa.factoid_qa import FactoidQA
    from hmn.qa.over_ranks.lead import follow

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    follow(FactoidQA.from_pretrained(model, index=index, ranks=ranks), ranks)


def _check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ConfigError: Another program has it, or the address is not this machine's.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror or error}: choose another with --port") from None


def _secret(file: Path | None) -> str | None:
    """The token in a file.

    Raises:
        ConfigError: There is no such file, or no token in it.
    """
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}, expected a file with a token in it") from None
    return _one_word(str(file), text)


def _one_word(place: str, text: str | None) -> str | None:
    """A token, if there is one, without space around it.

    Raises:
        ConfigError: It is not one word, so that no client could send it.
    """
    if text is None:
        return None
    if len(text.split()) != 1:
        raise ConfigError(f"{place}: expected a token in it, one word: make one with 'openssl rand -hex 32'")
    return text.strip()
