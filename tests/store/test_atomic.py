"""A file is replaced as a whole, whatever happens meanwhile."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.store.crashes import fail_at

from hmn.errors import BundleError
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
