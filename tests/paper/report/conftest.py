from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')

import hmn.paper.report.report as report_module


@pytest.fixture
def real_figures() -> None:
    """For a test that needs figures as Matplotlib draws them, which takes seconds each."""


@pytest.fixture
def draw_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every figure a few bytes from now on."""

    def draw() -> None:
        for name in ("draw_curves", "draw_reads", "draw_points"):
            monkeypatch.setattr(report_module, name, lambda *_: b"a figure")

    return draw


@pytest.fixture(autouse=True)
def drawn_at_once(request: pytest.FixtureRequest, draw_at_once: Callable[[], None]) -> None:
    """Draws at once in every test that does not ask for real figures."""
    if "real_figures" not in request.fixturenames:
        draw_at_once()
