"""The committed report is the one that the committed results give today: its figures and its sentences."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hmn.paper.preset import PRESETS
from hmn.paper.report.document import as_markdown
from hmn.paper.report.report import report_blocks

FOLDER = Path(__file__).parents[3] / "docs" / "paper"


def test_the_committed_report_is_written_again_word_for_word() -> None:
    report = (FOLDER / "report.md").read_text(encoding="utf-8")
    lines = (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line) for line in lines]
    here = {run["name"] for run in runs if run["device"] == "cpu"}
    runs = [run for run in runs if run["device"] == "cpu" or run["name"] not in here]
    command = re.search(r"`(hmn paper [^`]+)`", report)
    assert command is not None
    assert as_markdown(report_blocks(runs, PRESETS["full"], command[1], earlier=True)) == report
