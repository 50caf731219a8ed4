from __future__ import annotations

from pathlib import Path

import pytest
from tests.qa.small import CLUSTER, Split, fitted

from hmn.facts.table import FactTable
from hmn.qa.factoid_qa import FactoidQA


@pytest.fixture(scope="session")
def clustered(small_facts: FactTable, small_split: Split) -> FactoidQA:
    """A model trained through clusters."""
    return fitted(small_facts, small_split, index=CLUSTER, strategy="top-k:1+sample-k:2")


@pytest.fixture
def saved(clustered: FactoidQA, tmp_path: Path) -> Path:
    """Its folder."""
    clustered.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
