"""A file of facts in place of a model: the model is trained without questions, and kept beside the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hmn.cli.flags import read_table
from hmn.cli.output import log, log_names
from hmn.errors import ConfigError
from hmn.qa.config import DataConfig

TABLE = "table.txt"
"""File in the folder of the training that says which file the model is of."""

SUFFIXES = re.compile(r"(\.[A-Za-z]\w{0,7}){1,2}$")
"""Pattern of the suffixes of a file of facts, which the name of the model's folder leaves out."""


def model_folder(facts: str) -> str:
    """Name of the folder that the model of a file of facts goes to."""
    return f"{SUFFIXES.sub('', Path(facts).name).strip('-') or 'facts'}-model"


def model_of(path: Path, question_language: str | None = None, **reading: Any) -> Path:
    """The folder of a model: the path itself or, of a file of facts, the model beside it, trained if need be.

    Args:
        path: The folder or the file.
        question_language: Language of the questions that are made from the facts; see ``TrainConfig``.
        reading: How the file is read; see ``DataConfig``.

    Raises:
        ConfigError: There is no such file or folder, or the folder has the model of another file.
        DataError: The facts cannot be read.
        BundleError: The folder cannot be written.
        InUseError: Another process serves the model, or trains it.
    """
    from hmn.store.manifest import is_bundle
    from hmn.store.replace import find_bundle

    if not path.exists() and not is_bundle(find_bundle(path)):  # a crash may have set it aside
        raise ConfigError(
            f"{path}: no such file or folder, expected a model or a file of facts: check the path"
        )
    if not path.is_file():
        return path
    from hmn.serve.writes.lock import ServeLock

    folder = path.with_name(model_folder(path.name))
    with ServeLock(folder):
        _train(DataConfig(facts=str(path), **reading), path, folder, question_language)
    return folder


def _train(data: DataConfig, path: Path, folder: Path, language: str | None) -> None:
    """Train on a file of facts, unless that was done before."""
    from hmn.store.manifest import is_bundle
    from hmn.store.replace import find_bundle

    run = folder.with_name(folder.name + ".run")
    unfinished = find_bundle(run / "checkpoint").exists()
    trained = is_bundle(find_bundle(folder))
    if trained and not unfinished:
        _check_table(run / TABLE, path, folder)
        changed = folder.stat().st_mtime < path.stat().st_mtime
        note = f" {path.name} has changed since: delete {folder} and its journal to train again"
        log(f"{folder} was trained on {path.name} before, and answers.{note if changed else ''}")
        return
    if not unfinished and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: it holds something else, expected room for the model: move that away")
    from hmn.qa.factoid_qa import FactoidQA
    from hmn.store.atomic import explaining

    facts = read_table(data, quiet=False)
    log(f"{len(facts):,} facts; the model goes to {folder}")
    qa = FactoidQA(facts)
    log_names(qa)
    try:
        qa.fit(out=folder, resume=unfinished, question_language=language)
    except KeyboardInterrupt:
        log("training stopped: run the same command again to continue")
        raise
    except ConfigError as error:
        if not unfinished:
            raise
        raise ConfigError(
            f"{run}: an unfinished training of other facts or with other flags, expected {path.name} and the "
            f"flags as they were: put them back, or delete {run} and {folder} to train again"
        ) from error
    with explaining("write", run / TABLE):
        (run / TABLE).write_text(path.name, encoding="utf-8")


def _check_table(record: Path, path: Path, folder: Path) -> None:
    """Refuse the model of another file, such as that of world.tsv in place of world.csv.

    Raises:
        ConfigError: The folder has the model of another file.
    """
    if not record.is_file():  # trained by 'hmn train', or before there were such records
        return
    table = record.read_text(encoding="utf-8", errors="replace")
    if table != path.name:
        raise ConfigError(
            f"{folder} has the model of {table}, expected that of {path.name}: rename one of the files, or "
            f"serve {folder} itself"
        )
