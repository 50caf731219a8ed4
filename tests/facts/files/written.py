"""Files as other programs (csv, json, gzip, zstandard, pyarrow) write them, and what is read from them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import HealthCheck, settings

from hmn.facts.files.formats import read_rows
from hmn.facts.files.layout import Layout
from hmn.facts.files.source import Skipped, Source

COLUMNS = ("subject", "relation", "object")


FACT = Layout(COLUMNS)


GOOD = b"a\tr\tb\n"


quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


def read(path: Path, **options: object) -> list[tuple[int, list[str]]]:
    return list(read_rows(Source(path), [FACT], **options).rows)  # type: ignore[arg-type]


def read_skipping(path: Path) -> tuple[list[list[str]], Skipped]:
    source = Source(path, skip_bad=True)
    rows = [row for _, row in read_rows(source, [FACT]).rows]
    return rows, source.skipped
