from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.paper.runs.made_plans import ROW, TINY

from hmn.paper.data import Files
from hmn.paper.runs.child import RunError, run_child
from hmn.paper.runs.job import Job


@pytest.mark.slow
def test_a_run_that_fails_reports_its_reason(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = Job(replace(files, facts=str(tmp_path / "none.tsv")), TINY, 0, "cpu", "", ROW)
    with pytest.raises(RunError, match=r"full softmax ended with status 2: .*none\.tsv"):
        run_child(job, tmp_path / "work", "x")
    assert "none.tsv" in capfd.readouterr().err
