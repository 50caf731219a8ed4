"""A bundle is replaced as a whole, whatever happens meanwhile."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from tests.store.crashes import PowerCut, dead_pid, fail_at, lay_aside
from tests.store.small import (
    load,
    make_file,
    make_full_folder,
    make_other_manifest,
    save,
)

from hmn.errors import BundleError
from hmn.store import atomic
from hmn.store.atomic import check_folder, uninterrupted, write_atomically
from hmn.store.bundle import BundleReader, check_writable, write_json, write_tensors, writing_bundle
from hmn.store.replace import discard, find_bundle, recover


@pytest.mark.parametrize("late", [False, True], ids=["before", "while writing"])
@pytest.mark.parametrize("make", [make_file, make_full_folder, make_other_manifest])
def test_only_bundles_are_replaced(tmp_path: Path, make: Callable[[Path], None], late: bool) -> None:
    path = tmp_path / "b"
    if not late:
        make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match="choose another place"), writing_bundle(path) as folder:
        write_json(folder, "config.json", {})
        if late:
            make(path)
            before = [f for f in sorted(tmp_path.rglob("*")) if folder not in (f, f.parent)]
    assert sorted(tmp_path.rglob("*")) == before


def test_new_nested_linked_and_empty_paths_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a" / "b" / "c", 1)
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", 2)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    save(tmp_path / "link", 3)
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(tmp_path)
    with writing_bundle("relative") as folder:
        write_json(folder, "config.json", {"value": 4})
        monkeypatch.chdir("/")
    assert BundleReader(tmp_path / "relative").json("config.json") == {"value": 4}
    assert [load(tmp_path / "a/b/c"), load(tmp_path / "empty"), load(tmp_path / "link")] == [1, 3, 3]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "empty", "link", "relative"]


@pytest.mark.parametrize("bad", ["folder", "link", ".hidden", "manifest.json"])
def test_only_plain_files_become_a_bundle(tmp_path: Path, bad: str) -> None:
    save(tmp_path / "b", 1)
    with pytest.raises(BundleError, match=bad), writing_bundle(tmp_path / "b") as folder:
        if bad == "folder":
            (folder / bad).mkdir()
        elif bad == "link":
            (folder / bad).symlink_to("/etc/hostname")
        else:
            (folder / bad).touch()
    assert load(tmp_path / "b") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    save(tmp_path / "b", 1)
    for path in (tmp_path / "b", tmp_path / "c"):
        with pytest.raises(error, match="mine"), writing_bundle(path) as folder:
            (folder / "half").write_bytes(b"half")
            raise error("mine")
    assert load(tmp_path / "b") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("onwards", [False, True], ids=["once", "onwards"])
@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt(), PowerCut()], ids=repr)
def test_a_failure_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, error: BaseException, onwards: bool
) -> None:
    path = tmp_path / "b"
    steps, done = 0, False
    while not done:
        steps += 1
        save(path, 1)
        with pytest.MonkeyPatch.context() as patch:
            log = fail_at(patch, steps, error, onwards)
            try:
                save(path, 2)
                done = True
            except (BundleError, KeyboardInterrupt, PowerCut):
                assert len(log) >= steps
        value = load(path)
        assert value == 2 if done else value in (1, 2)
        if not done and not onwards:
            assert value == 1, "an exception, but the new bundle is there"
            assert [f.name for f in tmp_path.iterdir()] == ["b"]
        recover(path)
        assert load(path) == value
    # Each call failed once: syncs of 3 files, the manifest and its folder, 2 renames, a sync of the parent.
    assert steps == 8 + 1


def test_everything_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "b", 1)
    log: list[tuple[str, int]] = []
    fsync, rename = os.fsync, os.rename

    def log_fsync(descriptor: int) -> None:
        log.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def log_rename(source: Path, target: Path) -> None:
        log.append(("rename", Path(source).stat().st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "rename", log_rename)
    old = (tmp_path / "b").stat().st_ino
    save(tmp_path / "b", 2)
    new = (tmp_path / "b").stat().st_ino
    files = {("fsync", file.stat().st_ino) for file in (tmp_path / "b").iterdir()}
    assert len(files) == 4
    assert set(log[:4]) == files
    assert log[3] == ("fsync", (tmp_path / "b" / "manifest.json").stat().st_ino)
    assert log[4:] == [("fsync", new), ("rename", old), ("rename", new), ("fsync", tmp_path.stat().st_ino)]


def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new(killed: tuple[Path, Any]) -> None:
    root, seen, set_aside = killed[0], [], 0
    for step in range(1, len(list(root.glob("bundle*"))) + 1):
        path = root / f"bundle{step}" / "it"
        set_aside += not path.exists()
        value = BundleReader(path).json("config.json")["value"]
        seen.append(value)
        with writing_bundle(path) as folder:
            assert BundleReader(path).json("config.json")["value"] == value
            assert sorted(path.parent.iterdir()) == sorted([path, folder])
        assert [f.name for f in path.parent.iterdir()] == ["it"]
    # The new bundle is in place after mkdir, 3 syncs and 2 renames; a sync and the removal of the old follow.
    assert seen[:6] == ["bundle old"] * 6
    assert set(seen[6:]) == {"bundle new"}
    assert len(seen) >= 10
    assert set_aside == 1


def test_only_the_folder_of_a_dead_writer_is_removed(killed: tuple[Path, Any]) -> None:
    root, process = killed
    path = root / "waiting" / "it"
    assert BundleReader(path).json("config.json") == {"value": "bundle old"}
    save(path, 2)
    assert load(path) == 2
    assert len(list(path.parent.iterdir())) == 2
    process.kill()
    process.wait()
    recover(path)
    assert [f.name for f in path.parent.iterdir()] == ["it"]
    assert load(path) == 2


@pytest.mark.parametrize("host", [None, "deadbeef"], ids=["here", "elsewhere"])
def test_a_bundle_set_aside_is_read_and_restored(tmp_path: Path, host: str | None) -> None:
    path = tmp_path / "b"
    save(path, 1)
    aside = lay_aside(path, host)
    assert load(path) == 1
    path.mkdir()
    assert load(path) == 1, "an empty folder hides the bundle"
    assert aside.exists(), "reading changes nothing"
    recover(path)
    assert not aside.exists()
    assert load(path) == 1


def test_a_bundle_set_aside_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "b"
    save(path, 1)
    aside = lay_aside(path)
    make_full_folder(path)
    recover(path)
    assert aside.exists(), "the only copy is kept while something else is in its place"
    with pytest.raises(BundleError, match="not a bundle"):
        BundleReader(path)
    (path / "thesis.txt").unlink()
    save(path, 2)
    save(tmp_path / "c", 1)
    lay_aside(tmp_path / "c").rename(aside)
    (path / "config.json").write_text("bad")
    with pytest.raises(BundleError, match=r"b/config\.json"):
        BundleReader(path)


def test_only_our_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    save(tmp_path / "b", 1)
    host, dead, ours = atomic._host(), dead_pid(), os.getpid()
    removed = [f".b.hmn-new-{host}-{dead}-0123abcd", f".b.hmn-old-{host}-{dead}-0123abcd"]
    kept = [
        f".b.hmn-new-{host}-{ours}-0123abcd",
        f".b.hmn-new-deadbeef-{dead}-0123abcd",
        f".c.hmn-new-{host}-{dead}-0123abcd",
        f".b.hmn-new-{host}-{dead}-0123abcd.txt",
        f"b.hmn-new-{host}-{dead}-0123abcd",
        ".b.hmn-new",
    ]
    for name in removed + kept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    save(tmp_path / "b", 2)
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([*kept, "b"])


def test_a_reader_never_mixes_two_bundles(tmp_path: Path) -> None:
    path = tmp_path / "b"
    save(path, 1)
    reader = BundleReader(path)
    save(path, 2)
    for use in (reader.file, reader.json, reader.tensors):
        with pytest.raises(BundleError, match=r"replaced or changed since .*: open the bundle again"):
            use("config.json")


def test_readers_see_whole_bundles_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "b"
    save(path, 0)
    failures: list[BaseException] = []
    stop = threading.Event()

    def write(start: int) -> None:
        try:
            for value in range(start, start + 40):
                save(path, value)
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            while not stop.is_set():
                BundleReader(path)
                with suppress(BundleError, FileNotFoundError):
                    load(path)
        except BaseException as error:
            failures.append(error)

    reading, writing = (
        threading.Thread(target=read),
        [threading.Thread(target=write, args=[s]) for s in (0, 100)],
    )
    for thread in (reading, *writing):
        thread.start()
    for thread in writing:
        thread.join()
    stop.set()
    reading.join()
    assert failures == []
    assert load(path) in (39, 139)
    assert [f.name for f in tmp_path.iterdir()] == ["b"]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path / "b", 1)
    with pytest.raises(BundleError, match="check free space"), writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "model.safetensors", {"weight": torch.zeros(10**6)})
    write_atomically(tmp_path / "file", b"old")
    with pytest.raises(BundleError, match="check free space"):
        write_atomically(tmp_path / "file", bytes(10**6))
    assert load(tmp_path / "b") == 1
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["b", "file"]


INTERRUPTED = ("atomic.py", "bundle.py", "manifest.py", "replace.py")
"""Files of the store in whose every line Ctrl-C is pressed."""


def interrupt_at(step: int, action: Callable[[], None]) -> int:
    """Press Ctrl-C at the ``step``-th line that the store runs; gives the number of lines run until then."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if (
            Path(frame.f_code.co_filename).parent.name != "store"
            or Path(frame.f_code.co_filename).name not in INTERRUPTED
        ):
            return None
        if event == "line":
            lines += 1
            if lines == step:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # listings of folders that were interrupted
@pytest.mark.parametrize("thing", ["bundle", "file"])
def test_ctrl_c_at_any_line_leaves_the_old_or_the_new_and_nothing_beside(tmp_path: Path, thing: str) -> None:
    path = tmp_path / "m"

    def put(value: int) -> None:
        if thing == "file":
            write_atomically(path, str(value).encode())
            return
        with writing_bundle(path) as folder:
            (folder / "value").write_text(str(value))

    def held() -> int:
        return int((BundleReader(path).file("value") if thing == "bundle" else path).read_text())

    put(1)
    step, values = 0, set()
    handler = signal.getsignal(signal.SIGINT)
    while step < 1000:
        step += 1
        try:
            interrupt_at(step, lambda: put(2))
        except KeyboardInterrupt:
            values.add(held())
            assert [file.name for file in tmp_path.iterdir()] == ["m"], f"left after line {step}"
            assert signal.getsignal(signal.SIGINT) is handler
            put(1)
        else:
            break
    assert held() == 2 and values == {1, 2} and step > 40


def test_signals_wait_for_the_end_of_a_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("block")
    assert done == ["block"]
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    thread = threading.Thread(target=lambda: done.append(save_elsewhere()))

    def save_elsewhere() -> str:
        with uninterrupted():
            return "elsewhere"

    thread.start()
    thread.join()
    assert done[-1] == "elsewhere"


@pytest.mark.parametrize("late", [False, True])
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, late: bool) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    save(tmp_path / "bundle", 1)
    before = sorted(tmp_path.rglob("*"))
    bad = ["file", "file/m", "file/a/m", "full", "x" * 250, ("y" * 99 + "/") * 41 + "m", "/proc/m", "."]
    for name in bad:
        with pytest.raises(BundleError, match=": ") as caught:
            if late:
                save(tmp_path / name, 1)
            else:
                check_writable(tmp_path / name)
        assert name.strip("/.")[:9] in str(caught.value) or name == "."
    check_writable(tmp_path / "bundle")
    check_writable(str(tmp_path / "new"))
    assert sorted(tmp_path.rglob("*")) == before
    for value in (None, b"m", 3):
        with pytest.raises(BundleError, match="not a valid path"):
            check_writable(value)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/m", "x" * 300, "/proc/m"):
        with pytest.raises(BundleError, match=re.escape(name[:9])):
            check_folder(tmp_path / name)
    check_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for check in (check_folder, check_writable):
        with pytest.raises(BundleError, match="No space left on device"):
            check(tmp_path / "m")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "new"]


def test_a_discarded_bundle_is_not_found_again(tmp_path: Path) -> None:
    path = tmp_path / "b"
    save(path, 1)
    lay_aside(path)
    save(tmp_path / "c", 2)
    (tmp_path / "c").rename(path)
    assert load(path) == 2
    discard(path)
    assert list(tmp_path.iterdir()) == [] and find_bundle(path) == path


def test_a_discarded_bundle_leaves_what_living_processes_write(tmp_path: Path) -> None:
    host, dead, ours = atomic._host(), dead_pid(), os.getpid()
    removed = [f".b.hmn-new-{host}-{dead}-0123abcd", f".b.hmn-old-{host}-{ours}-0123abcd"]
    kept = f".b.hmn-new-{host}-{ours}-0123abcd"
    for name in (*removed, kept):
        (tmp_path / name).mkdir()
    discard(tmp_path / "b")
    assert [file.name for file in tmp_path.iterdir()] == [kept]


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_of_several_bundles_set_aside_the_newest_is_read(tmp_path: Path, newest: int) -> None:
    path = tmp_path / "b"
    for number in range(3):
        save(tmp_path / str(number), number)
    # neither the random part of the name nor the order of creation decides
    for number, random in enumerate("bca"):
        aside = path.with_name(f".b.hmn-old-deadbeef-7-{random * 8}")
        (tmp_path / str(number)).rename(aside)
        seconds = 9 if number == newest else number
        os.utime(aside / "manifest.json", (seconds, seconds))
    assert load(path) == newest
    recover(path)
    assert load(path) == newest
