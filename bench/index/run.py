"""The structures of ``hmn.index`` beside faiss, ScaNN, hnswlib and usearch, in one run.

``python -m bench.index`` (``make bench-index``) makes the data, then builds, tunes and sweeps every system on
one half of the queries. On the other half it times all of them in turns, at their best settings. It builds
our clusters and faiss's in turn and times the attention layer. It writes ``bench/results/index.json``,
``.md`` and the plots. Finished parts are kept in ``runs/index`` and not repeated; ``--fresh`` starts over.
Rows whose package is missing are left out: pip install faiss-cpu scann hnswlib usearch matplotlib
product-key-memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.index import attention, plots, report
from bench.index.data import DataSet, prepare
from bench.index.harness import Options, sweeps
from bench.index.rounds import OURS, REFERENCE, Log, build_in_turn, take_turns
from bench.index.systems import ROWS
from bench.index.systems.base import PackageMissingError, version_of_package
from bench.index.worker import ChildError, limit_threads
from bench.machine import RESULTS, machine


def measure(data: DataSet, rows: Sequence[str], work: Path, options: Options, log: Log) -> dict[str, Any]:
    """All figures of one data set."""
    figures: dict[str, Any] = {"about": data.about, "sweeps": {}, "notes": []}
    for row in rows:
        try:
            figures["sweeps"][row] = sweeps(row, data, work, options, log)
        except (PackageMissingError, ChildError) as error:
            figures["notes"].append(f"{row}: {str(error).strip().splitlines()[-1]}")
            log(figures["notes"][-1])
    figures["rounds"] = take_turns(figures["sweeps"], data, work, options, log)
    ours = figures["rounds"]["256"].get(OURS)
    if ours is not None and REFERENCE in figures["sweeps"]:
        figures["builds"] = build_in_turn(ours["build"], data, work, options, log)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/qa/kmips"), help="for data set a")
    parser.add_argument("--questions", type=Path, default=Path("../shared/data/simplequestions/valid.tsv"))
    parser.add_argument("--work", type=Path, default=Path("runs/index"), help="finished parts go here")
    parser.add_argument("--data", default="a,b", help="data sets, of a, b, middle, small")
    parser.add_argument("--only", choices=ROWS, action="append", help="only these rows")
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument("--no-attention", action="store_true", help="leave out the attention layer")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small data set and hardly any time, to try the benchmark out; its figures mean nothing",
    )
    parser.add_argument("--name", help="name of the files in bench/results, index if all rows are measured")
    parser.add_argument("--fresh", action="store_true", help="forget finished parts")
    given = parser.parse_args(arguments)
    options = Options(threads=given.threads, rounds=given.rounds)
    names = ["small"] if given.quick else given.data.split(",")
    if given.quick:
        options = replace(
            options, tuning=256, seconds=0.02, rounds=2, round_seconds=0.02, build_rounds=1, pause=0
        )
    if given.fresh:
        shutil.rmtree(given.work, ignore_errors=True)
    if "a" in names and not (given.model.exists() or (given.work / "a" / "data" / "about.json").exists()):
        raise SystemExit(
            f"{given.model}: no model, expected one for data set a: run make bench-qa, or give --data b"
        )
    limit_threads(options.threads)
    began = time.perf_counter()

    def log(line: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {line}", flush=True)

    packages = dict.fromkeys([*(row.package for row in ROWS.values()), "product-key-memory"])
    chosen = [f"--data {given.data}"] if given.data != "a,b" else []
    chosen += [f'--only "{row}"' for row in given.only or ()]
    chosen += [f"--rounds {given.rounds}"] if given.rounds != Options.rounds else []
    chosen += ["--no-attention"] if given.no_attention and given.only else []
    chosen += [f"--name {given.name}"] if given.name else []
    results: dict[str, Any] = {
        "name": given.name or "index",
        "command": " ".join(["python -m bench.index", *chosen]) if chosen else "make bench-index",
        "machine": machine(),
        "versions": {name: version_of_package(name) for name in packages},
        "options": asdict(options),
        "data": {},
    }
    out = RESULTS if given.name or not (given.quick or given.only) else given.work
    for name in names:
        log(f"data set {name}")
        data = prepare(name, given.work, given.model, given.questions)
        work = given.work / name
        results["data"][name] = measure(data, given.only or list(ROWS), work, options, log)
        if name == names[-1] and not given.no_attention:
            results["attention"] = attention.measure(data, work, options, log)
        results["load_average_at_end"] = round(os.getloadavg()[0], 1)
        report.write(results, out)
    plots.draw(results, out, log)
