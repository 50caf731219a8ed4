"""The manifest lists what the bundle holds; every damage and every attack is refused."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.small import NAMES, forge, manifest_of, save

from hmn.errors import BundleError
from hmn.store.bundle import BundleReader, write_json, write_tensors, writing_bundle


def test_manifest_holds_what_other_programs_measure(tmp_path: Path) -> None:
    big = os.urandom(3 * 2**20 + 17)
    with writing_bundle(tmp_path / "b") as folder:
        (folder / "big.bin").write_bytes(big)
        (folder / "empty.bin").touch()
    assert manifest_of(tmp_path / "b") == {
        "format": "hmn-bundle",
        "version": 2,
        "files": {
            "big.bin": {"size": len(big), "crc32": f"{zlib.crc32(big):08x}"},
            "empty.bin": {"size": 0, "crc32": "00000000"},
        },
    }


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
        # Two names that differ in one bit: the flip that makes them equal must be noticed too.
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


def test_a_path_without_a_bundle_is_reported(tmp_path: Path) -> None:
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
    forge(tmp_path, {"format": "hmn-bundle", "version": 3, "parts": []})
    with pytest.raises(
        BundleError, match=r"manifest\.json: format version 3, .* up to 2: install a newer hmn"
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
    ({}, "not the manifest of a bundle"),
    ({"format": "other", "version": 1, "files": {}}, "not the manifest of a bundle: format is 'other'"),
    ({"format": ["hmn-bundle"], "version": 1, "files": {}}, "not the manifest of a bundle"),
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
    with pytest.raises(BundleError, match="a bundle cannot hold"):
        write_json(folder, name, {})
    with pytest.raises(BundleError, match="a bundle cannot hold"):
        write_tensors(folder, name, {})


@pytest.mark.parametrize("entry", ENTRY_ATTACKS, ids=range(len(ENTRY_ATTACKS)))
def test_bad_entries_are_refused(tmp_path: Path, entry: Any) -> None:
    (tmp_path / "a").write_bytes(b"x")
    forge(tmp_path, {"format": "hmn-bundle", "version": 1, "files": {"a": entry}})
    with pytest.raises(BundleError, match=r"manifest\.json: damaged, a has"):
        BundleReader(tmp_path)
