"""Batches of random cases, each drawn from a seed."""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.fuzz import bundles, files, states
from tests.fuzz.operations import Operations

SETTINGS = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""Settings of Hypothesis for one batch."""


def operations(seed: int, examples: int = SETTINGS.max_examples) -> None:
    """Try sequences of changes and searches of an index."""
    with_examples = settings(SETTINGS, max_examples=examples)
    run_state_machine_as_test(hypothesis.seed(seed)(Operations), settings=with_examples)


BATCHES = {"operations": operations, "states": states.batch, "bundles": bundles.batch, "files": files.batch}
"""Functions that run one batch of cases, drawn from a seed, by the name of what they try."""
