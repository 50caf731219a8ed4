from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hmn.paper.data import Files


@pytest.fixture
def draw_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every figure of a report a few bytes from now on."""
    pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')

    def draw() -> None:
        for name in ("draw_curves", "draw_reads", "draw_points"):
            monkeypatch.setattr(f"hmn.paper.report.report.{name}", lambda *_: b"a figure")

    return draw


@pytest.fixture
def files(small_files: Path) -> Files:
    rows = {line.split("\t")[0] for line in (small_files / "facts.tsv").read_text().splitlines()}
    names = "".join(f"{one}\t{one.replace('_', ' ')}\n" for one in sorted(rows))
    (small_files / "names.tsv").write_text(names)
    return Files(*(str(small_files / f"{name}.tsv") for name in ("facts", "names", "train", "valid")))
