"""The tables of all languages ask for the same facts, each in its own words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("babel", reason="the extra 'bench' is not installed")

from bench.languages.world import LANGUAGES, TRAIN, VALID, city_names, phrases, world, write


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_relation_has_phrases(language: str) -> None:
    said = phrases(language)
    assert said.keys() == {relation for _, relation, _ in world().facts}
    assert all(len(texts) == 3 and all("{" in text for text in texts) for _, texts in said.values())


def test_languages_differ_in_words_alone(tmp_path: Path) -> None:
    for language in ("en", "th"):
        write(language, tmp_path / language)
    for name, count in (("train", TRAIN), ("valid", VALID)):
        english, thai = (rows(tmp_path / language / f"{name}.tsv") for language in ("en", "th"))
        assert len(english) == len(thai) == count
        assert [(row["subject"], row["object"]) for row in english] == [
            (row["subject"], row["object"]) for row in thai
        ]
    names = {row["entity"]: row["name"] for row in rows(tmp_path / "th" / "names.tsv")}
    assert all(names[row["subject"]] in row["question"] for row in thai)


def test_a_city_needs_a_name_in_every_script() -> None:
    assert city_names({"name": "Paris", "alternatenames": ["パリ", "파리"]}) is None
