"""How well a model answers after training on few questions or none, with made questions and without.

Run ``python -m bench.made_questions`` (``make bench-made-questions``). Finished rows are kept and an
interrupted training resumes; ``--fresh`` starts over, ``--only`` runs some rows. Everything runs through the
command line, as a user would run it. Writes ``bench/results/made-questions.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import described, machine, write_results

MADE = 10_000
"""Number of made questions, where some are made."""
COUNTS = {"0": 0, "100": 100, "1,000": 1_000, "10,000": 10_000, "all": None}
"""Numbers of training questions that are given; None for all."""
WITH, WITHOUT = "with made questions", "without"
"""Columns of the curve."""
MINILM = "0, MiniLM"
"""Row without given questions whose encoder is MiniLM, left as it is."""
GOALS = {"0": 0.78, MINILM: 0.89}
"""Lower limits of pair_accuracy without any given question."""
SEED = 0
"""Seed of the choice of the questions that are given, and of training."""


def rows() -> list[tuple[str, str]]:
    """Rows of the benchmark: how many questions are given, and whether some are made."""
    curve = [
        (count, column) for count in COUNTS for column in (WITH, WITHOUT) if (count, column) != ("0", WITHOUT)
    ]
    return [*curve, (MINILM, WITH)]


def run_row(count: str, column: str, data: Path, work: Path) -> dict[str, Any]:
    """Train and measure once, each in a process of its own."""
    out = work / f"{count} {column}".replace(",", "").replace(" ", "-")
    flags = ["--facts", str(data / "facts.tsv"), "--names", str(data / "names.tsv"), "--seed", str(SEED)]
    flags += ["--out", str(out), "--made-questions", str(MADE if column == WITH else 0)]
    if count == MINILM:
        flags += ["--encoder", "minilm"]
    elif COUNTS[count] != 0:
        flags += ["--questions", str(some_questions(data / "train.tsv", COUNTS[count], work))]
    spent_file = out.with_name(f"{out.name}.spent")
    begun = (work / f"{out.name}.run" / "checkpoint").exists()
    # of a training that was killed, nobody knows the time
    spent = float(spent_file.read_text()) if spent_file.exists() else math.nan if begun else 0.0
    if not out.exists() or begun:
        spent += run([sys.executable, "-m", "hmn.cli", "train", *flags, "--resume"])
        spent_file.write_text(str(spent))
    evaluate = ["evaluate", str(out), "--questions", str(data / "valid.tsv"), "--json"]
    measured = subprocess.run(
        [sys.executable, "-m", "hmn.cli", *evaluate], check=True, stdout=subprocess.PIPE, text=True
    )
    shown = " ".join(["hmn train", *flags]).replace(str(data), "$DATA").replace(str(work), "$OUT")
    return {
        "command": shown,
        "processor_minutes": None if math.isnan(spent) else round(spent / 60, 1),
        "evaluation": json.loads(measured.stdout),
    }


def some_questions(file: Path, count: int | None, work: Path) -> Path:
    """A file with some of the questions, drawn at random; of two such files, the larger holds the smaller."""
    if count is None:
        return file
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = np.random.default_rng(SEED).permutation(len(lines))[:count]
    written = work / f"train-{count}.tsv"
    written.write_text("".join(lines[number] for number in chosen), encoding="utf-8")
    return written


def run(command: list[str]) -> float:
    """Run a command to its end; returns the seconds of processor time that it took."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return usage.ru_utime + usage.ru_stime


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    done: dict[str, dict[str, dict[str, Any]]] = results["rows"]
    lines = ["# Few questions, or none", "", described(results["machine"]), ""]
    lines += [
        "`make bench-made-questions`. SimpleQuestions: 81,004 facts; pair_accuracy on the 10,845 questions "
        "of valid.tsv, which choose nothing here. The given questions are drawn from train.tsv with seed "
        f"{SEED}. "
        f"{MADE:,} questions are made from relations and names of the table. Four epochs, one run per row; "
        "the minutes are processor time and count training alone.",
        "",
        "For comparison: BM25 reaches 0.753, and MiniLM without training 0.875, each with no question "
        "(docs/paper).",
        "",
        f"| questions given | {WITH} | processor minutes | {WITHOUT} | processor minutes |",
        "|---|---|---|---|---|",
    ]
    for count in [*COUNTS, MINILM]:
        cells = [_cells(done.get(count, {}).get(column)) for column in (WITH, WITHOUT)]
        lines.append(f"| {count} | " + " | ".join(cell for pair in cells for cell in pair) + " |")
    lines += ["", "## Commands", ""]
    lines += [
        f"- {count}, {column}: `{row['command']}`"
        for count, columns in done.items()
        for column, row in columns.items()
    ]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any] | None) -> tuple[str, str]:
    if row is None:
        return "–", "–"
    minutes = row["processor_minutes"]
    return f"{row['evaluation']['pair_accuracy']:.4f}", "–" if minutes is None else f"{minutes:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/simplequestions"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/made-questions"), help="models and finished rows go here"
    )
    parser.add_argument(
        "--only", action="append", metavar="COUNT/COLUMN", help=f"run these rows only, such as '0/{WITH}'"
    )
    parser.add_argument("--fresh", action="store_true", help="forget finished and unfinished rows")
    arguments = parser.parse_args()
    if not (arguments.data / "facts.tsv").exists():
        raise SystemExit(f"{arguments.data}: no facts.tsv, expected the SimpleQuestions data: give --data")
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    file = arguments.work / "rows.json"
    for count, column in rows():
        results = json.loads(file.read_text()) if file.exists() else {"machine": machine(), "rows": {}}
        asked = not arguments.only or f"{count}/{column}" in arguments.only
        if asked and column not in results["rows"].get(count, {}):
            row = run_row(count, column, arguments.data, arguments.work)
            # another process may have finished rows in the meantime
            results = json.loads(file.read_text()) if file.exists() else results
            results["rows"].setdefault(count, {})[column] = row
            file.write_text(json.dumps(results))
        write_results("made-questions", results, report(results))
    for count, goal in GOALS.items():
        found = results["rows"].get(count, {}).get(WITH)
        if found and found["evaluation"]["pair_accuracy"] < goal:
            print(f"{count}: below the goal of {goal} pairs", file=sys.stderr)


if __name__ == "__main__":
    main()
