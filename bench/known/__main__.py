"""Whether the answer is in the table: ``python -m bench.known`` (``make bench-known``).

Trains on SimpleQuestions, removes the facts of half of the held-out questions, asks MetaQA's questions, and
measures how well what is there is distinguished from what is not. Finished parts are not repeated;
``--fresh`` starts over. Writes ``bench/results/known.json``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.known import measure
from bench.known.report import picture, report
from bench.machine import RESULTS, machine, write_results
from hmn.store.atomic import write_atomically


def pooled(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Figures over all questions of MetaQA that the table does not answer."""
    count = np.array([row["questions"] - row["answerable"] for row in rows])
    return {
        name: float(np.average([row[name] for row in rows], weights=count)) for name in ("auroc", "known")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--metaqa", type=Path, default=Path("../shared/data/metaqa"))
    parser.add_argument("--work", type=Path, default=Path("runs/known"), help="model and finished parts")
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    arguments = parser.parse_args()
    for file in (arguments.data / "facts.tsv", arguments.metaqa / "kb.txt"):
        if not file.exists():
            raise SystemExit(f"{file}: no such file, expected the data: give --data and --metaqa")
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = arguments.work / "parts.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {"machine": machine()}
    if "training" not in results:
        measure.split(arguments.data, arguments.work)
        results["training"] = measure.train(arguments.data, arguments.work)
        done.write_text(json.dumps(results))
    if "figures" not in results:
        results["figures"] = measure.measure(arguments.data, arguments.work, arguments.metaqa)
        results["figures"]["pooled"] = pooled(results["figures"]["metaqa"])
        done.write_text(json.dumps(results))
    write_results("known", results, report(results))
    write_atomically(RESULTS / "known.png", picture(results["figures"]))


if __name__ == "__main__":
    main()
