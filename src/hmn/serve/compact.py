"""Folds the journal of a served model into its bundle: afterwards the bundle holds all that was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hmn.errors import JournalError
from hmn.qa.saved_model import save_model
from hmn.serve.journal import Journal, fingerprint, journal_path
from hmn.serve.served import checked_bundle, open_both
from hmn.serve.writes.lock import ServeLock, lock_path


class Compacted(NamedTuple):
    """What was folded in.

    Attributes:
        version: The version of the table, which is as it was.
        writes: Number of writes that were in the journal and are in the bundle now.
        facts: Number of facts of the table; None if there was nothing to fold in.
    """

    version: int
    writes: int
    facts: int | None


def compact(folder: Path | str) -> Compacted:
    """Put a bundle with all that is in the journal in the place of the old one, and empty the journal.

    A crash at any point leaves the old bundle with its journal, or the new one with an empty journal, or with
    one that is recognised as folded in. Versions go on from where they were.

    Raises:
        InUseError: Another process serves the folder.
        BundleError, JournalError: The bundle or the journal is damaged, or the disk refuses.
    """
    folder = checked_bundle(folder)
    with ServeLock(folder):
        if not journal_path(folder).exists():
            return Compacted(0, 0, None)
        journal, model = open_both(folder)
        with journal:
            writes = journal.count
            if not writes:
                return Compacted(journal.version, 0, None)
            save_model(
                folder,
                model.config,
                model.facts,
                model.network,
                model._sentence_encoder,
                model._examples,
                model.judge,
                on_sealed=lambda new: journal.begin_fold(fingerprint(new)),
            )
            journal.finish_fold()
            return Compacted(journal.version, writes, len(model.facts))


@contextmanager
def without_journal(folder: Path | str) -> Iterator[None]:
    """Let a block change a bundle by other means than its journal; nobody serves it meanwhile.

    Raises:
        InUseError: Another process serves the folder.
        JournalError: There are writes in the journal, which would not fit the changed bundle.
    """
    if not lock_path(folder).exists():  # it was never served
        yield
        return
    folder = checked_bundle(folder)
    with ServeLock(folder):
        if journal_path(folder).exists():
            with Journal(journal_path(folder), fingerprint(folder)) as journal:
                if journal.count:
                    raise JournalError(
                        f"{journal.path}: holds {journal.count:,} writes that {folder} does not, expected "
                        f"none: fold them in first, with 'hmn compact {folder}'"
                    )
        yield
