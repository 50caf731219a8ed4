"""A file is replaced as a whole, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.store.crashes import fail_at

from hmn.errors import BundleError
from hmn.store import atomic
from hmn.store.atomic import write_atomically


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()], ids=repr)
def test_write_atomically_keeps_the_old_or_the_new(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state"
    seen = []
    for step in range(1, 5):
        write_atomically(path, b"old")
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, step, error, onwards=True)
            with suppress(BundleError, KeyboardInterrupt):
                write_atomically(path, b"new" * 1000)
        seen.append(path.read_bytes())
        assert [f.name for f in tmp_path.iterdir()] == ["state"]
    assert seen == [b"old", b"old", b"new" * 1000, b"new" * 1000]


def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_file(killed: tuple[Path, Any]) -> None:
    root, seen = killed[0], []
    for step in range(1, len(list(root.glob("file*"))) + 1):
        path = root / f"file{step}" / "it"
        seen.append(path.read_text())
        write_atomically(path, b"")
        assert [f.name for f in path.parent.iterdir()] == ["it"]
    assert seen[:2] == ["file old"] * 2
    assert set(seen[2:]) == {"file new"}


def test_write_atomically_makes_folders_follows_links_and_refuses_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state"
    write_atomically(path, b"")
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "link").symlink_to(path)
    write_atomically(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == b"data"
    os.mkfifo(tmp_path / "pipe")
    for wrong in (tmp_path / "a", tmp_path / "pipe"):
        with pytest.raises(BundleError, match="expected a file"):
            write_atomically(wrong, b"data")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_names_are_synced_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a" / "b" / "state"
    write_atomically(path, b"data")
    made = [folder.stat().st_ino for folder in (tmp_path, tmp_path / "a")]
    assert synced == [*made, path.stat().st_ino, path.parent.stat().st_ino]
    synced.clear()
    write_atomically(path, b"more")
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]


@pytest.mark.parametrize(
    ("error", "alive"),
    [(None, True), (PermissionError(), True), (ProcessLookupError(), False)],
    ids=["mine", "another user's", "dead"],
)
def test_files_of_a_process_that_may_be_alive_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, alive: bool
) -> None:
    asked: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        asked.append((pid, number))
        if error is not None:
            raise error

    monkeypatch.setattr(os, "kill", kill)
    new = tmp_path / f".state.hmn-new-{atomic._host()}-77-{'0' * 8}"
    elsewhere = tmp_path / f".state.hmn-new-{'0' * 8}-77-{'0' * 8}"
    for file in (new, elsewhere):
        file.touch()
    write_atomically(tmp_path / "state", b"data")
    assert new.exists() is alive and elsewhere.exists()
    assert asked == [(77, 0)], "signal 0 only asks"


def test_a_removed_bundle_loses_its_manifest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    for name in ("a.json", "manifest.json", "z.json"):
        (folder / name).touch()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    atomic.remove(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["a.json", "z.json"]
