"""Rows that come and go, in hmn's structures and in the libraries that can insert and delete.

``python -m bench.index.streaming`` makes two runbooks for each data set, follows them with every system, and
writes ``bench/results/streaming.json`` and ``.md``. Finished rows are kept in ``runs/index/streaming``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.index import data
from bench.index.cache import Kept, slug, sources_checksum
from bench.index.load.quiet import LIMIT, LoadedError, Quiet
from bench.index.streaming import follow, report
from bench.index.streaming.rows import ROWS
from bench.index.streaming.stream import BATCH
from bench.index.systems.base import PackageMissingError, version_of_package
from bench.index.worker import ChildError, limit_threads
from bench.machine import RESULTS, machine, write_results

TARGET = 0.95
"""Mean recall@10 to reach."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/index"), help="finished parts go here")
    parser.add_argument("--data", default="glove,b", help=f"data sets, of {', '.join(data.MAKERS)}")
    parser.add_argument("--runbooks", default=",".join(follow.KINDS), help="kinds of runbooks")
    parser.add_argument("--parts", type=int, default=follow.PARTS, help="inserts of the sliding window")
    parser.add_argument("--only", choices=ROWS, action="append", help="only these rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=60, help="minutes to wait for a quiet machine, in all"
    )
    parser.add_argument("--model", type=Path, default=Path("runs/qa/kmips"), help="for data set a")
    parser.add_argument("--questions", type=Path, default=Path("../shared/data/simplequestions/valid.tsv"))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--unchecked", action="store_true", help="do not look for other processes, to try the benchmark out"
    )
    given = parser.parse_args(arguments)
    limit_threads(given.threads)
    began = time.perf_counter()

    def log(line: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {line}", flush=True)

    quiet = Quiet(None if given.unchecked else LIMIT, 60 * given.patience, log)
    results: dict[str, Any] = {
        "command": f"python -m bench.index.streaming --data {given.data} --runbooks {given.runbooks} "
        f"--parts {given.parts} --threads {given.threads}",
        "machine": machine(),
        "versions": {row.package: version_of_package(row.package) for row in ROWS.values()},
        "options": {
            "threads": given.threads,
            "target": TARGET,
            "queries": follow.QUERIES,
            "batch": BATCH,
            "patience": follow.PATIENCE,
            "checked": not given.unchecked,
        },
        "courses": {},
    }
    for name in given.data.split(","):
        made = data.prepare(name, given.work, given.model, given.questions)
        for kind in given.runbooks.split(","):
            log(f"{name}, {kind}")
            course = follow.prepare(made, kind, given.work / "streaming", given.parts)
            rows = given.only or list(ROWS)
            results["courses"][f"{name}, {kind}"] = _rows(rows, course, given.threads, quiet, log)
            write_results("streaming", results, report.markdown(results), given.out)


def _rows(rows: Sequence[str], course: follow.Course, threads: int, quiet: Quiet, log: Any) -> dict[str, Any]:
    """Figures of every system that follows a runbook, and notes on the others."""
    book, kept = course.runbook, Kept(course.folder / "rows")
    found: dict[str, Any] = {
        "about": {
            "rows": book.rows,
            "features": course.keys.shape[1],
            "most": book.most,
            "steps": len(book.steps),
            "searches": sum(step.operation == "search" for step in book.steps),
        },
        "rows": {},
        "notes": [],
    }
    for row in rows:
        log(row)
        version = version_of_package(ROWS[row].package)
        if ROWS[row].package == "hmn":
            version = f"{version}+{sources_checksum('index', '_native')}"
        key = {"made": (course.folder / "made.json").read_text(), "version": version, "threads": threads}
        key |= {"checked": quiet.limit is not None}
        figures = kept.read(slug(row), key)
        try:
            if figures is None:
                figures, _ = quiet.timed(row, partial(follow.follow, row, course, threads))
                kept.write(slug(row), key, figures)
            found["rows"][row] = figures
        except (ChildError, LoadedError, PackageMissingError) as error:
            found["notes"].append(f"{row}: {str(error).strip().splitlines()[-1]}")
            log(found["notes"][-1])
    return found
