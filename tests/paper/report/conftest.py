from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("matplotlib", reason='the report needs Matplotlib: pip install "hmn[paper]"')


@pytest.fixture
def real_figures() -> None:
    """For a test that needs figures as Matplotlib draws them, which takes seconds each."""


@pytest.fixture(autouse=True)
def drawn_at_once(request: pytest.FixtureRequest, draw_at_once: Callable[[], None]) -> None:
    """Draws at once in every test that does not ask for real figures."""
    if "real_figures" not in request.fixturenames:
        draw_at_once()
