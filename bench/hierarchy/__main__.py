"""Run ``python -m bench.hierarchy`` (``make bench-hierarchy``).

Writes ``hierarchy.json``, ``hierarchy.md`` and its pictures to bench/results. ``--only`` measures some parts
and keeps the others as they are in ``hierarchy.json``; a training that was stopped goes on. Accuracy is
measured on the model that the training gave.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.hierarchy import accuracy, growth, speed, writes
from bench.hierarchy.report import draw, draw_training, markdown
from bench.hierarchy.scale_report import draw_growth
from bench.hierarchy.training import train
from bench.machine import RESULTS, machine, write_results

PARTS = ("training", "accuracy", "speed", "growth", "writes")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hierarchy", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--work", type=Path, default=Path("runs/hierarchy"), help="folder of the training")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    given = parser.parse_args(arguments)
    if not (given.data / "train.tsv").exists():
        raise SystemExit(f"{given.data}: no train.tsv there; give the SimpleQuestions data with --data")
    model = given.work / "trained"
    if "accuracy" in given.only and "training" not in given.only and not model.exists():
        raise SystemExit(f"{model}: no model there; give --only training first")
    there = given.out / "hierarchy.json"
    results = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}

    def said(what: str) -> None:
        print(what, file=sys.stderr)

    for part in given.only:
        if part == "accuracy":
            found = accuracy.measure(model, given.data, said)
            draw(found, given.out / "hierarchy-accuracy.png")
        elif part == "training":
            found = train(given.data, given.work, said)
            draw_training(found, given.out / "hierarchy-training.png")
        elif part == "speed":
            found = speed.measure(given.data, said)
        elif part == "growth":
            found = growth.measure(given.work / "growth", said)
            draw_growth(found, given.out / "hierarchy-growth.png")
        else:
            found = writes.measure(said)
        results[part] = {**found, "machine": machine()}
        write_results("hierarchy", results, markdown(results), given.out)


if __name__ == "__main__":
    main()
