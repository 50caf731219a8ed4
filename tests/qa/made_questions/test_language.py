from __future__ import annotations

import re

import pytest

from hmn.errors import ConfigError
from hmn.facts.table import FactTable
from hmn.qa.made_questions.language import language_called, language_of, languages
from hmn.qa.words.scripts import words

TABLES = {
    "en": (["capital", "place_of_birth"], ["France", "Germany"]),
    "de": (["Hauptstadt", "Einwohner"], ["Frankreich", "Deutschland"]),
    "fr": (["capitale", "monnaie"], ["France", "Allemagne"]),
    "es": (["capital", "moneda"], ["Francia", "Alemania"]),
    "it": (["capitale", "valuta"], ["Francia", "Germania"]),
    "pt": (["capital", "moeda"], ["França", "Alemanha"]),
    "nl": (["hoofdstad", "inwoners"], ["Frankrijk", "België"]),
    "pl": (["stolica", "waluta"], ["Francja", "Niemcy"]),
    "ru": (["столица", "население"], ["Франция", "Германия"]),
    "el": (["πρωτεύουσα", "πληθυσμός"], ["Γαλλία", "Γερμανία"]),
    "tr": (["başkent", "nüfus"], ["Fransa", "Almanya"]),
    "ar": (["العاصمة", "السكان"], ["فرنسا", "ألمانيا"]),
    "hi": (["राजधानी", "जनसंख्या"], ["फ़्रांस", "जर्मनी"]),
    "th": (["เมืองหลวง", "ประชากร"], ["ฝรั่งเศส", "เยอรมนี"]),
    "ko": (["수도", "인구"], ["프랑스", "독일"]),
    "ja": (["首都", "人口"], ["フランス", "ドイツ"]),
    "zh": (["首都", "人口"], ["法国", "德国"]),
}
"""Relations and names in each language."""


def table(relations: list[str], names: list[str]) -> FactTable:
    return FactTable.from_triples([(name, relation, "x") for name in names for relation in relations])


@pytest.mark.parametrize("code", TABLES)
def test_the_language_of_a_table_is_found(code: str) -> None:
    found = language_of(table(*TABLES[code]))
    assert found is not None
    assert found.code == code


def test_many_names_do_not_hide_the_language_of_the_relations() -> None:
    relations = ["Wohnort", "Geburtstag", "Beruf", "Gehalt"]
    names = [f"{first} {last}" for first in ("Ana", "Ben", "Cy") for last in map("Q{:03}".format, range(900))]
    names = [name.translate(str.maketrans("0123456789", "abcdefghij")) for name in names]
    found = language_of(table(relations, names))
    assert found is not None
    assert found.code == "de"


def test_there_is_a_table_for_each_language() -> None:
    assert languages().keys() == TABLES.keys()


def test_latin_relations_of_other_names_are_asked_in_the_language_of_the_names() -> None:
    found = language_of(table(["capital", "population"], ["Франция", "Германия"]))
    assert found is not None
    assert found.code == "ru"


@pytest.mark.parametrize(
    "relations", [["xyz", "foo"], ["r1", "r2"], ["ქალაქი", "ქვეყანა"]], ids=["words", "numbers", "Georgian"]
)
def test_without_evidence_no_language_is_found(relations: list[str]) -> None:
    assert language_of(table(relations, ["Bar", "Baz"] if relations[0].isascii() else ["თბილისი"])) is None


@pytest.mark.parametrize("code", TABLES)
def test_forms_name_known_slots_and_the_name(code: str) -> None:
    language = languages()[code]
    for form in [*language.forms, *language.backward]:
        slots = set(re.findall(r"\{(\w*)\}", form))
        assert {"name", "relation"} <= slots | ({"relation"} if form in language.backward else set())
        assert slots <= {"name", "relation", "kind", "ask", "be", "the", "of", "filler"}
    assert all(map(words, [*language.ask, *language.when, *language.how_many, *language.filler]))


def test_an_unknown_language_is_refused_by_name() -> None:
    assert language_called("de").code == "de"
    with pytest.raises(ConfigError, match=r"question_language is 'dee': did you mean de\?"):
        language_called("dee")
    with pytest.raises(
        ConfigError, match=r"'klingon': expected one of ar, de, .*'none' makes questions of bare words"
    ):
        language_called("klingon")
