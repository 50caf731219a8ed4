from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from hmn.errors import InUseError
from hmn.serve.writes.lock import ServeLock, lock_path


def test_it_is_held_until_it_is_closed(tmp_path: Path) -> None:
    with ServeLock(tmp_path / "model") as lock:
        with pytest.raises(
            InUseError, match=f"process {os.getpid()} serves or changes it.*: stop that process"
        ):
            ServeLock(tmp_path / "model")
        ServeLock(tmp_path / "other").close()
    lock.close()
    ServeLock(tmp_path / "model").close()
    assert lock_path(tmp_path / "model").read_text() == f"{os.getpid()}\n"


def test_a_link_leads_to_the_lock_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with ServeLock(tmp_path / "model"), pytest.raises(InUseError):
        ServeLock(tmp_path / "link")


def test_a_holder_that_has_not_written_its_id_is_waited_for(tmp_path: Path) -> None:
    with ServeLock(tmp_path / "model"):
        path = lock_path(tmp_path / "model")
        path.write_text("")

        def later() -> None:
            time.sleep(0.03)
            path.write_text("4711\n")

        threading.Thread(target=later).start()
        with pytest.raises(InUseError, match="process 4711 serves"):
            ServeLock(tmp_path / "model")
        path.write_text("")
        with pytest.raises(InUseError, match="process of an unknown id serves"):
            ServeLock(tmp_path / "model")
