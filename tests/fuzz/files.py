"""Damaged files of facts in every format: each gives a table, or an error that names the file."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import json
import lzma
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.facts.files.sheets import xlsx
from tests.facts.files.written import json_lines, parquet, quoted, tsv, zst

from hmn.errors import HMNError
from hmn.facts.table import FactTable

CASES = 400
"""Damaged files per batch."""
TRIPLES = [[f"e{number % 7}", f"r{number % 3}", f"välue {number}"] for number in range(40)]
WIDE = [
    ["name", "size", "langs", "when"],
    *([f"n{n}", str(n), f"a{n};b", f"19{n:02}-01-01"] for n in range(20)),
]
TURTLE = "@prefix : <http://a/> .\n" + "".join(f':{s} :{r} "{o}"@en .\n' for s, r, o in TRIPLES)
N_TRIPLES = "".join(f'<http://a/{s}> <http://a/{r}> "{o}" .\n' for s, r, o in TRIPLES)
XML = (
    '<?xml version="1.0"?><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:a="http://a/">'
    + "".join(
        f'<r:Description r:about="http://a/{s}"><a:{r}>{o}</a:{r}></r:Description>' for s, r, o in TRIPLES
    )
    + "</r:RDF>"
)
PARTS = [
    b"\n",
    b"\r",
    b"\0",
    b"\t",
    b'"',
    b"|",
    b";",
    b",",
    b"\xff",
    b"{",
    b"[",
    b"<",
    b"sep=;\n",
    b"NA",
    b"\xff\xfe",
]
"""Bytes that are put into files."""
PACKS: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, lzma.compress, zst]


def whole_files() -> dict[str, bytes]:
    """A good file of each format."""
    wide_parquet = io.BytesIO()
    pq.write_table(
        pa.table({name: [row[i] for row in WIDE[1:]] for i, name in enumerate(WIDE[0])}), wide_parquet
    )
    files = {
        "facts.tsv": tsv(TRIPLES),
        "facts.csv": quoted(TRIPLES),
        "facts.txt": tsv([["head", "relation", "tail"], *TRIPLES]).replace(b"\t", b"|||"),
        "facts.jsonl": json_lines(TRIPLES),
        "facts.parquet": parquet(TRIPLES),
        "wide.csv": quoted(WIDE),
        "wide.txt": tsv(WIDE).replace(b";", b"|").replace(b"\t", b";"),
        "wide.jsonl": "\n".join(
            json.dumps(dict(zip(WIDE[0], row, strict=True))) for row in WIDE[1:]
        ).encode(),
        "wide.parquet": wide_parquet.getvalue(),
        "utf16.tsv": tsv(TRIPLES).decode().encode("utf-16"),
    }
    if importlib.util.find_spec("python_calamine"):
        files["facts.xlsx"] = xlsx({"A": TRIPLES, "B": WIDE})  # type: ignore[arg-type]
    if importlib.util.find_spec("pyoxigraph"):
        files |= {"g.ttl": TURTLE.encode(), "g.nt": N_TRIPLES.encode(), "g": XML.encode()}
    return files


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with a few changes."""
    data = bytearray(content)
    for _ in range(rng.choice([0, 1, 1, 2, 5, 20])):
        place = rng.randrange(len(data) + 1)
        length = min(rng.choice([1, 1, 4, 40]), len(data) - place)
        change = rng.randrange(5)
        if change == 0:
            data[place : place + length] = b""
        elif change == 1:
            data[place:place] = rng.choice(PARTS) * rng.choice([1, 1, 3])
        elif change == 2:
            data[place : place + length] = rng.randbytes(length)
        elif change == 3:
            data[place:place] = data[place : place + length * 10]
        else:
            del data[max(place, 1) :]
    packed = bytes(data)
    if rng.random() < 0.2:
        packed = rng.choice(PACKS)(packed)
        if rng.random() < 0.3:
            packed = packed[: rng.randrange(len(packed))]
    return packed


def options(rng: random.Random) -> dict[str, Any]:
    """Settings that may or may not fit a file."""
    drawn = {
        "wide": rng.choice([None, None, None, True, False]),
        "subject": rng.choice([None] * 9 + ["size"]),
        "separator": rng.choice([None] * 5 + [";", "|||"]),
        "encoding": rng.choice([None, None, None, "utf-16", "windows-1252", "gb18030"]),
        "skip_bad": rng.random() < 0.7,
        "inverse": rng.random() < 0.2,
    }
    return {name: value for name, value in drawn.items() if value is not None}


def outcome(path: Path, settings: dict[str, Any]) -> str:
    """What reading a file gives: a table whose facts can be shown, or a named error.

    Raises:
        AssertionError: the error does not name the file.
    """
    try:
        table = FactTable.read(path, **settings)
    except HMNError as error:
        assert path.name in str(error) or "wide is False" in str(error), f"{error!r} does not name the file"
        return "refused"
    for cell in range(len(table)):
        fact = table.fact(cell)
        assert all(fact), fact
        assert table.cell_of(*fact[:3]) == cell, fact
    return "read"


def try_file(case: str, folder: Path) -> str:
    """Damage a file and read it; an error in doing so says how to make the case again."""
    rng = random.Random(case)
    name, content = rng.choice(sorted(whole_files().items()))
    path, settings = folder / name, options(rng)
    path.write_bytes(damaged(content, rng))
    try:
        return outcome(path, settings)
    except Exception as error:
        raise AssertionError(
            f"case {case!r}, {name} with {settings}: {type(error).__name__}: {error}"
        ) from error


def batch(seed: int) -> None:
    """Try many damaged files."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(CASES):
            try_file(f"{seed} {number}", Path(folder))
