"""Which effort of a system is shown."""

from __future__ import annotations

from bench.index.streaming.report import shown


def test_the_first_effort_that_reaches_the_target_is_shown_or_the_best() -> None:
    points = [{"effort": effort, "recall": recall} for effort, recall in ((1, 0.8), (2, 0.96), (3, 0.99))]
    assert shown(points, 0.95)["effort"] == 2
    assert shown(points, 0.999)["effort"] == 3
