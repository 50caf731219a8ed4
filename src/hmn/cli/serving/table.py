"""A file of facts in place of a model: the model is trained without questions, and kept beside the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hmn.cli.flags import read_table
from hmn.cli.output import log, log_names
from hmn.qa.config import DataConfig

SUFFIXES = re.compile(r"(\.[A-Za-z]\w{0,7}){1,2}$")
"""Pattern of the suffixes of a file of facts, which the name of the model's folder leaves out."""


def model_folder(facts: str) -> str:
    """Name of the folder that the model of a file of facts goes to."""
    return f"{SUFFIXES.sub('', Path(facts).name).strip('-') or 'facts'}-model"


def model_of(path: Path, **reading: Any) -> Path:
    """The folder of a model: the path itself or, of a file of facts, the model beside it, trained if need be.

    Args:
        path: The folder or the file.
        reading: How the file is read; see ``DataConfig``.

    Raises:
        ConfigError: A training of other facts was interrupted there.
        DataError: The facts cannot be read.
        BundleError: The folder cannot be written.
        InUseError: Another process serves the model, or trains it.
    """
    if not path.is_file():
        return path
    from hmn.serve.writes.lock import ServeLock

    folder = path.with_name(model_folder(path.name))
    with ServeLock(folder):
        _train(DataConfig(facts=str(path), **reading), path, folder)
    return folder


def _train(data: DataConfig, path: Path, folder: Path) -> None:
    """Train on a file of facts, unless that was done before."""
    from hmn.store.manifest import is_bundle
    from hmn.store.replace import find_bundle

    unfinished = find_bundle(folder.with_name(folder.name + ".run") / "checkpoint").exists()
    if is_bundle(find_bundle(folder)) and not unfinished:
        changed = folder.stat().st_mtime < path.stat().st_mtime
        note = f" {path.name} has changed since: delete {folder} and its journal to train again"
        log(f"{folder} was trained on {path.name} before, and answers.{note if changed else ''}")
        return
    from hmn.qa.factoid_qa import FactoidQA

    facts = read_table(data, quiet=False)
    log(f"{len(facts):,} facts; the model goes to {folder}")
    qa = FactoidQA(facts)
    log_names(qa)
    qa.fit(out=folder, resume=unfinished)
