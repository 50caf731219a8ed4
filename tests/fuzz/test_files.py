"""Damaged files of facts."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
from tests.fuzz import files
from tests.fuzz.files import outcome, try_file, whole_files


@pytest.mark.parametrize("name", whole_files())
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(whole_files()[name])
    assert outcome(path, {"encoding": "utf-16"} if "utf16" in name else {}) == "read"


def test_a_damaged_file_is_read_or_refused_by_name(tmp_path: Path) -> None:
    seen = collections.Counter(try_file(f"0 {number}", tmp_path) for number in range(150))
    assert seen["read"] >= 30 and seen["refused"] >= 20


def test_a_case_that_fails_says_how_to_make_it_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "outcome", lambda *_: {}[3])
    with pytest.raises(AssertionError, match=r"case 'x 1', .* with .*: KeyError: 3"):
        try_file("x 1", tmp_path)
