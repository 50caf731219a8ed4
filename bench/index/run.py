"""The structures of ``hmn.index`` beside the libraries that people use, in one run.

``python -m bench.index`` (``make bench-index``) makes the data, then builds, tunes and sweeps every system on
one half of the queries. On the other half it times all of them in turns, at their best settings. It builds
our clusters and faiss's in turn and times the attention layer. It writes ``bench/results/index.json``,
``.md`` and the plots. Finished parts are kept in ``runs/index`` and not repeated; ``--fresh`` starts over.
Rows whose package is missing, and builds that a library refuses, are named in the report: the extra
``bench`` installs every package.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.index import attention
from bench.index.data import MAKERS, DataSet, K, prepare
from bench.index.harness import BATCHES, Options, chosen, sweeps
from bench.index.load.quiet import LoadedError, Quiet
from bench.index.report import plots, report
from bench.index.rounds import OURS, REFERENCE, Log, build_in_turn, take_turns
from bench.index.systems import ROWS
from bench.index.systems.base import PackageMissingError, Setting, version_of_package
from bench.index.worker import limit_threads
from bench.machine import RESULTS, machine

DATA = "a,b,glove,glove-unit,wink,minilm"
"""Data sets that are measured unless others are named."""
NOT_IN_COMMAND = ("model", "questions", "work", "fresh")
"""Arguments that change no figure, and are left out of the command in the report."""
Builds = dict[str, list[Setting]]
"""Builds by row."""


def measure(
    data: DataSet,
    rows: Sequence[str],
    work: Path,
    options: Options,
    log: Log,
    quiet: Quiet,
    only: Builds | None = None,
) -> dict[str, Any]:
    """All figures of one data set, for its number of results per query; ``only`` names the builds to try."""
    figures: dict[str, Any] = {"about": data.about, "k": data.k, "sweeps": {}, "notes": []}
    for row in rows:
        try:
            found, notes = sweeps(
                row, data, work, options, log, quiet, None if only is None else only.get(row)
            )
        except PackageMissingError as error:
            found, notes = [], [f"{row}: {error}"]
            log(notes[0])
        figures["notes"] += notes
        if found:
            figures["sweeps"][row] = found
    figures["rounds"], refused = take_turns(figures["sweeps"], data, work, options, log, quiet)
    figures["notes"] += refused
    ours = figures["rounds"]["256"].get(OURS)
    if data.k == K and ours is not None and REFERENCE in figures["sweeps"]:
        try:
            figures["builds"] = build_in_turn(ours["build"], data, work, options, log, quiet)
        except LoadedError as error:
            figures["notes"].append(str(error))
    return figures


def fastest_builds(figures: dict[str, Any]) -> Builds:
    """For each row that reaches the target, the builds that were fastest there."""
    builds: Builds = {}
    for row, found in figures["sweeps"].items():
        picks = [pick[0] for batch in BATCHES if (pick := chosen(found, batch)) is not None]
        if picks:
            builds[row] = [build for number, build in enumerate(picks) if build not in picks[:number]]
    return builds


def command(parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """The command that makes these results again, without the places of files."""
    words: list[str] = []
    for name, value in vars(given).items():
        if name in NOT_IN_COMMAND or value == parser.get_default(name):
            continue
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        else:
            for each in value if isinstance(value, list) else [value]:
                words.append(f"{flag} {shlex.quote(str(each))}")
    return " ".join(["python -m bench.index", *words]) if words else "make bench-index"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/qa/kmips"), help="for data set a")
    parser.add_argument("--questions", type=Path, default=Path("../shared/data/simplequestions/valid.tsv"))
    parser.add_argument("--work", type=Path, default=Path("runs/index"), help="finished parts go here")
    parser.add_argument("--data", help=f"data sets, of {', '.join(MAKERS)}; {DATA} if not given")
    parser.add_argument(
        "--k", default="10,100", help="results per query, 100 at most; 10 is always among them"
    )
    parser.add_argument("--only", choices=ROWS, action="append", help="only these rows")
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument(
        "--patience",
        type=float,
        default=Options.wait / 60,
        help="minutes to wait for a quiet machine, in all",
    )
    parser.add_argument("--no-attention", action="store_true", help="leave out the attention layer")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small data set, unless --data names others, and hardly any time, to try the benchmark out, "
        "on a busy machine as well; its figures mean nothing",
    )
    parser.add_argument("--name", help="name of the files in bench/results, index if all rows are measured")
    parser.add_argument("--fresh", action="store_true", help="forget finished parts")
    given = parser.parse_args(arguments)
    options = Options(threads=given.threads, rounds=given.rounds, wait=60 * given.patience)
    depths = [k for k in map(int, given.k.split(",")) if k != K]
    names = (given.data or ("small" if given.quick else DATA)).split(",")
    if given.quick:
        options = replace(
            options,
            tuning=256,
            seconds=0.02,
            rounds=2,
            round_seconds=0.02,
            build_rounds=1,
            pause=0,
            limit=None,
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

    quiet = Quiet(options.limit, options.wait, log)
    try:
        quiet.wait("the benchmark")
    except LoadedError as error:
        raise SystemExit(str(error)) from None
    packages = dict.fromkeys([*(row.package for row in ROWS.values()), "product-key-memory"])
    results: dict[str, Any] = {
        "name": given.name or "index",
        "command": command(parser, given),
        "machine": machine(),
        "versions": {name: version_of_package(name) for name in packages},
        "options": asdict(options),
        "data": {},
    }
    out = RESULTS if given.name or not (given.quick or given.only) else given.work
    for name in names:
        log(f"data set {name}")
        data = prepare(name, given.work, given.model, given.questions)
        work, rows = given.work / name, given.only or list(ROWS)
        figures = results["data"][name] = measure(data, rows, work, options, log, quiet)
        for k in depths:
            log(f"data set {name}, {k} results per query")
            builds = fastest_builds(figures)
            deeper = measure(data.at(k), list(builds), work, options, log, quiet, builds)
            deeper["notes"] += [
                f"{row}, {k} results per query: not tried, since it does not reach the target at {K}"
                for row in figures["sweeps"]
                if row not in builds
            ]
            results["data"][f"{name}-k{k}"] = deeper
        if name == names[-1] and not given.no_attention:
            try:
                results["attention"] = attention.measure(data, work, options, log, quiet)
            except LoadedError as error:
                figures["notes"].append(f"attention, {error}")
        results["load_average_at_end"] = round(os.getloadavg()[0], 1)
        report.write(results, out)
    plots.draw(results, out, log)
