"""Facts that come after training: written into the memory, beside training them into weights.

Run ``python -m bench.new_facts`` (``make bench-new-facts``). Parts that are done are not repeated and
trainings resume; ``--fresh`` starts over. Writes ``bench/results/new-facts.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from bench.machine import machine, write_results
from bench.new_facts import others, speed, split, writing
from bench.new_facts.parametric import KINDS
from bench.new_facts.report import report

TENTH = 8_100
"""New facts beside which the old ones are trained: a tenth of all."""
RELATION_SHARE = 0.05
"""Share of the relations that come later."""
MOST_EPOCHS = {"product keys": 40, "dense": 12}
"""Upper limit of the epochs of networks that know facts by their weights: dense ones take minutes each."""
PARTS = ("writing", "others", *KINDS, "speed")
"""Names of the parts that are measured."""


def run(part: str, data: Path, work: Path, share: float) -> dict[str, Any]:
    """One part; ``share`` of the data, for a trial."""
    if part == "speed":
        sizes = [size for size in speed.SIZES if size <= speed.SIZES[-1] * share]
        return speed.measure(data, tuple(sizes))
    counts = [max(20, int(share * count)) for count in others.COUNTS]
    held_out, relations = (TENTH, RELATION_SHARE) if part == "writing" else (max(others.COUNTS), 0.0)
    folder = work / ("writing" if part == "writing" else "others")
    split.write(data, folder, int(share * held_out), relations, share)
    writing.train(data, folder)
    if part == "writing":
        return writing.measure(data, folder)
    kind = part if part in KINDS else None
    return others.measure(data, folder, tuple(counts), MOST_EPOCHS.get(part, 0), kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--work", type=Path, default=Path("runs/new-facts"), help="models and finished parts")
    parser.add_argument("--only", choices=PARTS, action="append", help="run these parts only")
    parser.add_argument("--share", type=float, default=1.0, help="share of the data, for a trial")
    parser.add_argument("--out", type=Path, help="folder of the results; with --share that of --work")
    parser.add_argument("--fresh", action="store_true", help="forget finished and unfinished parts")
    arguments = parser.parse_args()
    if not (arguments.data / "facts.tsv").exists():
        raise SystemExit(f"{arguments.data}: no facts.tsv, expected the SimpleQuestions data: give --data")
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = arguments.work / "parts.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {"share": arguments.share}
    if results["share"] != arguments.share:
        raise SystemExit(
            f"{done}: of share {results['share']}, expected {arguments.share}: give another --work"
        )
    for part in arguments.only or PARTS:
        if part not in results:
            about = machine()
            results[part] = {"machine": about, **run(part, arguments.data, arguments.work, arguments.share)}
            done.write_text(json.dumps(results))
        folder = arguments.out or (arguments.work if arguments.share < 1 else None)
        where = {} if folder is None else {"folder": folder}
        write_results("new-facts", results, report(results), **where)


if __name__ == "__main__":
    main()
