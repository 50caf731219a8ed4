"""``hmn serve`` under kills, writes and load: ``python -m bench.serve`` (``make bench-serve``).

Parts that are done are not repeated, nor are kills. ``--only`` measures the parts that it names again and
keeps the others; ``--fresh`` starts over. Writes ``bench/results/serve.json`` and ``.md``. Needs Linux, wrk,
and the extras ``serve`` and ``demo``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.machine import machine, write_results
from bench.serve import kills, load, models, readers, writes
from bench.serve.report import ACKNOWLEDGED, KILLS, report

PARTS = ("kills", "readers", "writes", "load", "slow")
"""Names of the parts."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--model", type=Path, help="model of SimpleQuestions, trained before; it is copied")
    parser.add_argument("--work", type=Path, default=Path("runs/serve"), help="models and finished parts")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to measure")
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    parser.add_argument("--out", type=Path, help="folder of the results, for a trial")
    parser.add_argument("--small-facts", type=int, default=models.SMALL, help="facts of the small table")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each measurement under load")
    parser.add_argument("--written", type=int, default=ACKNOWLEDGED, help="facts written in batches")
    parser.add_argument("--slow", type=int, default=200, help="number of slow clients")
    options = parser.parse_args()
    if not (options.data / "valid.tsv").exists():
        raise SystemExit(f"{options.data}: no valid.tsv, expected the SimpleQuestions data: give --data")
    if options.fresh:
        shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    done = options.work / "parts.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {}
    results["settings"] = {
        "small_facts": options.small_facts,
        "kills": options.kills,
        "seconds": options.seconds,
        "written": options.written,
        "slow": options.slow,
        "threads": torch.get_num_threads(),
    }
    for part in options.only or [part for part in PARTS if part not in results]:
        about = machine()
        results[part] = {"machine": about, **_measure(part, options)}
        done.write_text(json.dumps(results))
    where = {} if options.out is None else {"folder": options.out}
    write_results("serve", results, report(results), **where)
    print(report(results))


def _measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """One part."""
    work = options.work
    if part == "kills":
        return kills.measure(work, options.kills, options.small_facts)
    model = models.large(work, options.data, options.model)
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "readers": lambda: readers.measure(model, work, options.seconds),
        "writes": lambda: writes.measure(model, work, options.written),
        "load": lambda: load.measure(model, work, options.seconds),
        "slow": lambda: load.slow(model, work, options.seconds, options.slow),
    }
    return measure[part]()


if __name__ == "__main__":
    main()
