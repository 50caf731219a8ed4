"""Python in the documentation runs as it stands, on a smaller memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SMALLER = {
    "CELLS = 1_000_000": "CELLS = 4_000",
    "ASKED, BATCH, STEPS = 64, 10, 2_000, 256, 100": "ASKED, BATCH, STEPS = 64, 10, 500, 128, 50",
    "num_clusters=1000": "num_clusters=60",
}


def blocks(name: str) -> list[str]:
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_attention_page(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"__name__": "page"}
    example, *rest = blocks("attention.md")
    for whole, small in SMALLER.items():
        assert whole in example, "the page has changed: change this test's sizes with it"
        example, rest = example.replace(whole, small), [block.replace(whole, small) for block in rest]
    exec(example, found)
    assert found["found"] > 0.9 and found["right"] > 0.8
    assert re.match(r"step 0: right cell 0.0\d\d, right class 0.\d+, reads \d+\n", capsys.readouterr().out)
    for block in rest:
        exec(block, found)
    drawn = found["candidates"]
    assert set(found["asked"][:8].tolist()) <= set(drawn.cell.tolist())
    assert 0 < int((drawn.probability < 1).sum()) < len(drawn.cell)


def test_the_search_page(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"__name__": "page"}
    whole = "CELLS = 1_000_000"
    example, *rest = blocks("search.md")
    assert whole in example and "num_clusters=1_000)" in example
    for block in (example, *rest):
        smaller = block.replace(whole, "CELLS = 20_000").replace("num_clusters=1_000)", "num_clusters=100)")
        exec(smaller, found)
    assert found["tuned"].reached and found["missed"] < 0.1
    assert re.match(r"num_probes \d+: recall@10 0.9\d+, reads \d+\n", capsys.readouterr().out)
