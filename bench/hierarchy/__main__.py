"""Run ``python -m bench.hierarchy`` (``make bench-hierarchy``).

Writes ``hierarchy.json``, ``hierarchy.md`` and the plots to bench/results. ``--only`` measures the parts it
names and keeps the other figures of ``hierarchy.json``. An interrupted training resumes. Accuracy is measured
on the model that was trained.
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
"""Parts of the benchmark, in the order in which they run."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hierarchy", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--work", type=Path, default=Path("runs/hierarchy"), help="folder of the training")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    options = parser.parse_args(arguments)
    if not (options.data / "train.tsv").exists():
        raise SystemExit(
            f"{options.data}: no train.tsv, expected the SimpleQuestions data: give their folder with --data"
        )
    model = options.work / "trained"
    if "accuracy" in options.only and "training" not in options.only and not model.exists():
        raise SystemExit(f"{model}: no model, expected a trained one: run --only training first")
    file = options.out / "hierarchy.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def log(text: str) -> None:
        print(text, file=sys.stderr)

    for part in options.only:
        if part == "accuracy":
            figures = accuracy.measure(model, options.data, log)
            draw(figures, options.out / "hierarchy-accuracy.png")
        elif part == "training":
            figures = train(options.data, options.work, log)
            draw_training(figures, options.out / "hierarchy-training.png")
        elif part == "speed":
            figures = speed.measure(options.data, log)
        elif part == "growth":
            figures = growth.measure(options.work / "growth", log)
            draw_growth(figures, options.out / "hierarchy-growth.png")
        else:
            figures = writes.measure(log)
        results[part] = {**figures, "machine": machine()}
        write_results("hierarchy", results, markdown(results), options.out)


if __name__ == "__main__":
    main()
