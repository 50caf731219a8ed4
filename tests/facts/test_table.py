"""A fact table agrees with plain Python over the same triples, in memory and in files."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.facts.tables import REAL, Triple, assert_same, quick, small_id, some_triples, triples_of

from hmn.errors import ConfigError, DataError
from hmn.facts.table import FactTable


@quick
@given(triples=some_triples, seed=st.integers(0, 5))
def test_table_agrees_with_sorted_triples(triples: list[Triple], seed: int) -> None:
    facts = FactTable.from_triples(triples)
    assert triples_of(facts) == sorted(triples)
    assert facts.entities.to_pylist() == sorted({t[0] for t in triples} | {t[2] for t in triples})
    assert facts.relations == sorted({t[1] for t in triples})
    random.Random(seed).shuffle(triples)
    assert_same(FactTable.from_triples(triples), facts)


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


def test_bad_lines_of_both_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("a\tr\tb\nc\tr\t\nx\n")
    (tmp_path / "names.tsv").write_text("a\tAy\nb\n")
    facts = FactTable.read(tmp_path / "facts.tsv", tmp_path / "names.tsv", skip_bad=True)
    assert facts.skipped.total == 3
    assert facts.entities.to_pylist() == ["a", "b"]


def test_a_file_without_a_good_row(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    for content in ("", "subject\trelation\tobject\n", "bad\n", "subject\trelation\tobject\nbad\n"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"facts\.tsv"):
            FactTable.read(path, skip_bad=True)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected three names"):
        FactTable.read(tmp_path / "facts.tsv", columns=("a", "b"))
    with pytest.raises(IndexError, match="there is no cell 1, expected cells from 0 to 0"):
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
    other_order = pa.table({"entity": ["b", "a"], "name": ["Bee", "Ay"]})
    beyond = pa.DictionaryArray.from_arrays(pa.array([7], pa.int32()), pa.array(["a"]), safe=False)
    not_utf8 = pa.array([b"\xff"], pa.binary()).view(pa.string())
    for name, content in [
        ("facts.parquet", None), ("names.parquet", None), ("facts.parquet", b"x" * 99),
        ("names.parquet", data["names.parquet"][:-9]), ("facts.parquet", data["names.parquet"]),
        ("names.parquet", bad_names), ("facts.parquet", repeated),
        ("facts.parquet", repeated.slice(0, 0)), ("names.parquet", other_order),
        ("names.parquet", pa.table({"entity": ["a"], "name": beyond})),
        ("names.parquet", pa.table({"entity": ["a"], "name": not_utf8})),
        ("names.parquet", pa.table({"entity": ["a"], "name": [""]})),
        ("names.parquet", pa.table({"entity": ["a"], "name": pa.nulls(1)})),
        ("names.parquet", pa.table({"entity": ["a"], "name": [b"a"]})),
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


@pytest.mark.slow
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
    assert sum(bool(names.get(entity)) for entity in facts.entities.to_pylist()) == 88_645
    for number in range(0, facts.num_entities, 997):
        entity = facts.entities[number].as_py()
        assert facts.names_of(number) == sorted(names.get(entity, [entity]))
    lines = (REAL / "facts.tsv").read_text(encoding="utf-8").splitlines()
    columns = list(zip(*(line.split("\t") for line in lines), strict=True))
    cells = facts.cells_of(*columns)
    assert sorted(cells.tolist()) == list(range(81_004))
    expected = [line.replace("www.freebase.com/m/", "m.").replace("www.freebase.com/", "") for line in lines]
    assert ["\t".join(facts.fact(int(cell))[:3]) for cell in cells[::99]] == expected[::99]


@pytest.mark.parametrize("odd", [None, 3, "abc", b"abc", [None], ["abc"], [("a", "b")], [("a", "r", 3)],
                                 [("a", "r", " ")], [("a", "r", "\ud800")], [{"a": 1}]],
                         ids=repr)  # fmt: skip
def test_what_is_no_row_of_three_texts_is_refused(odd: Any) -> None:
    with pytest.raises(DataError, match=r"triples.*: got .*, expected"):
        FactTable.from_triples(odd)


@pytest.mark.parametrize("odd", [3, [("a", "b")], {"a": None}, {"a": "x"}, {"a": b"x"}, {"a": ["\ud800"]},
                                 {"a": [1]}, {3: ["x"]}], ids=repr)  # fmt: skip
def test_names_are_lists_of_texts(odd: Any) -> None:
    with pytest.raises(DataError, match=r"names .*, expected"):
        FactTable.from_triples([("a", "r", "b")], odd)


def test_rows_and_names_of_any_kind_of_list() -> None:
    triples, names = [("a", "r", "b"), ("b", "r", "c")], {"a": ["Ay", "Eh"]}
    expected = FactTable.from_triples(triples, names)
    for rows in (iter(triples), np.array(triples), list(map(list, triples)), (t for t in triples)):
        assert_same(FactTable.from_triples(rows, names), expected)  # type: ignore[arg-type]
    for listed in (("Ay", "Eh"), iter(["Ay", "Eh"]), np.array(["Ay", "Eh"])):
        assert_same(FactTable.from_triples(triples, {"a": listed}), expected)  # type: ignore[dict-item]


@pytest.mark.parametrize("odd", [None, 3, b"a"], ids=repr)
def test_odd_ids_cells_columns_and_separators(odd: Any, tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_text("a\tr\tb\n")
    facts = FactTable.read(tmp_path / "facts.tsv")
    for find in (facts.find_entities, facts.entity_number, lambda text: facts.cell_of("a", text, "b"),
                 lambda text: facts.cells_of(["a"], ["r"], [text])):  # fmt: skip
        with pytest.raises(DataError, match=r"an id is .*, expected text"):
            find(odd)
    for cell in (odd, "1", 1.0, True):
        if cell != 3:
            with pytest.raises(DataError, match=r"cell is .*, expected a whole number from 0 to 0"):
                facts.fact(cell)
    with pytest.raises(DataError, match=r"columns is .*, expected three names"):
        FactTable.read(tmp_path / "facts.tsv", columns=odd)
    if odd is not None:
        with pytest.raises(DataError, match=r"separator is .*, expected the text between"):
            FactTable.read(tmp_path / "facts.tsv", separator=odd)


def test_a_table_makes_its_folder_and_takes_its_path_as_text(tmp_path: Path) -> None:
    facts = FactTable.from_triples([("a", "r", "b")])
    facts.write(str(tmp_path / "new" / "folder"))
    assert_same(FactTable.load(str(tmp_path / "new" / "folder")), facts)
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", "a\0b", 3):
        with pytest.raises(DataError, match="no such folder, nor can it be made"):
            facts.write(bad)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="folder is 3, expected"):
        FactTable.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", ["inverse", "skip_bad"])
def test_a_switch_is_true_or_false(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("a\tr\tb\n")
    with pytest.raises(ConfigError, match=f"{flag} is 'no', expected True or False"):
        FactTable.read(path, **{flag: "no"})  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_misspelt_column_is_recognised(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"subjct": ["a"], "relation": ["r"], "object": ["b"]}), path)
    elif suffix == "jsonl":
        path.write_text('{"subjct": "a", "relation": "r", "object": "b"}\n')
    else:
        path.write_text("subjct,relation,object\na,r,b\n")
    with pytest.raises(DataError, match="did you mean subject instead of 'subjct'"):
        FactTable.read(path)
    with pytest.raises(DataError, match="did you mean 'relation' instead of 'relatoin'"):
        FactTable.read(path, columns=["subjct", "relatoin", "object"])
