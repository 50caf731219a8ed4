"""Each rule of the language check reports what it is for, at its line, and leaves plain English alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.check_language import findings, long_sentences, main


def lines(text: str, path: str = "src/hmn/module.py") -> list[tuple[int, str]]:
    return [(finding.line, finding.what) for finding in findings(path, text)]


@pytest.mark.parametrize(
    "phrase",
    [
        "so many",
        "so much as",
        "told",
        "tells",
        "as yet",
        "anew",
        "reads a question",
        "cells a leaf",
        "steps a second",
        "rows a batch",
        "microseconds a query",
        "numbers that are none",
    ],
)
def test_a_phrase_is_reported_in_prose_of_every_kind(phrase: str) -> None:
    docstring = f'"""A page.\n\nIt has {phrase}.\n"""\n'
    assert lines(docstring) == [(3, f'"{phrase}"')]
    assert lines(f"x = 1\n# it has\n# {phrase} here\n") == [(3, f'"{phrase}"')]
    assert lines(f'x = error(\n    "it has "\n    "{phrase} here")\n') == [(3, f'"{phrase}"')]
    assert lines(f'x = 1\nraise Error(f"{{x}} has {phrase}")\n') == [(2, f'"{phrase}"')]
    assert lines(f"# Title\n\nIt has {phrase}.\n", "README.md") == [(3, f'"{phrase}"')]
    assert lines(f"# Title\n\n- it has\n  {phrase.capitalize()}\n", "README.md") == [
        (4, f'"{phrase.capitalize()}"')
    ]


def test_a_phrase_that_spans_two_lines_is_reported_where_it_begins() -> None:
    assert lines("Title\n\nThe mean of reads\na question falls.\n", "README.md") == [
        (3, '"reads a question"')
    ]


def test_a_value_per_something_is_reported() -> None:
    assert lines('text = f"{count:,} a second"\n') == [(1, '"{} a second"')]


def test_what_to_write_instead_is_said() -> None:
    (finding,) = findings("README.md", "It needs 800 reads a question.")
    assert str(finding) == "README.md:1: \"reads a question\"; write 'reads per question'"


@pytest.mark.parametrize(
    "text",
    [
        "800 reads per question",
        "Fetch 1.6 times as many cells as facts wanted.",
        "The best epoch so far is kept.",
        "`told` and ``so many`` are code",
        "```\nso many, told anew\n```",
        "    >>> told = so_many",
        "[a page](https://example.org/so-many-told)",
        "A retold story of untold length.",
        "A second a user waits.",
    ],
)
def test_code_and_plain_english_are_not(text: str) -> None:
    assert not lines(text, "README.md")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def fit(told=None): pass", "told"),
        ("def fit(*, told=None): pass", "told"),
        ("told = 1", "told"),
        ("self._told = 1", "_told"),
        ("def was_told(): pass", "was_told"),
        ("for told in x: pass", "told"),
        ("class Told: pass", "Told"),
    ],
)
def test_a_name_of_telling_is_reported_where_it_is_given(source: str, name: str) -> None:
    assert lines(source) == [(1, f"the name {name}")]
    assert not lines("x = self.told(told)")


def test_a_constant_has_a_docstring_of_its_own() -> None:
    assert lines("LIMIT = 5\n") == [(1, "LIMIT has no docstring")]
    assert lines("x = 1\n_LIMIT: int = 5\nx = 2\n") == [(2, "_LIMIT has no docstring")]
    assert lines('A, B = 1, 2\n"""Sizes."""\n') == [(1, "A, B on one line")]
    assert lines('A = B = 1\n"""Sizes."""\n') == [(1, "A, B on one line")]
    assert not lines('LIMIT = 5\n"""Seconds a user waits."""\nlimit = 4\nLimit = int\n')
    assert not lines("LIMIT = 5\n", "tests/test_module.py")


@pytest.mark.parametrize(
    "start", ["Of the learning rate", "Times a key is read", "As many as there are", "So wide"]
)
def test_the_docstring_of_a_constant_begins_with_a_noun(start: str) -> None:
    first = " ".join(start.split()[:2] if start.startswith("As") else start.split()[:1])
    reported = [(2, f'a docstring that begins with "{first}"')]
    assert lines(f'LIMIT = 5\n"""{start}."""\n') == reported
    assert lines(f'class A:\n  x: int\n  """{start}."""\n')[0][1] == reported[0][1]
    assert not lines(f'def f():\n  """{start}."""\n')


def test_long_sentences_are_listed() -> None:
    assert not list(long_sentences("README.md", "word " * 20 + "end. " + "word " * 20 + "end."))
    assert not list(long_sentences("README.md", "| " + "word " * 60))
    (listed,) = long_sentences("README.md", "Title\n\n" + "word " * 41)
    assert listed.startswith("README.md:3: a sentence of 41 words")


def test_the_exit_status_says_whether_anything_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.check_language.ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("Plain English.\n", encoding="utf-8")
    assert main([]) == 0
    assert capsys.readouterr().out == ""
    page.write_text("Say so many.\n", encoding="utf-8")
    assert main([str(page)]) == 1
    assert capsys.readouterr().out.startswith('README.md:1: "so many"; write ')
    assert main(["--summary"]) == 1
    assert capsys.readouterr().out.splitlines()[0].split() == ["1", "."]
    assert main(["--long"]) == 0
