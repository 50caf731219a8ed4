"""Rows are read as other writers (csv, json, gzip, zstandard, pyarrow) wrote them; bad lines are named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hmn.errors import DataError
from hmn.facts.files import lines
from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import KEPT_MESSAGES, Skipped, Source

COLUMNS = ("subject", "relation", "object")
FACT = Layout(COLUMNS)
GOOD = b"a\tr\tb\n"
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
plain_text = st.text(st.characters(exclude_characters="\t\n\r\0|", exclude_categories=["Cs"]), min_size=1)
any_text = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)


def table_of(cell: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    row = st.lists(cell.filter(lambda text: bool(text.strip())), min_size=3, max_size=3)
    return st.lists(row, min_size=1, max_size=8).filter(lambda rows: rows[0] != list(COLUMNS))


def tsv(rows: list[list[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def quoted(rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def json_lines(rows: list[list[str]]) -> bytes:
    return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows).encode()


def parquet(rows: list[list[str]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}), out)
    return out.getvalue()


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def as_is(data: bytes) -> bytes:
    return data


def read(path: Path, **options: object) -> list[tuple[int, list[str]]]:
    return list(read_rows(Source(path), [FACT], **options).rows)  # type: ignore[arg-type]


def read_skipping(path: Path) -> tuple[list[list[str]], Skipped]:
    source = Source(path, skip_bad=True)
    rows = [row for _, row in read_rows(source, [FACT]).rows]
    return rows, source.skipped


@pytest.mark.parametrize(("ending", "pack"), [("", as_is), (".gz", gzip.compress), (".zst", zst)])
@pytest.mark.parametrize(
    ("suffix", "write", "cell"),
    [
        (".tsv", tsv, plain_text),
        ("", tsv, plain_text.filter(lambda text: not text.lstrip().startswith("{"))),
        (".csv", quoted, any_text),
        (".jsonl", json_lines, any_text),
    ],
)
@quick
@given(data=st.data())
def test_reads_what_was_written(
    tmp_path: Path,
    suffix: str,
    write: Callable[[list[list[str]]], bytes],
    cell: st.SearchStrategy[str],
    ending: str,
    pack: Callable[[bytes], bytes],
    data: st.DataObject,
) -> None:
    rows = data.draw(table_of(cell))
    path = tmp_path / f"facts{suffix}{ending}"
    path.write_bytes(pack(write(rows)))
    assert [row for _, row in read(path)] == [list(row) for row in rows]


@quick
@given(rows=table_of(any_text))
def test_reads_parquet_by_suffix_and_by_content(tmp_path: Path, rows: list[list[str]]) -> None:
    for name in ("facts.parquet", "facts"):
        (tmp_path / name).write_bytes(parquet(rows))
        assert read(tmp_path / name) == list(enumerate(rows, 1))


@quick
@given(
    content=st.lists(
        st.sampled_from(["", "a", "bc" * 3, "é" * 4, "x" * 30, "x" * 11, "y" * 12]), max_size=20
    ),
    chunk=st.integers(1, 12),
    final=st.booleans(),
)
@example(content=["a", "x" * 30, "bc"], chunk=12, final=True)
@example(content=["x" * 42, "bc"], chunk=12, final=False)
def test_lines_do_not_depend_on_chunks(tmp_path: Path, content: list[str], chunk: int, final: bool) -> None:
    """Reference: one split of the whole file, with a longest line of 12 bytes."""
    path = tmp_path / "lines.txt"
    path.write_bytes("\n".join(content).encode() + (b"\n" if final else b""))
    source = Source(path, skip_bad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK", chunk)
        patch.setattr(lines, "MAX_LINE", 12)
        got = list(source.lines())
    numbered = list(enumerate(content, 1))
    assert got == [(n, text) for n, text in numbered if text and len(text.encode()) <= 12]
    assert source.skipped.total == sum(len(text.encode()) > 12 for text in content)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (GOOD + b"a\tr\n", 2, "got 2, expected 3"),
        (GOOD + b"a\tr\tb\tc\n", 2, "got 4, expected 3"),
        (b"subject\trelation\tobject\n" + GOOD + b"a\tr", 3, "got 2, expected 3 (as in the header)"),
        (b"a b c\n" + GOOD, 1, "give it as separator"),
        (GOOD * 2 + b"a\t\xff\tb\n" + GOOD, 3, "invalid UTF-8 at byte 3"),
        (GOOD + b"a\tr\tb\0\n", 2, "NUL byte at byte 6"),
        (GOOD + b"a\t\tb\n", 2, "empty field: relation"),
        (GOOD + b"a\tr\t  \n", 2, "empty field: object"),
        (GOOD + b"a\tr\t" + b"x" * (1 << 20) + b"\n" + GOOD, 2, "longer than 1,048,576 bytes"),
    ],
)
def test_bad_line_is_named_or_counted(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert reason in str(error.value)
    rows, skipped = read_skipping(path)
    assert rows == [["a", "r", "b"]] * content.count(GOOD)
    assert skipped.total == 1
    assert skipped.messages[0].startswith(f"{path}:{line}: ")


def test_only_the_first_messages_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(GOOD + b"bad\n" * 1000)
    _, skipped = read_skipping(path)
    assert skipped.total == 1000
    assert len(skipped.messages) == KEPT_MESSAGES


def test_a_line_of_100_mb_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    with path.open("wb") as file:
        file.write(GOOD)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + GOOD)
    tracemalloc.start()
    rows, skipped = read_skipping(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (rows, skipped.total) == ([["a", "r", "b"]] * 2, 1)
    assert peak < 8 << 20


def test_byte_order_mark_carriage_returns_blank_lines_and_no_last_end_of_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tr\tb\r\n\r\n\nc\tr\td\r\ne\tr\tf\r")
    assert read(path) == [(1, ["a", "r", "b"]), (4, ["c", "r", "d"]), (5, ["e", "r", "f"])]


def test_header_in_any_order_and_case_with_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("id\tObject\tSUBJECT\trelation\n1\tb\ta\tr\n\tb\ta\tr\n")
    assert read(path) == [(2, ["a", "r", "b"]), (3, ["a", "r", "b"])]


def test_own_column_names_and_separator(tmp_path: Path) -> None:
    path = tmp_path / "facts.data"
    path.write_text("tail|head|rel\nb|a|r\n")
    wanted = [Layout(("head", "rel", "tail"))]
    table = read_rows(Source(path), wanted, separator="|", header=True)
    assert list(table.rows) == [(2, ["a", "r", "b"])]
    path.write_text("a|r|b\n")
    with pytest.raises(
        DataError, match=r"facts\.data:1: the header has columns 'a', 'r', 'b', expected head"
    ):
        read_rows(Source(path, skip_bad=True), wanted, separator="|", header=True)


def test_separator_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "facts.tsv").write_bytes(GOOD)
    with pytest.raises(DataError, match="expected one character"):
        read(tmp_path / "facts.tsv", separator="||")


def test_csv_goes_on_after_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text('a,r,"b\nc,r,"d\ne"\nf,r,"g\nh,r,i\nj,r,k\nl,r,m\n')
    rows, skipped = read_skipping(path)
    assert rows == [["c", "r", "d\ne"], ["h", "r", "i"], ["j", "r", "k"], ["l", "r", "m"]]
    assert skipped.messages == tuple(
        f"{path}:{line}: badly quoted CSV ({why})"
        for line, why in [(1, "',' expected after '\"'"), (4, "unexpected end of data")]
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad JSON"),
        ("[" * 200_000, "bad JSON"),
        ('["a", "r", "b"]', "a JSON list, expected one object per line"),
        (
            '{"subject": "a", "object": "b"}',
            "has keys 'subject', 'object', expected subject, relation, object",
        ),
        ('{"subject": "a", "relation": null, "object": "b"}', "'relation' is NoneType"),
        ('{"subject": "a", "relation": true, "object": "b"}', "'relation' is bool"),
        ('{"subject": "a", "relation": NaN, "object": "b"}', "'relation' is float"),
        ('{"subject": "a", "relation": ["r"], "object": "b"}', "'relation' is list"),
        ('{"subject": "a", "relation": "", "object": "b"}', "empty field: relation"),
        (
            '{"subject": "a", "relation": "r\\u0000", "object": "b"}',
            "NUL character in the value of 'relation'",
        ),
        ('{"subject": "a", "relation": "\\ud800", "object": "b"}', "surrogate"),
    ],
)
def test_bad_json(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"subject": "a", "relation": "r", "object": 7}\n' + line + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert reason in str(error.value)
    rows, skipped = read_skipping(path)
    assert (rows, skipped.total) == ([["a", "r", "7"]], 1)


def test_json_numbers_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text('{"subject": 12345678901234567890, "relation": 1.10, "object": "b", "more": []}\n')
    assert read(path) == [(1, ["12345678901234567890", "1.10", "b"])]


def test_listed_column(tmp_path: Path) -> None:
    layouts = [
        Layout(("subject", "relation", "object", "question")),
        Layout(("question", "answers"), has_list=True),
    ]
    expected = [["q", "a"], ["p", "b c", "d"]]
    (tmp_path / "q.tsv").write_text("q\ta\np\tb c|d|\n")
    (tmp_path / "q.jsonl").write_text(
        '{"question": "q", "answers": "a"}\n{"question": "p", "answers": ["b c", "d"]}\n'
    )
    pq.write_table(
        pa.table({"question": ["q", "p"], "answers": [["a"], ["b c", "d"]]}), tmp_path / "q.parquet"
    )
    for name in ("q.tsv", "q.jsonl", "q.parquet"):
        table = read_rows(Source(tmp_path / name), layouts)
        assert table.layout == layouts[1]
        assert [row for _, row in table.rows] == expected


def test_parquet_numbers_and_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    columns = {"Object": [1, 2], "subject": pa.array(["a", "b"]).dictionary_encode(), "relation": [1.5, 2.5]}
    pq.write_table(pa.table(columns), path)
    assert read(path) == [(1, ["a", "1.5", "1"]), (2, ["b", "2.5", "2"])]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty field: object"),
        (b" ", "empty field: object"),
        (b"b\0", "NUL"),
        (b"b\xff", "invalid UTF-8 at byte 2"),
    ],
)
def test_bad_parquet_row(tmp_path: Path, value: bytes | None, reason: str) -> None:
    path = tmp_path / "facts.parquet"
    raw = pa.array([b"b", value], pa.binary())
    objects = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"subject": ["a", "a"], "relation": ["r", "r"], "object": objects}), path)
    with pytest.raises(DataError, match=f"facts.parquet:2: {reason}"):
        read(path)
    rows, skipped = read_skipping(path)
    assert (rows, skipped.total) == ([["a", "r", "b"]], 1)


def test_parquet_without_the_columns_or_with_odd_ones(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    pq.write_table(pa.table({"s": ["a"], "r": ["r"], "o": ["b"]}), path)
    with pytest.raises(DataError, match="columns s, r, o, expected subject, relation, object"):
        read(path)
    pq.write_table(pa.table({"subject": ["a"], "relation": ["r"], "object": [{"x": 1}]}), path)
    with pytest.raises(DataError, match="column 'object' holds struct"):
        read(path)


@pytest.mark.parametrize("name", ["facts.tsv", "facts.csv", "facts.jsonl", "facts.parquet", "facts.tsv.gz"])
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_skipping(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "facts.tsv")
    with pytest.raises(DataError, match="got a folder"):
        read(tmp_path)


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_compressed_data_cut_short_or_damaged(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    noise = random.Random(0)
    content = b"".join(b"%d\tr\t%d\n" % (i, noise.getrandbits(60)) for i in range(2000))
    packed = pack(content)
    path = tmp_path / "facts.tsv"
    for kept in (3, 5, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:kept])
        with pytest.raises(DataError, match=r"facts\.tsv"):
            read(path)
    path.write_bytes(packed[: len(packed) // 2] + b"\0" * 20 + packed[len(packed) // 2 + 20 :])
    with pytest.raises(DataError, match=r"facts\.tsv"):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_several_compressed_parts_are_one_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "facts.tsv.gz"
    path.write_bytes(pack(GOOD + b"c\tr") + pack(b"\td\n"))
    assert [row for _, row in read(path)] == [["a", "r", "b"], ["c", "r", "d"]]


def test_damaged_parquet(tmp_path: Path) -> None:
    data = parquet([["a", "r", "b"]] * 100)
    path = tmp_path / "facts.parquet"
    for content in (data[:-9], data[:20], b"PAR1" + b"x" * 40):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"facts\.parquet"):
            read(path)
