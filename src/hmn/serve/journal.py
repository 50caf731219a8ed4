"""The journal of a served model: every write that was acknowledged since its bundle was written.

It is a SQLite database beside the bundle, ``MODEL.journal``, in WAL mode and with ``synchronous=FULL``: what
is in it survives the end of the process, and of the machine as far as the disk keeps what it has synced.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from hmn.errors import JournalError, KeyReuseError
from hmn.serve.writes.operations import Operation, digest, restored
from hmn.store.atomic import explaining, make_parents, resolved, sync_folder
from hmn.store.manifest import MANIFEST
from hmn.store.replace import find_bundle

APPLICATION_ID = 0x686D6E6A
"""Number by which SQLite knows a file as a journal: ``hmnj``."""
FORMAT_VERSION = 1
"""Version of the tables; newer ones are refused."""
KEPT_SECONDS = 7 * 24 * 3600.0
"""Seconds for which an idempotency key is remembered at least."""
HARMLESS = {"SQLITE_FULL", "SQLITE_BUSY"}
"""Errors of SQLite after which the file is surely as it was, by name."""
TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE writes (version INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, operations TEXT NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, time REAL NOT NULL, digest TEXT NOT NULL, written TEXT NOT NULL)
    WITHOUT ROWID;
"""
"""Statements that make the tables: what the journal belongs to, the writes, and the idempotency keys."""


class Written(NamedTuple):
    """What a write did.

    Attributes:
        version: Number of the write; the table has this version from then on.
        added: Number of facts that were added.
        removed: Number of facts that were removed.
        unchanged: Number of given facts that were as they should be already.
        repeated: The idempotency key came again: these are the figures of the first time, and nothing was
            written now.
    """

    version: int
    added: int
    removed: int
    unchanged: int
    repeated: bool = False


class Entry(NamedTuple):
    """A write that goes into the journal.

    Attributes:
        written: What it does, with its version.
        operations: Its operations as JSON, as ``packed`` gives them.
        key: Its idempotency key, if it has one.
    """

    written: Written
    operations: str
    key: str | None = None


def journal_path(folder: Path | str) -> Path:
    """The journal of a bundle: a file beside its folder."""
    path = resolved(folder)
    return path.with_name(f"{path.name}.journal")


def fingerprint(folder: Path | str) -> str:
    """What a journal knows its bundle by: the SHA-256 of its manifest, which has the checksums of all files.

    Raises:
        BundleError: There is no manifest.
    """
    manifest = find_bundle(resolved(folder)) / MANIFEST
    with explaining("read", manifest):
        return hashlib.sha256(manifest.read_bytes()).hexdigest()


class Journal:
    """Writes of one bundle, in order. One thread at a time may call it, and one process may have it open.

    Args:
        path: The file; it is made if it is missing.
        bundle: Fingerprint of the bundle.

    Attributes:
        bundle: Fingerprint of the bundle.
        base: The last version that the bundle itself holds.
        version: The last version.

    Raises:
        JournalError: The file is damaged, no journal, or of a newer format, or has writes of another bundle.
    """

    def __init__(self, path: Path | str, bundle: str) -> None:
        self.path, self.bundle = resolved(path), bundle
        self.base = self.version = 0
        self._refusal = ""
        with explaining("open", self.path):
            make_parents(self.path)
        with self._explained():
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with self._explained():
                self._open(bundle)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def count(self) -> int:
        """Number of writes that the bundle does not hold."""
        return self.version - self.base

    def recall(self, key: str, operations: str) -> Written | None:
        """What the write with an idempotency key did; None if there was none.

        Raises:
            KeyReuseError: It was another write.
        """
        with self._explained():
            row = self._one("SELECT digest, written FROM keys WHERE key = ?", key)
        if row is None:
            return None
        if row[0] != digest(operations):
            raise key_reused(key)
        version, added, removed, unchanged = json.loads(row[1])
        return Written(version, added, removed, unchanged, repeated=True)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add writes in one transaction: when this returns, they are on disk; if it raises, none is there.

        Raises:
            JournalError: The disk refuses, the journal was closed, or a version is not the next one.
        """
        versions = [entry.written.version for entry in entries]
        if versions != [self.version + place for place in range(1, len(entries) + 1)]:
            raise JournalError(f"{self.path}: got versions {versions}, expected those after {self.version}")
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO writes VALUES (?, ?, ?)",
                [
                    (entry.written.version, zlib.crc32(entry.operations.encode()), entry.operations)
                    for entry in entries
                ],
            )
            self._connection.executemany(
                "INSERT INTO keys VALUES (?, ?, ?, ?)",
                [
                    (entry.key, time.time(), digest(entry.operations), json.dumps(entry.written[:4]))
                    for entry in entries
                    if entry.key is not None
                ],
            )
        self.version += len(entries)

    def read(self) -> Iterator[tuple[int, list[Operation]]]:
        """Version and operations of each write that the bundle does not hold, in order.

        Raises:
            JournalError: A write is missing or damaged.
        """
        expected = self.base
        with self._explained():
            rows = self._connection.execute("SELECT version, crc32, operations FROM writes ORDER BY version")
            for version, crc32, operations in rows:
                expected += 1
                if version != expected:
                    raise self._damaged(f"write {expected} is missing")
                try:
                    if zlib.crc32(operations.encode()) != crc32:
                        raise ValueError("its CRC32 is another")
                    found = restored(operations)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise self._damaged(f"write {version} does not read ({error})") from None
                yield version, found

    def begin_fold(self, bundle: str) -> None:
        """Note the fingerprint of a bundle with all writes of the journal, before it takes its place."""
        with self._transaction():
            self._put("folding", bundle)
            self._put("folded", self.version)

    def finish_fold(self) -> None:
        """Forget the writes that the new bundle holds; from now on the journal belongs to it."""
        with self._transaction():
            folded = self._about("folded")
            self._connection.execute("DELETE FROM writes WHERE version <= ?", (folded,))
            self._connection.execute("DELETE FROM keys WHERE time < ?", (time.time() - KEPT_SECONDS,))
            bundle = self._about("folding")
            self._put("bundle", bundle)
            self._put("base", folded)
            self._drop_fold()
        self.base, self.bundle = folded, bundle
        with suppress(sqlite3.Error):  # only gives room back
            self._connection.execute("VACUUM")

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._refusal = self._refusal or "it is closed"
        self._connection.close()

    def _open(self, bundle: str) -> None:
        """Make the tables if there are none; settle which bundle the journal belongs to."""
        connection = self._connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        kind = self._one("PRAGMA application_id")
        is_new = self._one("SELECT count(*) FROM sqlite_master") == (0,)
        if not is_new and kind != (APPLICATION_ID,):
            raise JournalError(f"{self.path}: a database, but no journal: move it away, or rename the model")
        if is_new:
            connection.executescript(
                f"BEGIN; {TABLES} PRAGMA application_id={APPLICATION_ID}; "
                f"INSERT INTO about VALUES ('format', {FORMAT_VERSION}), ('base', 0); COMMIT"
            )
            with explaining("open", self.path):
                sync_folder(self.path.parent)
        found = self._about("format")
        if found != FORMAT_VERSION:
            raise JournalError(
                f"{self.path}: format {found!r}, this hmn reads {FORMAT_VERSION}: install a newer hmn"
            )
        result = self._one("PRAGMA quick_check(1)")
        if result != ("ok",):
            raise self._damaged(str(result))
        self._settle(bundle)
        last = self._one("SELECT max(version) FROM writes")
        self.base = self._about("base")
        self.version = max(self.base, (last and last[0]) or 0)

    def _settle(self, bundle: str) -> None:
        """See to it that the journal belongs to the bundle beside it.

        A crash while the journal was folded in leaves the old bundle, to which all writes still apply, or
        the new one, which holds them.
        """
        own, folding = self._about("bundle"), self._about("folding")
        writes = (self._one("SELECT count(*) FROM writes") or (0,))[0]
        if bundle == folding:
            self.finish_fold()
        elif bundle == own or not writes:
            with self._transaction():
                self._put("bundle", bundle)
                self._drop_fold()
        else:
            raise JournalError(
                f"{self.path}: holds {writes:,} writes for bundle {own!s:.12}, but the bundle beside it is "
                f"{bundle:.12}: bring back the bundle that was served, or move the journal away to give its "
                "writes up"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit what the block does, all of it or nothing."""
        if self._refusal:
            raise JournalError(f"{self.path}: cannot be written, {self._refusal}: open the model again")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            name = error.sqlite_errorname
            if name not in HARMLESS:
                # after an error of the disk nobody knows what is on it: only reading the file again shows
                self._refusal = f"an earlier write failed ({name})"
            raise JournalError(
                f"{self.path}: cannot be written ({error}), nothing was changed: free some space, or check "
                "the disk and open the model again"
            ) from error

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return row

    def _about(self, name: str) -> Any:
        row = self._one("SELECT value FROM about WHERE name = ?", name)
        return None if row is None else row[0]

    def _put(self, name: str, value: Any) -> None:
        self._connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def _drop_fold(self) -> None:
        self._connection.execute("DELETE FROM about WHERE name IN ('folding', 'folded')")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of SQLite into a ``JournalError``."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> JournalError:
        return JournalError(
            f"{self.path}: cannot be read as a journal ({what}): restore it from a copy, or move it away"
        )


def key_reused(key: str) -> KeyReuseError:
    """The error for an idempotency key that came with another write."""
    return KeyReuseError(
        f"idempotency key {key!r} came before with another write, expected the same one: use a new key"
    )
