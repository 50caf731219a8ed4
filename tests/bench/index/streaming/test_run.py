"""A whole run on small data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.index.streaming.stream import Stream
from bench.index.systems.base import PackageMissingError

from bench.index.streaming import run


def test_a_whole_run_is_written_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Here:
        def __init__(self, _make: str, row: str, *arguments: Any) -> None:
            made.append(row)
            if row == "NGT":
                raise PackageMissingError("ngt is not installed: pip install ngt")
            self.stream = Stream(row, *arguments)

        def call(self, method: str, *arguments: Any) -> Any:
            return getattr(self.stream, method)(*arguments)

        def close(self) -> None:
            pass

    monkeypatch.setattr("bench.index.streaming.follow.Child", Here)
    monkeypatch.setattr(run, "limit_threads", lambda _threads: None)
    arguments = ["--data", "small", "--runbooks", "sliding", "--parts", "6", "--threads", "1", "--unchecked"]
    arguments += ["--work", str(tmp_path), "--out", str(tmp_path), "--only", "hmn exact", "--only", "NGT"]
    run.main(arguments)
    results = json.loads((tmp_path / "streaming.json").read_text())
    course = results["courses"]["small, sliding"]
    assert course["about"] == {"rows": 2000, "features": 16, "most": 1334, "steps": 15, "searches": 6}
    assert course["rows"]["hmn exact"]["points"][0]["recall"] == 1
    text = (tmp_path / "streaming.md").read_text()
    assert "| hmn exact | 1.0000 | 1.0000 |" in text
    assert "- small, sliding: NGT: ngt is not installed: pip install ngt" in text
    assert "- LoRANN: it takes all keys at its build, and no others later" in text
    assert "Nothing checked whether the machine was quiet." in text
    run.main(arguments)
    assert made == ["hmn exact", "NGT", "NGT"]
