"""Run ``python -m bench.dynamic`` (``make bench-dynamic``) after ``make bench-qa``, whose model it reads.

Writes ``bench/results/dynamic.json``, ``dynamic.md`` and ``dynamic-accuracy.png``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.dynamic.accuracy import measure
from bench.dynamic.report import draw, markdown
from bench.machine import RESULTS, machine, write_results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dynamic", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--model", type=Path, default=Path("runs/qa/kmips"), help="trained by make bench-qa")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    given = parser.parse_args(arguments)
    if not (given.data / "train.tsv").exists():
        raise SystemExit(f"{given.data}: no train.tsv there; give the SimpleQuestions data with --data")
    if not given.model.exists():
        raise SystemExit(f"{given.model}: no model there; run make bench-qa first")
    results = {"machine": machine()}
    results["accuracy"] = measure(given.model, given.data, lambda what: print(what, file=sys.stderr))
    draw(results["accuracy"], given.out / "dynamic-accuracy.png")
    write_results("dynamic", results, markdown(results), given.out)


if __name__ == "__main__":
    main()
