from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from tests.serve.processes import Appender, Forks, batch

from hmn.errors import JournalError, KeyReuseError
from hmn.serve.journal import Entry, Journal, Written
from hmn.serve.writes.operations import Operation, packed


def entry(number: int, key: str | None = None) -> Entry:
    return Entry(Written(number, 3, 0, 0), packed(batch(0, number)), key)


def versions(path: Path, bundle: str = "bundle") -> list[int]:
    """The versions in a journal, after a look at each write."""
    with Journal(path, bundle) as journal:
        found = list(journal.read())
        assert all(operations == batch(0, version) for version, operations in found)
        return [version for version, _ in found]


def test_writes_are_kept_in_order_and_with_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    with Journal(path, "bundle") as journal:
        assert (journal.version, journal.count) == (0, 0)
        journal.append([entry(1), entry(2)])
        journal.append([entry(3)])
        for wrong in ([entry(3)], [entry(5)], [entry(4), entry(6)]):
            with pytest.raises(JournalError, match="expected those after 3"):
                journal.append(wrong)
        assert (journal.version, journal.count) == (3, 3)
    assert versions(path) == [1, 2, 3]
    with pytest.raises(JournalError, match="it is closed"):
        journal.append([entry(4)])


def test_every_commit_is_synced(tmp_path: Path) -> None:
    with Journal(tmp_path / "model.journal", "bundle") as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_key_gives_the_first_result_and_refuses_another_write(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    with Journal(path, "bundle") as journal:
        journal.append([entry(1, "a"), entry(2)])
    with Journal(path, "bundle") as journal:
        assert journal.recall("a", entry(1).operations) == Written(1, 3, 0, 0, repeated=True)
        assert journal.recall("b", entry(1).operations) is None
        with pytest.raises(KeyReuseError, match="'a' came before with another write"):
            journal.recall("a", entry(2).operations)
        with pytest.raises(JournalError, match="nothing was changed"):
            journal.append([entry(3), entry(4, "a")])  # SQLite itself refuses a key twice
    assert versions(path) == [1, 2]


def test_a_journal_knows_its_bundle(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    Journal(path, "first").close()
    with Journal(path, "second") as journal:  # nothing can be lost
        journal.append([entry(1)])
    with pytest.raises(JournalError, match=r"holds 1 writes for bundle second, but the bundle .* is third"):
        Journal(path, "third")
    assert versions(path, "second") == [1]


def test_a_fold_is_finished_by_the_bundle_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    for bundle, kept in (("old", [1, 2]), ("new", [])):
        path.unlink(missing_ok=True)
        with Journal(path, "old") as journal:
            journal.append([entry(1), entry(2, "key")])
            journal.begin_fold("new")
        assert versions(path, bundle) == kept
        with Journal(path, bundle) as journal:
            assert (journal.version, journal.count) == (2, len(kept))
            journal.append([entry(3)])
            assert journal.recall("key", entry(2).operations) == Written(2, 3, 0, 0, repeated=True)
        assert versions(path, bundle) == [*kept, 3]
        other = {"old": "new", "new": "old"}[bundle]
        with pytest.raises(JournalError, match=f"the bundle beside it is {other}"):
            Journal(path, other)


def test_old_keys_are_forgotten_when_a_journal_is_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with Journal(tmp_path / "model.journal", "old") as journal:
        monkeypatch.setattr("time.time", lambda: now - 8 * 24 * 3600)
        journal.append([entry(1, "last week")])
        monkeypatch.setattr("time.time", lambda: now - 6 * 24 * 3600)
        journal.append([entry(2, "this week")])
        monkeypatch.undo()
        journal.begin_fold("new")
        journal.finish_fold()
        assert journal.recall("last week", entry(1).operations) is None
        assert journal.recall("this week", entry(2).operations) is not None


def test_files_that_are_no_journal_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    text, other, newer = (tmp_path / name for name in ("text", "other", "newer"))
    text.write_bytes(b"subject,relation,object\n" * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    connection.close()
    Journal(newer, "bundle").close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE about SET value = 2 WHERE name = 'format'")
    connection.close()
    for path, message in (
        (text, "file is not a database"),
        (other, "a database, but no journal"),
        (newer, "format 2, this hmn reads 1: install a newer hmn"),
        (tmp_path, "unable to open"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(JournalError, match=message):
            Journal(path, "bundle")
        if path is text:
            assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE writes SET operations = replace(operations, 'n2', 'n9') WHERE version = 2", "write 2"),
        ("UPDATE writes SET operations = '[' WHERE version = 2", "write 2"),
        ("DELETE FROM writes WHERE version = 2", "write 2 is missing"),
        ("DELETE FROM writes WHERE version = 1", "write 1 is missing"),
    ],
)
def test_a_damaged_write_is_named(tmp_path: Path, damage: str, message: str) -> None:
    path = tmp_path / "model.journal"
    with Journal(path, "bundle") as journal:
        journal.append([entry(1), entry(2), entry(3)])
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(JournalError, match=message):
        versions(path)


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    with Journal(path, "bundle") as journal:
        journal.append([entry(1)])
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        large = Entry(Written(3, 0, 0, 0), "x" * 100_000)
        with pytest.raises(JournalError, match=r"database or disk is full.*nothing was changed: free some"):
            journal.append([entry(2), large])
        assert journal.version == 1
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        journal.append([entry(2)])
    assert versions(path) == [1, 2]


def test_a_torn_end_of_the_log_costs_what_was_not_committed_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "model.journal"
    log, ends = Path(f"{path}-wal"), []
    with Journal(path, "bundle") as journal:
        for number in range(1, 7):
            journal.append([entry(number)])
            ends.append(log.stat().st_size)
        rng = random.Random(0)
        cuts = [*ends, *(end - 1 for end in ends), *(rng.randrange(ends[0], ends[-1]) for _ in range(20))]
        for cut in cuts:
            torn = tmp_path / f"torn{cut}" / "model.journal"
            torn.parent.mkdir(exist_ok=True)
            shutil.copy(path, torn)
            Path(f"{torn}-wal").write_bytes(log.read_bytes()[:cut])
            assert len(versions(torn)) == sum(end <= cut for end in ends), cut
            rotten = torn.with_name("rotten.journal")
            shutil.copy(path, rotten)
            data = bytearray(log.read_bytes())
            data[cut - 1] ^= 1
            Path(f"{rotten}-wal").write_bytes(data)
            assert len(versions(rotten)) == sum(end < cut for end in ends), cut


def test_threads_share_commits_and_each_has_its_own_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.journal"
    found: dict[int, tuple[int, int]] = {}
    with Journal(path, "bundle") as journal:
        append = journal.append
        monkeypatch.setattr(journal, "append", lambda entries: (time.sleep(0.003), append(entries)))
        appender = Appender(journal)

        def write(writer: int) -> None:
            for number in range(10):
                found[appender.together.submit(batch(writer, number)).result().version] = writer, number

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        appender.together.close()
        assert appender.commits <= 40
        assert list(found) and sorted(found) == list(range(1, 81))
        for version, operations in journal.read():
            assert operations == batch(*found[version])


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_and_none_is_there_in_part(tmp_path: Path, forks: Forks) -> None:
    """40 times ``kill -9`` of a process whose four threads write."""
    path, rng = tmp_path / "model.journal", random.Random(3)
    known: dict[int, tuple[int, int]] = {}  # writer and number of each version that must be there
    for kill in range(40):
        process = forks.start("write_journal", path, 4, 1_000_000 * kill)
        lines = [forks.line() for _ in range(rng.randrange(1, 30))]
        time.sleep(rng.random() * 0.01)
        os.kill(process, signal.SIGKILL)
        last_lines, status = forks.until_end()
        assert status == -signal.SIGKILL
        known |= {
            int(version): (int(writer), int(number)) for _, version, writer, number in lines + last_lines
        }
        with Journal(path, "bundle") as journal:
            found = {version: written_by(operations) for version, operations in journal.read()}
        assert list(found) == list(range(1, journal.version + 1))
        assert found | known == found, "an acknowledged write is lost, or another one"
        assert len(found) - len(known) <= 4, "each thread waits for one write at most"
        known = found
    assert len(known) > 200


def written_by(operations: list[Operation]) -> tuple[int, int]:
    """Writer and number of a write, which must be whole."""
    writer, number = operations[0].facts[0][0][1:].split("n")
    assert operations == batch(int(writer), int(number)), "half a write"
    return int(writer), int(number)
