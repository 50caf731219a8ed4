"""Attention layers under test."""

from __future__ import annotations

import pytest
from bench.index.score import best_scores, recalls
from bench.index.systems.base import PackageMissingError

from bench.index import attention, data
from hmn.errors import MissingPackageError

LAYERS = [attention.OURS, attention.THEIRS, attention.SOFTMAX, attention.PRODUCT_KEYS]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_steps_forward_and_backward(kind: str, small: data.DataSet) -> None:
    settings = {attention.OURS: {"num_clusters": 20}, attention.THEIRS: {"factory": "IVF20,Flat"}}
    try:
        layer = attention.Layer(kind, settings.get(kind, {}), small.folder, 1)
    except (PackageMissingError, MissingPackageError) as error:
        pytest.skip(str(error))
    layer.build()
    if kind in settings:
        layer.set(20)
        best = best_scores(small.keys, small.queries("tune"), attention.K)
        found = recalls(small.keys, small.queries("tune"), layer.cells("tune", 256), best)
        assert found.mean() > 0.99
    spent = layer.run(0, 2)
    assert len(spent) == 2
    assert min(spent) > 0
    assert any(parameter.grad is not None for parameter in layer.parameters)
