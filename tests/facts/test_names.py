"""Names from files and from Python: their order, and what is wrong with bad ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.facts.tables import FORMS

from hmn.errors import DataError
from hmn.facts import names, numbering
from hmn.facts.names import names_beyond
from hmn.facts.table import FactTable


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_names_may_have_another_separator_than_facts(tmp_path: Path, separator: str) -> None:
    (tmp_path / "facts.txt").write_text("a|r|b\n")
    (tmp_path / "names.txt").write_text(f"a{separator}Ay\n")
    facts = FactTable.read(tmp_path / "facts.txt", tmp_path / "names.txt", separator="|")
    assert facts.names_of(0) == ["Ay"]


def test_given_names_keep_their_order_and_the_first_is_shown() -> None:
    facts = FactTable.from_triples([("a", "r", "b")], {"a": ["Paris", "Lutetia", "Paris"]})
    assert facts.names_of(0) == ["Paris", "Lutetia"]
    assert facts.fact(0).subject_name == "Paris"


def test_freebase_names_file(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("m.0a\tr\tm.0b\n")
    names = [
        '<fb:m.0a> <fb:common.topic.alias> "Alias"@en .',
        '<fb:m.0a>\t<fb:type.object.name>\t"Zed \\"the\\" \\\\ \\u00e9\\U0001F600"@en\t.',
        'fb:m.0b fb:type.object.name "B"',
        '<fb:m.0b> <fb:type.object.name> "Bé"@fr .',
        '<fb:m.0b> <fb:type.object.type> <fb:people.person> .',
        '<http://rdf.freebase.com/ns/m.0b> <http://rdf.freebase.com/ns/type.object.name> "Bee"@en-GB .',
        '<fb:m.0none> <fb:type.object.name> "none"@en .',
    ]  # fmt: skip
    for seed in range(3):
        random.Random(seed).shuffle(names)
        (tmp_path / "names.nt").write_text("\n".join(names) + "\n")
        facts = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.nt")
        assert facts.names_of(0) == ['Zed "the" \\ é😀', "Alias"]
        assert facts.names_of(1) == ["B", "Bee"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("<fb:m.0a> <fb:type.object.name>", "got 2"),
        ("<fb:m.0a> <fb:type.object.name> name@en .", "bad name"),
        ('<fb:m.0a> <fb:type.object.name> "na"me"@en .', "bad name"),
        ('<fb:m.0a> <fb:type.object.name> "\\ud800"@en .', "bad escape"),
        ('<fb:m.0a> <fb:type.object.name> "\\x"@en .', "bad escape"),
        ('<fb:m.0a> <fb:type.object.name> " "@en .', "empty field: name"),
    ],
)
def test_bad_line_of_a_freebase_names_file(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "facts.tsv").write_text("m.0a\tr\tm.0b\n")
    path = tmp_path / "names.txt"
    path.write_text(f'<fb:m.0a> <fb:type.object.name> "A"@en .\n{line}\n')
    with pytest.raises(DataError) as error:
        FactTable.read(tmp_path / "facts.tsv", path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert reason in str(error.value)
    facts = FactTable.read(tmp_path / "facts.tsv", path, skip_bad=True)
    assert (facts.names_of(0), facts.skipped.total) == (["A"], 1)


@pytest.mark.parametrize("names", [{"a": "Paris"}, {"a": ["Paris", " "]}, {"a": [7]}])
def test_bad_names(names: dict[str, list[str]]) -> None:
    with pytest.raises(DataError, match=r"names of 'a' are .*, expected a list of texts"):
        FactTable.from_triples([("a", "r", "b")], names)


def test_few_names_are_put_in_order_as_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, given = random.Random(0), []
    letters = ["a", "B", "\u00e9", "\uffff", "\U0001f600", "z "]
    for _ in range(60):
        name = "".join(rng.choices(letters, k=3)) + "!"
        given.append((rng.choice(["m.0a", "m.0b", "m.0c", "unknown"]), rng.randrange(3), name))
    entities, made = ["m.0a", "m.0b", "m.0c", "m.0d"], []
    for few in (0, 100):
        monkeypatch.setattr(names, "FEW", few)
        monkeypatch.setattr(numbering, "FEW", few)
        collected = names.collect_names(given, entities)
        facts = FactTable.from_triples([("m.0b", "r", "m.0a"), ("\uffff", "r", "\U0001f600")])
        made.append(([collected.of(entity) for entity in range(4)], facts.entities.to_pylist()))
    assert made[0] == made[1]


@pytest.mark.parametrize(("usual", "other"), FORMS.items())
def test_entities_of_a_names_file_are_found_in_any_form_of_unicode(
    tmp_path: Path, usual: str, other: str
) -> None:
    for there, given in ((usual, other), (other, usual)):
        (tmp_path / "facts.tsv").write_text(f"{there}\tr\tx\n", encoding="utf-8")
        (tmp_path / "names.tsv").write_text(f"{given}\tits name\n", encoding="utf-8")
        facts = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.tsv")
        assert facts.fact(0).subject_name == "its name"


def test_names_beyond_those_that_are_known() -> None:
    assert names_beyond(["Zürich", "x"], ["Zu\u0308rich", "y", "X", "x\u00a0"]) == ["y", "X"]
