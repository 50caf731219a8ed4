"""Accuracy by language: one table in nine languages, and the Chinese table.

Run ``python -m bench.languages`` (``make bench-languages``). Finished rows are not repeated; ``--fresh``
starts over. All trainings run through the command line on one thread, with hashed tables of full size and all
else at its default. They keep their last epoch, so the held-out questions choose nothing.

Writes ``bench/results/languages.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from bench.languages.chinese import write_new_phrasings
from bench.languages.report import report
from bench.languages.world import LANGUAGES, write
from bench.machine import machine, write_results
from bench.qa import run
from hmn.facts.questions import QuestionSet
from hmn.qa.factoid_qa import FactoidQA
from hmn.qa.metrics import Outcome

FULL_SIZE = ["--table-bits", "18", "--word-bits", "16"]
"""Flags that give a small table the hashed tables of a large one, so that few n-grams share a row."""
CHINESE = "zh"
"""Row of the Chinese table."""


def train(data: Path, out: Path) -> dict[str, Any]:
    """Train on a table and its questions, unless this was done before."""
    spent = out.with_suffix(".json")
    if not spent.exists():
        flags = ["--facts", str(data / "facts.tsv"), "--names", str(data / "names.tsv"), "--threads", "1"]
        flags += ["--questions", str(data / "train.tsv"), "--out", str(out), "--overwrite", *FULL_SIZE]
        began = _processor_seconds()
        run([sys.executable, "-m", "hmn.cli", "train", *flags])
        spent.write_text(json.dumps({"processor_minutes": round((_processor_seconds() - began) / 60, 1)}))
    figures: dict[str, Any] = json.loads(spent.read_text())
    return figures


def _processor_seconds() -> float:
    """Processor time of all commands that were run, in seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def ceiling(qa: FactoidQA, questions: QuestionSet) -> float:
    """Share of the pairs that a system reaches which knows names and relations, and draws among namesakes."""
    reached = 0.0
    for fact in questions.cell.tolist():
        cells = qa.cells.of_fact.row(fact)
        pairs = [len(set(qa.facts.pair[qa.cells.facts.row(int(cell))].tolist())) for cell in cells]
        reached += 1 / min(pairs)
    return reached / len(questions)


def measure(qa: FactoidQA, path: Path) -> dict[str, Any]:
    """Pairs that a model gets right, what names alone allow, and the kinds of errors."""
    questions, outcomes = QuestionSet.read(path, qa.facts), list[Outcome]()
    evaluation = qa.evaluate(questions, outcomes=outcomes)
    lost = {"ties": 0.0, "wrong relation": 0.0, "wrong name": 0.0}
    for number, outcome in enumerate(outcomes):
        gold, best = int(questions.cell[number]), int(outcome.best[0])
        names = [set(qa.cells.subject[qa.cells.of_fact.row(fact)].tolist()) for fact in (gold, best)]
        same_name = bool(names[0] & names[1])
        kind = "wrong name" if not same_name else "ties" if outcome.pair > 0 else "wrong relation"
        kind = "ties" if same_name and qa.facts.relation[gold] == qa.facts.relation[best] else kind
        lost[kind] += (1 - outcome.pair) / len(outcomes)
    return {
        "questions": len(questions),
        "pair_accuracy": evaluation.pair_accuracy,
        "ceiling": ceiling(qa, questions),
        "lost": lost,
    }


def run_row(language: str, work: Path, data: Path) -> dict[str, Any]:
    """Train and measure in one language."""
    folder, sets = work / language, {}
    folder.mkdir(parents=True, exist_ok=True)
    if language == CHINESE:
        write_new_phrasings(data, folder / "new.tsv")
        sets = {"valid": data / "valid.tsv", "new phrasings": folder / "new.tsv"}
    else:
        data = folder
        write(language, folder)
        sets = {"valid": folder / "valid.tsv"}
    figures = train(data, folder / "model")
    qa = FactoidQA.from_pretrained(folder / "model")
    return {
        "facts": len(qa.facts),
        "splitting": qa.config.splitting,
        **figures,
        **{name: measure(qa, path) for name, path in sets.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chinese", type=Path, default=Path("../shared/data/chinese"))
    parser.add_argument("--work", type=Path, default=Path("runs/languages"), help="models and rows go here")
    parser.add_argument("--only", choices=[*LANGUAGES, CHINESE], action="append", help="run these rows only")
    parser.add_argument("--fresh", action="store_true", help="forget finished rows and models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = arguments.work / "rows.json"
    rows: dict[str, Any] = json.loads(done.read_text()) if done.exists() else {}
    for language in arguments.only or [*LANGUAGES, CHINESE]:
        if language == CHINESE and not arguments.chinese.exists():
            print(f"skipped: {arguments.chinese} is missing", file=sys.stderr)
        elif language not in rows:
            rows[language] = run_row(language, arguments.work, arguments.chinese)
            done.write_text(json.dumps(rows))
        results = {"machine": machine(), "rows": rows}
        write_results("languages", results, report(results))


if __name__ == "__main__":
    main()
