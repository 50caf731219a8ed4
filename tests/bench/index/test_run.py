"""A whole run on small data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.index.run import main
from bench.index.worker import Bench


@pytest.mark.slow
def test_a_whole_run_is_written_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class InThisProcess:
        def __init__(self, _make: str, row: str, *arguments: Any) -> None:
            made.append(row)
            self.bench = Bench(row, *arguments)

        def call(self, method: str, *arguments: Any) -> Any:
            return getattr(self.bench, method)(*arguments)

        def close(self) -> None:
            pass

    for module in ("harness", "rounds"):
        monkeypatch.setattr(f"bench.index.{module}.Child", InThisProcess)
        monkeypatch.setattr(f"bench.index.{module}.version_of", lambda _row: "1", raising=False)
    monkeypatch.setattr("bench.index.run.limit_threads", lambda _threads: None)
    arguments = ["--quick", "--threads", "1", "--work", str(tmp_path), "--no-attention"]
    arguments += ["--only", "hmn exact", "--only", "hmn cluster", "--only", "usearch"]
    main(arguments)
    assert "hmn exact" in made
    results = json.loads((tmp_path / "index.json").read_text())
    exact = results["data"]["small"]["rounds"]["256"]["hmn exact"]
    assert exact["recall"] == exact["recall_timed"] == 1
    assert exact["reads"] == 2000
    assert len(exact["speeds"]) == len(exact["speeds_loaded"]) == 2
    assert "| hmn exact |" in (tmp_path / "index.md").read_text()
    deeper = results["data"]["small-k100"]["rounds"]["256"]["hmn cluster"]
    assert deeper["recall"] >= 0.95
    assert deeper["setting"].get("rescore", 100) >= 100
    shown = {one["target"]: one["verdict"] for one in results["must_show"]}
    assert "(small) batch 1, our fastest times the fastest other" in shown
    assert "recall@100 at the target" in (tmp_path / "index.md").read_text()
    made.clear()
    main(arguments)
    assert "hmn exact" not in made
