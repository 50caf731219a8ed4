"""Starting reads files ahead, looks for no garbage within the block, and puts all back, whatever happens."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmn.starting import LIBRARIES, _read_ahead, starting

SETTINGS = {"THP_MEM_ALLOC_ENABLE": "1", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SETTINGS:
        monkeypatch.setenv(name, "chosen")
    yield
    gc.unfreeze()


def test_garbage_is_looked_for_again_afterwards_but_not_in_what_came_in(tmp_path: Path) -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with starting(tmp_path):
        assert not gc.isenabled()
        came_in: list[object] = []
    assert gc.isenabled() and gc.get_freeze_count() > before
    assert not any(tracked is came_in for tracked in gc.get_objects())


def test_it_stays_off_for_who_turned_it_off() -> None:
    gc.disable()
    try:
        with starting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_failure_within_the_block_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(KeyError), starting(tmp_path / "nowhere"):
        raise KeyError
    assert gc.isenabled()


def test_pytorch_starts_with_settings_of_its_own_unless_the_user_chose_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with starting():
        assert {name: os.environ[name] for name in SETTINGS} == dict.fromkeys(SETTINGS, "chosen")
    for name in SETTINGS:
        monkeypatch.delenv(name)
    with starting():
        assert {name: os.environ[name] for name in SETTINGS} == SETTINGS


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice on files")
def test_pytorch_and_then_the_files_of_the_folder_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    asked: list[str] = []

    def advise(file: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        asked.append(Path(f"/proc/self/fd/{file}").readlink().name)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    _read_ahead((tmp_path,))
    assert asked == [*LIBRARIES, "a", "b"]
