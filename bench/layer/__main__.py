"""Run ``python -m bench.layer`` (``make bench-layer``).

Writes ``layer.json`` and ``layer.md`` to bench/results. ``--only`` measures the parts it names and keeps the
other figures of ``layer.json``; trainings of the language model that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from bench.index.load.quiet import LIMIT, Quiet
from bench.layer import corpus, language, steps
from bench.layer.report import markdown
from bench.machine import RESULTS, machine, write_results

PARTS = ("steps", "language")
"""Parts of the benchmark, in the order in which they run."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.layer", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--cells", nargs="+", type=int, default=steps.CELLS, help="numbers of cells")
    parser.add_argument("--rounds", type=int, default=steps.ROUNDS, help="rounds of timed steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads")
    parser.add_argument("--anyway", action="store_true", help="time steps beside other processes as well")
    parser.add_argument("--blocks", nargs="+", choices=language.BLOCKS, default=list(language.BLOCKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=language.SEEDS, help="seeds of the models")
    parser.add_argument("--work", type=Path, default=Path("runs/layer"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    options = parser.parse_args(arguments)
    file = options.out / "layer.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if "steps" in options.only:
        quiet = Quiet(None if options.anyway else LIMIT, log=log)
        figures = steps.measure(log, options.threads, quiet, tuple(options.cells), options.rounds)
        results["steps"] = {**figures, "machine": machine()}
        write_results("layer", results, markdown(results), options.out)
    if "language" in options.only:
        torch.set_num_threads(options.threads)
        texts = corpus.load(options.work)
        found = results.setdefault("language", {"runs": []})
        found |= {"corpus": {"poems": texts.poems}, "machine": machine()}
        for seed in options.seeds:
            for name in options.blocks:
                if any((run["name"], run["seed"]) == (name, seed) for run in found["runs"]):
                    continue
                found["runs"].append(language.train(name, seed, texts, log))
                found["runs"].sort(key=lambda run: (list(language.BLOCKS).index(run["name"]), run["seed"]))
                write_results("layer", results, markdown(results), options.out)


if __name__ == "__main__":
    main()
