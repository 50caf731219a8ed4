"""How large models and checkpoints are, and how long ``hmn ask`` takes from a cold start.

Run ``python -m bench.size`` (``make bench-size``): it trains on the first 1,800 facts of SimpleQuestions and
on all of them. ``--model FOLDER`` measures a model of all facts that was trained before. Writes
``bench/results/size.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import described, machine, write_results
from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA

SMALL = 1800
"""Facts of the small table."""
SMALL_EPOCHS = 8
"""Passes over its questions, which are few."""
REPEATS = 5
"""Number of cold and of warm starts that are timed."""
QUESTION = "who wrote the novel dune?"
"""Question that is asked."""
MB = 1e6
"""Bytes per megabyte."""
LIMITS = {"small": (8, 24), "whole": (150, None)}
"""Upper limits of a model and of its checkpoint in MB."""
LIMIT_SECONDS = 2.5
"""Upper limit of seconds from the command to the answer, of the model of all facts."""


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def cut(data: Path, facts: int, folder: Path) -> None:
    """Write the first facts of the data to a folder, with the names and the questions that belong to them."""
    lines = (data / "facts.tsv").read_text(encoding="utf-8").splitlines(keepends=True)[:facts]
    kept = {tuple(line.rstrip("\n").split("\t")) for line in lines}
    entities = {entity for subject, _, object_ in kept for entity in (subject, object_)}
    (folder / "facts.tsv").write_text("".join(lines), encoding="utf-8")
    for name in ("names", "train", "valid"):
        rows = (data / f"{name}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        fits = (
            [row for row in rows if row.split("\t")[0] in entities]
            if name == "names"
            else [row for row in rows if tuple(row.split("\t")[:3]) in kept]
        )
        (folder / f"{name}.tsv").write_text("".join(fits), encoding="utf-8")


def trained(data: Path, out: Path, epochs: int) -> dict[str, Any]:
    """Train on the facts and questions of a folder; sizes of the model and of its largest checkpoint."""
    largest = [0]

    def watch(step: int, total: int) -> None:  # noqa: ARG001
        checkpoint = out.with_name(out.name + ".run") / "checkpoint"
        if checkpoint.exists():
            largest[0] = max(largest[0], size_of(checkpoint))

    qa = FactoidQA(FactTable.read(data / "facts.tsv", data / "names.tsv"))
    # several checkpoints, the last of them near the end
    settings: dict[str, Any] = {"epochs": epochs, "patience": epochs, "checkpoint_seconds": 5.0}
    qa.fit(data / "train.tsv", data / "valid.tsv", out=out, on_progress=watch, **settings)
    return {"checkpoint_mb": round(largest[0] / MB, 2), **measured(out, data)}


def measured(model: Path, data: Path) -> dict[str, Any]:
    """The size of a model, file by file, and its accuracy on held-out questions."""
    qa = FactoidQA.from_pretrained(model)
    found = qa.evaluate(data / "valid.tsv")
    return {
        "facts": len(qa.facts),
        "names": len(qa.cells.names),
        "cells": len(qa.cells),
        "table_rows": 1 << qa.config.table_bits,
        "model_mb": round(size_of(model) / MB, 2),
        "files_mb": {file.name: round(file.stat().st_size / MB, 3) for file in sorted(model.iterdir())},
        "questions": found.questions,
        "pair_accuracy": found.pair_accuracy,
        "fact_accuracy": found.fact_accuracy,
    }


def drop_caches() -> bool:
    """Let the system forget the files that it holds in memory; False if it does not allow this."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def started(command: list[str], compiled: Path, *, cold: bool) -> dict[str, float]:
    """Median seconds of a command until it ends, and of the processor time that it takes.

    Args:
        command: The command.
        compiled: Folder for Python's compiled modules, which an installed package has beside its own.
        cold: Let the system forget its files before each run.
    """
    seconds, processor = [], []
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, capture_output=True, env=environment)  # which compiles
    for _ in range(REPEATS):
        if cold:
            drop_caches()
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "seconds": round(statistics.median(seconds), 2),
        "cpu_seconds": round(statistics.median(processor), 2),
    }


def starts(models: dict[str, Path]) -> dict[str, dict[str, float]]:
    """What it takes to import PyTorch, and to answer a question from each model, cold and warm."""
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    for name, model in models.items():
        commands[f"hmn ask, {name}"] = [sys.executable, "-m", "hmn.cli", "ask", str(model), QUESTION]
    kinds = ["cold", "warm"] if drop_caches() else ["warm"]
    with tempfile.TemporaryDirectory() as compiled:
        return {
            f"{name}, {kind}": started(command, Path(compiled), cold=kind == "cold")
            for name, command in commands.items()
            for kind in kinds
        }


def as_markdown(results: dict[str, Any]) -> str:
    """The results as a page."""
    rows = []
    for name, of in results["models"].items():
        most, most_checkpoint = LIMITS[name]
        checkpoint = of.get("checkpoint_mb", "–")
        allowed = f"{most} MB" + (f" and {most_checkpoint} MB" if most_checkpoint else "")
        rows.append(
            f"| {of['facts']:,} | {of['names']:,} | {of['table_rows']:,} | {of['model_mb']} | {checkpoint} "
            f"| {allowed} | {of['pair_accuracy']:.4f} | {of['fact_accuracy']:.4f} |"
        )
    times = [
        f"| {name} | {took['seconds']:.2f} | {took['cpu_seconds']:.2f} |"
        for name, took in results["starts"].items()
    ]
    head = "| facts | names | rows of names | model, MB | checkpoint, MB | allowed | pairs | facts right |"
    return (
        f"# Sizes of models, and how soon they answer\n\n{described(results['machine'])}. "
        "`make bench-size`; tables from SimpleQuestions, accuracy on its held-out questions about these "
        f"facts; seed 0; {SMALL_EPOCHS} epochs of the small table.\n\n"
        f"{head}\n|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"From the command to its end, at most {LIMIT_SECONDS} s allowed; median of {REPEATS}. Cold: the "
        "system has no file in memory.\n\n| | seconds | processor seconds |\n|---|---|---|\n"
        + "\n".join(times)
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument("--model", type=Path, help="model of all facts, trained before")
    parser.add_argument("--facts", type=int, default=SMALL, help="facts of the small table")
    parser.add_argument("--only-small", action="store_true", help="leave the model of all facts out")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "data"
        small.mkdir()
        cut(arguments.data, arguments.facts, small)
        models = {"small": Path(folder) / "small"}
        results["models"]["small"] = trained(small, models["small"], SMALL_EPOCHS)
        if not arguments.only_small:
            models["whole"] = arguments.model or Path(folder) / "whole"
            results["models"]["whole"] = (
                measured(models["whole"], arguments.data)
                if arguments.model
                else trained(arguments.data, models["whole"], 4)
            )
        results["starts"] = starts(models)
    write_results("size", results, as_markdown(results))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
