import json
import os
import stat
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hmn.errors
from hmn.errors import BundleError
from hmn.store import atomic
from hmn.store.bundle import (
    BundleReader,
    recover,
    write_atomically,
    write_json,
    write_tensors,
    writing_bundle,
)

NAMES = ["config.json", "facts.parquet", "model.safetensors"]
SOURCE = Path(hmn.errors.__file__).parents[1]


def save(path: Path, value: int) -> None:
    """A small bundle that says ``value`` in each of its files."""
    with writing_bundle(path) as folder:
        write_json(folder, "config.json", {"value": value, "name": "é"})
        write_tensors(folder, "model.safetensors", {"weight": torch.full((2, 3), float(value))})
        (folder / "facts.parquet").write_bytes(bytes([value]) * 50)


def load(path: Path) -> int:
    """Read every file, through every method, and check that all come from the same saving."""
    reader = BundleReader(path)
    value = reader.json("config.json")["value"]
    assert torch.equal(reader.tensors("model.safetensors")["weight"], torch.full((2, 3), float(value)))
    facts = reader.file("facts.parquet").read_bytes()
    reader.file("facts.parquet")
    assert facts == bytes([value]) * 50
    return int(value)


def forge(folder: Path, manifest: Any) -> None:
    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())


arrays = st.sampled_from([np.float32, np.float16, np.int64]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_tensors_come_back_bit_for_bit(tmp_path: Path, named: dict[str, np.ndarray]) -> None:
    named.pop("__metadata__", None)
    with writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "t.safetensors", {key: torch.from_numpy(a) for key, a in named.items()})
    got = BundleReader(tmp_path / "b").tensors("t.safetensors")
    assert got.keys() == named.keys()
    for key, array in named.items():
        assert got[key].numpy().dtype == array.dtype
        assert got[key].numpy().shape == array.shape
        assert got[key].numpy().tobytes() == array.tobytes()


def test_views_shared_and_conjugated_tensors_keep_their_values(tmp_path: Path) -> None:
    base = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    wave = torch.tensor([1 + 2j, 3 - 4j])
    tensors = {
        "base": base,
        "same": base,
        "row": base[1],
        "turned": base.T,
        "conj": wave.conj(),
        "imag": wave.conj().imag,
    }
    with writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "t.safetensors", tensors)
    got = BundleReader(tmp_path / "b").tensors("t.safetensors")
    assert got["imag"].tolist() == [-2.0, 4.0]
    assert got["conj"].tolist() == [1 - 2j, 3 + 4j]
    for key in ("base", "same", "row", "turned"):
        assert got[key].tolist() == tensors[key].tolist()
    got["base"].add_(1)
    assert got["same"].tolist() == base.tolist()
    assert BundleReader(tmp_path / "b").tensors("t.safetensors")["base"].tolist() == base.tolist()


@pytest.mark.parametrize("tensor", [torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_without_dense_data_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    with pytest.raises(BundleError, match=r"tensor 'w' is .*expected a dense one"):
        write_tensors(tmp_path, "t.safetensors", {"w": tensor})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_json_comes_back_and_order_does_not_matter(tmp_path: Path, obj: dict[str, Any]) -> None:
    with writing_bundle(tmp_path / "b") as folder:
        write_json(folder, "a.json", obj)
        write_json(folder, "b.json", dict(reversed(obj.items())))
    reader = BundleReader(tmp_path / "b")
    assert reader.json("a.json") == obj
    assert reader.file("a.json").read_bytes() == reader.file("b.json").read_bytes()


@pytest.mark.parametrize("obj", [{"x": float("nan")}, {"x": {1}}, {"x": "\ud800"}, {"x": {1: 0, "1": 0}}])
def test_objects_that_could_not_be_read_back_are_refused(tmp_path: Path, obj: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"config\.json"):
        write_json(tmp_path, "config.json", obj)
    assert not (tmp_path / "config.json").exists()


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a", 7)
    save(tmp_path / "b", 7)
    held = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert held == sorted([*NAMES, "manifest.json"])
    for name in held:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_manifest_holds_what_other_programs_measure(tmp_path: Path) -> None:
    big = os.urandom(3 * 2**20 + 17)
    with writing_bundle(tmp_path / "b") as folder:
        (folder / "big.bin").write_bytes(big)
        (folder / "empty.bin").touch()
    assert manifest_of(tmp_path / "b") == {
        "format": "hmn-bundle",
        "version": 1,
        "files": {
            "big.bin": {"size": len(big), "crc32": f"{zlib.crc32(big):08x}"},
            "empty.bin": {"size": 0, "crc32": "00000000"},
        },
    }


def test_others_may_read_what_their_umask_allows(tmp_path: Path) -> None:
    save(tmp_path / "b", 1)
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {file.stat().st_mode for file in (tmp_path / "b").iterdir()} == {usual}
    (tmp_path / "usual_folder").mkdir()
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "usual_folder").stat().st_mode


def test_unlisted_files_are_ignored_and_unknown_ones_named(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("mine")
    assert load(tmp_path) == 3
    reader = BundleReader(tmp_path)
    assert reader.has("config.json")
    for name in ("notes.txt", "manifest.json", "../x"):
        assert not reader.has(name)
        with pytest.raises(BundleError, match=r"no file .* it has config\.json, facts\.parquet, model\.safe"):
            reader.file(name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_a_flipped_bit_is_caught(tmp_path: Path, data: st.DataObject, name: str) -> None:
    save(tmp_path / "b", 5)
    file = tmp_path / "b" / name
    content = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: damaged.*CRC32.*save the bundle again"):
        BundleReader(tmp_path / "b")


def test_every_flipped_bit_of_the_manifest_is_caught(tmp_path: Path) -> None:
    with writing_bundle(tmp_path / "b") as folder:
        # Names one bit apart with equal content: the flip that makes them equal must not pass.
        for name in ("a0", "a1"):
            (folder / name).write_bytes(b"same")
    manifest = tmp_path / "b" / "manifest.json"
    good = manifest.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(bad)
        with pytest.raises(BundleError):
            BundleReader(tmp_path / "b")
    manifest.write_bytes(good)
    BundleReader(tmp_path / "b")


@pytest.mark.parametrize("name", NAMES)
def test_truncated_longer_and_missing_files_are_named(tmp_path: Path, name: str) -> None:
    save(tmp_path / "b", 5)
    file = tmp_path / "b" / name
    good = file.read_bytes()
    for bad in (good[:-1], b"", good + b"\0"):
        file.write_bytes(bad)
        with pytest.raises(
            BundleError, match=rf"{name}: damaged, has {len(bad)} bytes, expected {len(good)}"
        ):
            BundleReader(tmp_path / "b")
    file.unlink()
    with pytest.raises(BundleError, match=rf"{name}: missing.*save the bundle again"):
        BundleReader(tmp_path / "b")
    os.mkfifo(file)
    with pytest.raises(BundleError, match=rf"{name}: missing"):
        BundleReader(tmp_path / "b")


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing: no such folder.*check the path"):
        BundleReader(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"empty: not a bundle, it has no manifest\.json"):
        BundleReader(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="file: not a bundle"):
        BundleReader(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", "nul\0byte", "x" * 5000):
        with pytest.raises(BundleError):
            BundleReader(path)
        with pytest.raises(BundleError), writing_bundle(path):
            pass


def test_a_newer_version_asks_for_a_newer_hmn(tmp_path: Path) -> None:
    save(tmp_path, 1)
    forge(tmp_path, {"format": "hmn-bundle", "version": 2, "parts": []})
    with pytest.raises(
        BundleError, match=r"manifest\.json: format version 2, .* up to 1: install a newer hmn"
    ):
        BundleReader(tmp_path)


ENTRY = {"size": 1, "crc32": "00000000"}
ATTACKS: list[tuple[Any, str]] = [
    (b"", "not valid JSON"),
    (b"\x80\xff", "not valid JSON"),
    (b"{" * 10, "not valid JSON"),
    (b'{"a":' * 100_000, "not valid JSON"),
    (b'{"format": "hmn-bundle", "version": ' + b"9" * 5000 + b"}", "not valid JSON"),
    (b'{"format": "hmn-bundle", "version": 1, "files": {}, "files": {}}', "a key occurs twice"),
    (b" " * (16 * 2**20 + 1), "expected at most"),
    ([], "expected an object"),
    ("text", "expected an object"),
    ({}, "not of a bundle"),
    ({"format": "other", "version": 1, "files": {}}, "not of a bundle"),
    ({"format": ["hmn-bundle"], "version": 1, "files": {}}, "not of a bundle"),
    *(
        ({"format": "hmn-bundle", "version": v, "files": {}}, "version is")
        for v in ("1", True, None, 0, -1, 1.0)
    ),
    ({"format": "hmn-bundle", "version": 1}, "expected format, version and"),
    ({"format": "hmn-bundle", "version": 1, "files": {}, "more": 0}, "expected format, version and"),
    ({"format": "hmn-bundle", "version": 1, "files": []}, "expected format, version and"),
]
NAME_ATTACKS = ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "c:x", ".hidden", "a\0", "a\n", "\ud800"]
ENTRY_ATTACKS: list[Any] = [
    None,
    [],
    "x",
    {},
    {"size": 1},
    {**ENTRY, "more": 0},
    *({**ENTRY, "size": size} for size in (-1, "1", True, 1.0, None)),
    *(
        {**ENTRY, "crc32": crc32}
        for crc32 in (0, None, "", "0", "0000000g", "0000000A", "000000000", "00000000\n")
    ),
]


@pytest.mark.parametrize(("manifest", "message"), ATTACKS, ids=range(len(ATTACKS)))
def test_bad_manifests_are_refused(tmp_path: Path, manifest: Any, message: str) -> None:
    forge(tmp_path, manifest)
    with pytest.raises(BundleError, match=rf"manifest\.json: .*{message}"):
        BundleReader(tmp_path)


@pytest.mark.parametrize("name", [*NAME_ATTACKS, "manifest.json", "a" * 300])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"x")
    folder = tmp_path / "b"
    folder.mkdir()
    entry = {"size": 1, "crc32": f"{zlib.crc32(b'x'):08x}"}
    forge(folder, {"format": "hmn-bundle", "version": 1, "files": {name: entry}})
    with pytest.raises(BundleError, match="expected a plain one without folders"):
        BundleReader(folder)
    with pytest.raises(BundleError, match="cannot stand in a bundle"):
        write_json(folder, name, {})
    with pytest.raises(BundleError, match="cannot stand in a bundle"):
        write_tensors(folder, name, {})


@pytest.mark.parametrize("entry", ENTRY_ATTACKS, ids=range(len(ENTRY_ATTACKS)))
def test_bad_entries_are_refused(tmp_path: Path, entry: Any) -> None:
    (tmp_path / "a").write_bytes(b"x")
    forge(tmp_path, {"format": "hmn-bundle", "version": 1, "files": {"a": entry}})
    with pytest.raises(BundleError, match=r"manifest\.json: damaged, a has"):
        BundleReader(tmp_path)


def test_listed_files_of_another_kind_are_named(tmp_path: Path) -> None:
    with writing_bundle(tmp_path) as folder:
        for name in ("list.json", "bad.json", "bad.safetensors"):
            (folder / name).write_bytes(b"[]" if name == "list.json" else b"\x80{")
    reader = BundleReader(tmp_path)
    with pytest.raises(BundleError, match=r"list\.json: JSON of type list, expected an object"):
        reader.json("list.json")
    with pytest.raises(BundleError, match=r"bad\.json: not valid JSON"):
        reader.json("bad.json")
    with pytest.raises(BundleError, match=r"bad\.safetensors: not read as safetensors"):
        reader.tensors("bad.safetensors")


def make_file(path: Path) -> None:
    path.write_text("mine")


def make_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def make_other_manifest(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text('{"format": "web-app"}')


@pytest.mark.parametrize("late", [False, True], ids=["before", "while writing"])
@pytest.mark.parametrize("make", [make_file, make_full_folder, make_other_manifest])
def test_what_is_no_bundle_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], None], late: bool
) -> None:
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


def test_new_nested_linked_and_empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


class PowerCut(BaseException):
    """Nothing may catch this one."""


CALLS = ["rename", "replace", "fsync"]


def fail_at(patch: pytest.MonkeyPatch, step: int, error: BaseException, onwards: bool) -> list[str]:
    """Let the ``step``-th call raise (and, ``onwards``, all later ones); return the log of calls."""
    log: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            log.append(name)
            if len(log) == step or (onwards and len(log) > step):
                raise error
            return real(*arguments, **options)

        return call

    for name in CALLS:
        patch.setattr(os, name, failing(name, getattr(os, name)))
    return log


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
    # 3 files, the manifest, its folder, 2 renames, the folder above: all of them failed once.
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


# Forks one writer a step, which kills itself with SIGKILL just before its n-th change of the disk.
KILLER = """
import os, shutil, signal, sys
from pathlib import Path
from hmn.store.bundle import write_atomically, write_json, writing_bundle
root, seen = Path(sys.argv[1]), 0
def deadly(real, step):
    def call(*arguments, **options):
        global seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
def put(path, value):
    if value.startswith("file"):
        write_atomically(path, value.encode())
        return
    with writing_bundle(path) as folder:
        write_json(folder, "config.json", {"value": value})
for kind in ("bundle", "file"):
    status, step = -9, 0
    while status:
        step += 1
        path = root / f"{kind}{step}" / "it"
        put(path, kind + " old")
        child = os.fork()
        if not child:
            for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
                setattr(os, name, deadly(getattr(os, name), step))
            put(path, kind + " new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -9), status
put(root / "waiting" / "it", "bundle old")
with writing_bundle(root / "waiting" / "it") as folder:
    write_json(folder, "config.json", {"value": "half"})
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The folder with what the killed writers left, and a living process in the middle of writing."""
    root = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, root]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        yield root, process
        process.kill()


def test_kill_9_at_any_step_leaves_the_old_or_the_new(killed: tuple[Path, Any]) -> None:
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
    # mkdir, 3 syncs, 2 renames come before the new bundle is there, a sync and the removal of the old after.
    assert seen[:6] == ["bundle old"] * 6
    assert set(seen[6:]) == {"bundle new"}
    assert len(seen) >= 10
    assert set_aside == 1


def test_kill_9_at_any_step_leaves_the_old_or_the_new_file(killed: tuple[Path, Any]) -> None:
    root, seen = killed[0], []
    for step in range(1, len(list(root.glob("file*"))) + 1):
        path = root / f"file{step}" / "it"
        seen.append(path.read_text())
        write_atomically(path, b"")
        assert [f.name for f in path.parent.iterdir()] == ["it"]
    assert seen[:2] == ["file old"] * 2
    assert set(seen[2:]) == {"file new"}


def test_a_living_writer_keeps_its_folder_and_a_killed_one_is_cleaned_up(killed: tuple[Path, Any]) -> None:
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


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def lay_aside(path: Path, host: str | None = None) -> Path:
    """What a crash between the two renames leaves."""
    aside = path.with_name(f".{path.name}.hmn-old-{host or atomic._host()}-{dead_pid()}-{'0' * 8}")
    path.rename(aside)
    return aside


@pytest.mark.parametrize("host", [None, "deadbeef"], ids=["here", "elsewhere"])
def test_the_set_aside_bundle_is_read_and_put_back(tmp_path: Path, host: str | None) -> None:
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


def test_a_set_aside_bundle_is_no_backup_of_another_one(tmp_path: Path) -> None:
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


def test_readers_beside_writers_see_whole_bundles(tmp_path: Path) -> None:
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


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files over 64 KiB fail, as on a full disk."""
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path / "b", 1)
    with pytest.raises(BundleError, match="check free space"), writing_bundle(tmp_path / "b") as folder:
        write_tensors(folder, "model.safetensors", {"weight": torch.zeros(10**6)})
    write_atomically(tmp_path / "file", b"old")
    with pytest.raises(BundleError, match="check free space"):
        write_atomically(tmp_path / "file", bytes(10**6))
    assert load(tmp_path / "b") == 1
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["b", "file"]


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
