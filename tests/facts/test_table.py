"""A fact table agrees with plain Python over the same triples, however the lines are ordered and spelled."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmn.errors import DataError
from hmn.facts.ids import canonical_id, readable_id, relation_parts, relation_text
from hmn.facts.table import FactTable

REAL = Path(__file__).parents[3] / "shared" / "data" / "simplequestions"
Triple = tuple[str, str, str]
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
small_id = st.sampled_from(["a", "b", "B", "é", "zz", "New_York", "10", "m.0a"])
some_triples = st.lists(
    st.tuples(small_id, st.sampled_from(["r", "s", "t_u"]), small_id), min_size=1, unique=True
)


def triples_of(facts: FactTable) -> list[Triple]:
    return [facts.fact(cell)[:3] for cell in range(len(facts))]


def assert_same(one: FactTable, other: FactTable) -> None:
    assert one.entities.equals(other.entities)
    assert one.relations == other.relations
    for name in ("subject", "relation", "object"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype == np.int32
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(one.names.start, other.names.start)
    assert one.names.text.equals(other.names.text)


@quick
@given(triples=some_triples, seed=st.integers(0, 5))
def test_table_agrees_with_sorted_triples(triples: list[Triple], seed: int) -> None:
    facts = FactTable.from_triples(triples)
    assert triples_of(facts) == sorted(triples)
    assert facts.entities.to_pylist() == sorted({t[0] for t in triples} | {t[2] for t in triples})
    assert facts.relations == sorted({t[1] for t in triples})
    random.Random(seed).shuffle(triples)
    assert_same(FactTable.from_triples(triples), facts)


@quick
@given(triples=some_triples)
def test_look_ups_agree_with_brute_force(triples: list[Triple]) -> None:
    facts = FactTable.from_triples(triples)
    rows = sorted(triples)
    ids = facts.entities.to_pylist()
    pairs = sorted({row[:2] for row in rows})
    assert facts.pair.tolist() == [pairs.index(row[:2]) for row in rows]
    for number, pair in enumerate(pairs):
        assert facts.cells_of_pair(number).tolist() == [i for i, row in enumerate(rows) if row[:2] == pair]
    assert facts.pair_start.tolist()[-1] == len(rows)
    for number, entity in enumerate(ids):
        assert facts.cells_with_object(number).tolist() == [
            i for i, row in enumerate(rows) if row[2] == entity
        ]
        assert facts.entity_number(entity) == number
    every = [(s, r, o) for s in [*ids, "none"] for r in ["r", "s", "t_u", "none"] for o in [*ids, "none"]]
    expected = [rows.index(one) if one in rows else -1 for one in every]
    assert [facts.cell_of(*one) for one in every] == expected
    assert facts.cells_of(*zip(*every, strict=True)).tolist() == expected


@quick
@given(triples=some_triples)
def test_inverse_adds_each_fact_backwards(triples: list[Triple]) -> None:
    facts = FactTable.from_triples(triples, inverse=True)
    assert triples_of(facts) == sorted([*triples, *((o, f"~{r}", s) for s, r, o in triples)])


def test_inverse_of_a_table_that_has_some_already() -> None:
    facts = FactTable.from_triples([("a", "r", "b"), ("b", "~r", "a")], inverse=True)
    assert triples_of(facts) == [("a", "r", "b"), ("b", "~r", "a")]


@pytest.mark.parametrize(
    "spelling",
    ["www.freebase.com/m/0a_1", "fb:m.0a_1", "<fb:m.0a_1>", "/m/0a_1", "m/0a_1", "m.0a_1", " m.0a_1 ",
     "http://www.freebase.com/m/0a_1", "<http://rdf.freebase.com/ns/m.0a_1>"],
)  # fmt: skip
def test_spellings_of_a_freebase_entity(spelling: str) -> None:
    assert canonical_id(spelling) == "m.0a_1"


@pytest.mark.parametrize(
    "spelling",
    ["www.freebase.com/people/person/place_of_birth", "fb:people.person.place_of_birth",
     "<fb:people.person.place_of_birth>", "/people/person/place_of_birth", "people/person/place_of_birth",
     "<http://rdf.freebase.com/ns/people.person.place_of_birth>"],
)  # fmt: skip
def test_spellings_of_a_freebase_relation(spelling: str) -> None:
    assert canonical_id(spelling) == "people/person/place_of_birth"
    assert canonical_id("~" + spelling) == "~people/person/place_of_birth"
    assert relation_parts(canonical_id(spelling)) == ["people", "person", "place of birth"]


@pytest.mark.parametrize(
    "other",
    ["m/smith", "J.R.R. Tolkien", "city/4250542", "http://dbpedia.org/resource/New_York", "~", "/m/", "a.b.c",
     "/usr/bin", "fb: x", "m", "g.x", "<x>", "3.14", "www.freebase.com"],
)  # fmt: skip
def test_other_ids_are_kept(other: str) -> None:
    assert canonical_id(other) == other


@pytest.mark.parametrize(
    ("entity", "words"),
    [("New_York", "New York"), ("m.0abc", "m.0abc"), ("_", "_"), ("Q42", "Q42"), ("city/12", "city/12"),
     ("<http://dbpedia.org/resource/S%C3%A3o_Paulo>", "São Paulo"), ("http://x.org/a#New_York", "New York")],
)  # fmt: skip
def test_readable_id(entity: str, words: str) -> None:
    assert readable_id(entity) == words


@pytest.mark.parametrize(
    ("relation", "words"),
    [("people/person/place_of_birth", "people person place of birth"), ("~city/area", "inverse of city area"),
     ("placeOfBirth", "place of birth"), ("hasISBN", "has ISBN"), ("http://x.org/birthPlace", "birth place"),
     ("capital of", "capital of"), ("people.person.gender", "people person gender"), ("/", "/")],
)  # fmt: skip
def test_relation_in_words(relation: str, words: str) -> None:
    assert relation_text(relation) == words


def test_fb2m_line_with_several_objects(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_text(
        "www.freebase.com/m/0x\twww.freebase.com/a/b/c\twww.freebase.com/m/0z www.freebase.com/m/0y\n"
        "fb:m.0x\tfb:a.b.c\tNew York City\n"
        "m.0x\ta/b/c\tfb:m.0q other\n"
    )
    assert triples_of(FactTable.read(path)) == [
        ("m.0x", "a/b/c", one) for one in ("New York City", "fb:m.0q other", "m.0y", "m.0z")
    ]


def test_file_and_triples_give_the_same_table(tmp_path: Path) -> None:
    triples = [("b", "r", "c"), ("a", "r", "b"), ("a", "q", "c")]
    (tmp_path / "facts.psv").write_text("rel|tail|head\n" + "".join(f"{r}|{o}|{s}\n" for s, r, o in triples))
    (tmp_path / "names.csv").write_text('entity,name\na,"Ay, the first"\nnone,x\na,Alpha\na,Alpha\nc,Sea\n')
    facts = FactTable.read(
        tmp_path / "facts.psv", tmp_path / "names.csv", columns=("head", "rel", "tail"), separator="|"
    )
    names = {"c": ["Sea"], "a": ["Alpha", "Ay, the first"], "none": ["x"]}
    assert_same(facts, FactTable.from_triples(triples, names))
    assert facts.fact(1) == ("a", "r", "b", "Alpha", "r", "b")
    assert [facts.names_of(entity) for entity in range(3)] == [["Alpha", "Ay, the first"], ["b"], ["Sea"]]


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


def test_duplicate_fact_is_the_later_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("b\tr\tc\na\tr\tb\nm.0a\tr\tm.0b\n\nfb:m.0a\tr\tfb:m.0c fb:m.0b\na\tr\tb\n")
    with pytest.raises(DataError, match=r"facts\.tsv:5: duplicate fact"):
        FactTable.read(path)
    facts = FactTable.read(path, skip_bad=True)
    assert len(facts) == 4
    assert facts.skipped.total == 2
    assert [message.split(":")[1] for message in facts.skipped.messages] == ["5", "6"]


def test_bad_lines_of_both_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("a\tr\tb\nc\tr\t\nx\n")
    (tmp_path / "names.tsv").write_text("a\tAy\nb\n")
    facts = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.tsv", skip_bad=True)
    assert facts.skipped.total == 3
    assert facts.entities.to_pylist() == ["a", "b"]


def test_nothing_good_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    for content in ("", "subject\trelation\tobject\n", "bad\n", "subject\trelation\tobject\nbad\n"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"facts\.tsv"):
            FactTable.read(path, skip_bad=True)


@pytest.mark.parametrize(
    "triples", [[], [("a", "r", "b"), ("a", "r", "b")], [("a", "r")], [("a", " ", "b")], [("a", 1, "b")]]
)
def test_bad_triples(triples: list[Triple]) -> None:
    with pytest.raises(DataError, match=f"triples:?{len(triples) or ''}"):
        FactTable.from_triples(triples)


@pytest.mark.parametrize("names", [{"a": "Paris"}, {"a": ["Paris", " "]}, {"a": [7]}])
def test_bad_names(names: dict[str, list[str]]) -> None:
    with pytest.raises(DataError, match=r"names of 'a' are .*, expected a list of texts"):
        FactTable.from_triples([("a", "r", "b")], names)


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected three names"):
        FactTable.read(tmp_path / "facts.tsv", columns=("a", "b"))
    with pytest.raises(IndexError, match="cell 1 of a table of 1"):
        FactTable.from_triples([("a", "r", "b")]).fact(1)


def test_table_cannot_be_changed() -> None:
    facts = FactTable.from_triples([("a", "r", "b")])
    for numbers in (
        facts.subject,
        facts.relation,
        facts.object,
        facts.pair,
        facts.pair_start,
        facts.names.start,
    ):
        with pytest.raises(ValueError, match="read-only"):
            numbers[0] = 0


@quick
@given(
    names=st.dictionaries(
        small_id, st.lists(st.sampled_from(["x", "X", "x  y", "X Y", "ß", "SS", "New york"]))
    ),
    text=st.sampled_from(["x", "X", " x y", "ss", "NEW YORK", "m.0a", "/m/0a", "New_York", "b", "none"]),
)
def test_find_entities_agrees_with_brute_force(names: dict[str, list[str]], text: str) -> None:
    def folded(name: str) -> str:
        return " ".join(name.casefold().split())

    ids = ["New_York", "a", "b", "m.0a", "é"]
    facts = FactTable.from_triples([(one, "r", "a") for one in ids], names)
    expected = [
        number
        for number, one in enumerate(ids)
        if canonical_id(text) == one
        or folded(text) in [folded(name) for name in names.get(one) or [one.replace("_", " ")]]
    ]
    assert facts.find_entities(text).tolist() == expected


@quick
@given(
    triples=some_triples,
    names=st.dictionaries(small_id, st.lists(st.text("xyZ é", min_size=1).filter(str.strip), max_size=4)),
)
def test_written_table_loads_the_same(
    tmp_path: Path, triples: list[Triple], names: dict[str, list[str]]
) -> None:
    facts = FactTable.from_triples(triples, names)
    first = []
    for _ in range(2):
        facts.write(tmp_path)
        first.append([(tmp_path / name).read_bytes() for name in ("facts.parquet", "names.parquet")])
        facts = FactTable.load(tmp_path)
    assert first[0] == first[1]
    assert_same(facts, FactTable.from_triples(triples, names))
    assert pq.read_table(tmp_path / "facts.parquet").to_pylist() == [
        dict(zip(("subject", "relation", "object"), triple, strict=True)) for triple in sorted(triples)
    ]


def test_loading_a_damaged_table(tmp_path: Path) -> None:
    facts = FactTable.from_triples([("a", "r", "b"), ("b", "r", "c")], {"a": ["Ay"]})
    facts.write(tmp_path)
    data = {name: (tmp_path / name).read_bytes() for name in ("facts.parquet", "names.parquet")}
    bad_names = pa.table({"entity": ["none"], "name": ["x"]})
    repeated = pa.table({name: ["a", "a"] for name in ("subject", "relation", "object")})
    for name, content in [
        ("facts.parquet", None), ("names.parquet", None), ("facts.parquet", b"x" * 99),
        ("names.parquet", data["names.parquet"][:-9]), ("facts.parquet", data["names.parquet"]),
        ("names.parquet", bad_names), ("facts.parquet", repeated),
    ]:  # fmt: skip
        for file, good in data.items():
            (tmp_path / file).write_bytes(good)
        if content is None:
            (tmp_path / name).unlink()
        elif isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            pq.write_table(content, tmp_path / name)
        with pytest.raises(DataError, match=name):
            FactTable.load(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the SimpleQuestions data is not beside this repository")
def test_real_facts() -> None:
    """Counts are those of the data's own README; names are compared with a plain dictionary."""
    facts = FactTable.read(REAL / "facts.tsv", REAL / "names.tsv")
    assert (len(facts), len(facts.pair_start) - 1, len(facts.relations)) == (81_004, 71_302, 1_627)
    assert (len(np.unique(facts.subject)), facts.num_entities) == (68_161, 102_394)
    names = defaultdict(set)
    for line in (REAL / "names.tsv").read_text(encoding="utf-8").splitlines():
        entity, name = line.split("\t")
        names[entity.replace("www.freebase.com/m/", "m.")].add(" ".join(name.split()))
    assert sum(bool(names.get(one)) for one in facts.entities.to_pylist()) == 88_645
    for number in range(0, facts.num_entities, 997):
        entity = facts.entities[number].as_py()
        assert facts.names_of(number) == sorted(names.get(entity, [entity]))
    lines = (REAL / "facts.tsv").read_text(encoding="utf-8").splitlines()
    columns = list(zip(*(line.split("\t") for line in lines), strict=True))
    cells = facts.cells_of(*columns)
    assert sorted(cells.tolist()) == list(range(81_004))
    expected = [line.replace("www.freebase.com/m/", "m.").replace("www.freebase.com/", "") for line in lines]
    assert ["\t".join(facts.fact(int(cell))[:3]) for cell in cells[::99]] == expected[::99]
