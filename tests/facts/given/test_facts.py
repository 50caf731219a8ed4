"""What a file of facts gives, whatever its format."""

from __future__ import annotations

from pathlib import Path

from hmn.facts.files.source import Source
from hmn.facts.given.facts import read_facts
from hmn.facts.numbering import FACT


def test_rows_and_names(tmp_path: Path) -> None:
    options = {"separator": None, "wide": None, "subject": None, "language": None}
    (tmp_path / "facts.tsv").write_text("a\tr\tb\n")
    given = read_facts(Source(tmp_path / "facts.tsv"), FACT, **options)  # type: ignore[arg-type]
    assert (list(given.rows), given.names) == ([(1, ["a", "r", "b"])], [])
    (tmp_path / "wide.csv").write_text("name,a_b,c,d\nx,e_f,2,3\ny,g,4,5\n")
    given = read_facts(Source(tmp_path / "wide.csv"), FACT, **options)  # type: ignore[arg-type]
    assert list(given.rows)[:2] == [(2, ["x", "a_b", "e_f"]), (3, ["y", "a_b", "g"])]
    assert given.names == [("e_f", 0, "e_f")]
