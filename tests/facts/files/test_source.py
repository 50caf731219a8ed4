"""A source reports each bad line, or counts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.facts.files.written import GOOD, read_skipping

from hmn.errors import DataError
from hmn.facts.files.source import KEPT_MESSAGES, Skipped, Source


def test_only_the_first_messages_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(GOOD + b"bad\n" * 1000)
    _, skipped = read_skipping(path)
    assert skipped.total == 1000
    assert len(skipped.messages) == KEPT_MESSAGES


def test_a_bad_line_raises_an_error_that_names_it() -> None:
    source = Source("facts.tsv")
    with pytest.raises(DataError, match=r"^facts\.tsv:7: too short; .* skip_bad \(--skip-bad\)$"):
        source.bad(7, "too short")
    assert source.skipped == Skipped()


def test_skipped_lines_are_counted_with_those_of_siblings() -> None:
    facts = Source("facts.tsv", skip_bad=True)
    facts.bad(1, "too short")
    names = facts.sibling("names.tsv")
    names.bad(2, "too long")
    assert facts.skipped == names.skipped == Skipped(2, ("facts.tsv:1: too short", "names.tsv:2: too long"))
    assert Source("facts.tsv", skip_bad=True).skipped == Skipped()


def test_a_sibling_of_a_strict_source_is_strict() -> None:
    with pytest.raises(DataError, match=r"names\.tsv:1: too short"):
        Source("facts.tsv").sibling("names.tsv").bad(1, "too short")


def test_lines_are_numbered_and_bad_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(b"first\n\n\xff\nfourth")
    source = Source(path, skip_bad=True)
    assert list(source.lines()) == [(1, "first"), (4, "fourth")]
    assert source.skipped.total == 1
    assert source.skipped.messages[0].startswith(
        f"{path}:3: invalid UTF-8 at byte 1 of the line; in Windows-"
    )
