"""Pipes and standard input are read like files, once."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.facts.files.written import COLUMNS, json_lines, parquet, read, tsv

from hmn.errors import DataError
from hmn.facts.files.source import Source
from hmn.facts.table import FactTable

ROWS = [[f"e{number}", "r", f"v{number % 7}"] for number in range(20_000)]


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def into_pipe(path: Path, data: bytes) -> threading.Thread:
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(data,))
    thread.start()
    return thread


@pytest.mark.parametrize("write", [tsv, json_lines, parquet, lambda rows: gzip.compress(tsv(rows))])
def test_a_pipe(tmp_path: Path, write: Callable[[list[list[str]]], bytes]) -> None:
    path = tmp_path / "pipe"
    thread = into_pipe(path, write(ROWS))
    assert [row for _, row in read(path)] == ROWS
    thread.join()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin("\t".join(COLUMNS).encode() + b"\n" + tsv(ROWS)))
    table = FactTable.read("-")
    assert len(table) == len(ROWS)


def test_names_of_facts_from_a_pipe(tmp_path: Path) -> None:
    facts, names = tmp_path / "facts", tmp_path / "names"
    threads = [into_pipe(facts, b"a|r|b\n"), into_pipe(names, b"a\tAy\n")]
    assert FactTable.read(facts, names).names_of(0) == ["Ay"]
    for thread in threads:
        thread.join()


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    thread = into_pipe(tmp_path / "pipe", b"a\tr\tb\n")
    source = Source(tmp_path / "pipe")
    assert list(source.lines()) == [(1, "a\tr\tb")]
    with pytest.raises(DataError, match=r"pipe: it can be read only once"):
        list(source.lines())
    thread.join()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_an_endless_line_stops_at_a_bound() -> None:
    with pytest.raises(DataError, match=r"/dev/zero:1: the line is longer than 1,048,576 bytes"):
        read(Path("/dev/zero"))
    with pytest.raises(DataError, match=r"/dev/zero:1: the line is longer than 268,435,456 bytes, expected"):
        list(Source("/dev/zero", skip_bad=True).lines())
