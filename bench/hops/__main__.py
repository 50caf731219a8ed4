"""Questions of several hops: ``python -m bench.hops`` (``make bench-hops``).

Trains one model on MetaQA's files through the command line, measures it by number of hops, with topics given
and found, through three indexes, and sorts its errors; then chains from the demo's world. Finished parts are
not repeated; ``--fresh`` starts over. Writes ``bench/results/hops.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.hops import chains, metaqa
from bench.hops.report import report
from bench.machine import machine, write_results
from hmn.facts.table import FactTable
from hmn.qa.config import READING, WORDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/metaqa"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/hops"), help="models and finished parts go here"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="measure this number of held-out questions per file only")
    parser.add_argument("--name", default="hops", help="name of the files of results")
    parser.add_argument("--only", choices=("metaqa", "chains"), help="one of the two parts")
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    arguments = parser.parse_args()
    if not (arguments.data / "kb.txt").exists():
        raise SystemExit(f"{arguments.data}: no kb.txt, expected the MetaQA data: give --data")
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = arguments.work / "parts.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {"machine": machine()}
    results["most"] = arguments.most
    data, model, most = arguments.data, arguments.work / "metaqa", arguments.most

    def table() -> FactTable:
        return FactTable.read(data / "kb.txt", inverse=True)

    parts: dict[str, Callable[[], Any]] = {
        "metaqa training": lambda: metaqa.train(data, model, arguments.seed),
        "metaqa figures": lambda: metaqa.measure(data, model, most),
        "metaqa ceiling": lambda: metaqa.ceilings(data, table(), most),
        "metaqa errors": lambda: metaqa.errors(data, model, most),
        "metaqa milliseconds": lambda: metaqa.ask(model, data),
        "metaqa without topics": lambda: metaqa.without_topics(data, arguments.work, arguments.seed, most),
        "chains, stop by words": lambda: chains.measure(arguments.seed, WORDS),
        "chains, stop by reading": lambda: chains.measure(arguments.seed, READING),
    }
    for name, part in parts.items():
        if name not in results and name.startswith(arguments.only or ""):
            results[name] = json.loads(json.dumps(part()))  # keys as a file has them
            done.write_text(json.dumps(results))
        write_results(arguments.name, results, report(results))


if __name__ == "__main__":
    main()
