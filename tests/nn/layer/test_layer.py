"""A memory layer computes what its definition says, finds its cells, and trains in a Transformer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmn.errors import ConfigError, HMNError, ShapeError
from hmn.index import ExactIndex, recall_at_k
from hmn.index.protocol import Index
from hmn.nn import MemoryLayer, RowAdam, split_parameters
from hmn.nn.layer.keeping import RecallKeeper
from hmn.nn.layer.layer import KEPT_AT, KEPT_EVERY, KEPT_ON, TUNED_ON


def inputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(layer: MemoryLayer, given: Tensor) -> Tensor:
    """The layer by its definition: every cell is scored, and the k best are read."""
    query = (given @ layer.query.weight.T + layer.query.bias).unflatten(-1, (layer.heads, -1))
    query = query / (query.square().mean(dim=-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
    total = torch.zeros(())
    for head in range(layer.heads):
        attention = layer.attention[head if len(layer.attention) > 1 else 0]
        score = layer.log_scale.exp() * query[..., head, :] @ attention.memory.keys.T
        best = score.topk(min(attention.k, layer.cells), dim=-1)
        weight = best.values.softmax(dim=-1)
        total = total + (weight.unsqueeze(-1) * layer.values[best.indices]).sum(dim=-2)
    if layer.gate is not None:
        total = total * F.silu(given @ layer.gate.weight.T + layer.gate.bias)
    return total @ layer.output.weight.T


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (0, 6)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"shared_keys": False}, {"gated": False}, {"value_features": 5}, {"heads": 1}, {"k": 70}],
)
def test_it_computes_its_definition(shape: tuple[int, ...], settings: dict[str, int]) -> None:
    torch.manual_seed(0)
    layer = MemoryLayer(6, 50, **{"heads": 3, "k": 4, "key_features": 8, "index": "exact", **settings})
    given = [inputs(*shape).requires_grad_() for _ in range(2)]
    got, wanted = layer(given[0]), plain(layer, given[1])
    torch.testing.assert_close(got, wanted)
    parameters = [each for each in layer.parameters() if each is not layer.query.bias]
    for outputs, each in ((got, given[0]), (wanted, given[1])):
        each.grad = None
        gradients = torch.autograd.grad(outputs.square().sum(), [each, *parameters], allow_unused=True)
        dense = [None if part is None else part.to_dense() for part in gradients]
        if outputs is got:
            ours = dense
    for one, other in zip(ours, dense, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("index", ["cluster", "hierarchy"])
def test_from_the_first_read_on_and_while_it_trains_it_finds_the_best_cells(index: str) -> None:
    torch.manual_seed(0)
    layer = MemoryLayer(32, 4_096, heads=2, k=8, key_features=16, index=index)
    dense, rows = split_parameters(layer)
    adam, row_adam = torch.optim.AdamW(dense, lr=1e-2), RowAdam(rows, lr=1e-2)
    layer.follow(row_adam)
    turned = torch.linalg.qr(inputs(32, 32)).Q

    def recall() -> float:
        """Of queries that the layer was not tuned on."""
        given = inputs(300, 32, seed=1_000)
        with torch.no_grad():
            query = layer.scaling(layer.query(given).unflatten(-1, (2, 16))).flatten(0, 1)
        keys, indexed = layer.attention[0].memory.keys.detach(), layer.attention[0].indexed
        found = indexed.in_step(training=True).search(query, 8)
        assert float(found.reads.mean()) < 0.5 * len(keys)
        return recall_at_k(found, ExactIndex(keys.clone()).search(query, 8))

    losses = []
    for step in range(101):
        given = inputs(256, 32, seed=step)
        loss = (layer(given) - (given @ turned).tanh()).square().mean()
        if step in (0, 100):
            assert recall() > 0.9
        adam.zero_grad()
        row_adam.zero_grad()
        loss.backward()
        adam.step()
        row_adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("shared_keys", [True, False])
def test_searches_are_kept_at_their_recall_in_training_and_tuned_once_outside(
    monkeypatch: pytest.MonkeyPatch, shared_keys: bool
) -> None:
    layer = MemoryLayer(6, 500, heads=2, k=4, key_features=8, shared_keys=shared_keys)
    done: list[tuple[str, int, int]] = []
    plain = {"tune": RecallKeeper.tune, "keep": RecallKeeper.keep}

    def tune(keeper: RecallKeeper, index: Index, query: Tensor, *rest: Any) -> Any:
        done.append(("tune", layer._reads, len(query)))
        return plain["tune"](keeper, index, query, *rest)

    def keep(keeper: RecallKeeper, index: Index, keys: Tensor, query: Tensor, *rest: Any) -> None:
        done.append(("keep", layer._reads, len(query)))
        plain["keep"](keeper, index, keys, query, *rest)

    monkeypatch.setattr(RecallKeeper, "tune", tune)
    monkeypatch.setattr(RecallKeeper, "keep", keep)
    heads = 1 if shared_keys else 2
    layer.eval()
    for _ in range(30):
        layer(inputs(3, 6))
    assert done == heads * [("tune", 1, TUNED_ON // heads)]
    layer.train()
    for _ in range(2 * KEPT_EVERY):
        layer(inputs(100, 6))
    kept = [read for what, read, _ in done if what == "keep"]
    assert kept == sorted(heads * [*KEPT_AT, KEPT_EVERY, 2 * KEPT_EVERY])
    assert all(count == KEPT_ON // heads for what, _, count in done if what == "keep")
    done.clear()
    assert len(layer.tune(inputs(50, 6))) == heads and len(done) == heads
    layer.recall, layer._reads = None, 0
    layer(inputs(3, 6))
    assert len(done) == heads
    with pytest.raises(ConfigError, match="recall is None"):
        layer.tune(inputs(3, 6))


def test_layers_share_values() -> None:
    first = MemoryLayer(6, 50, k=4, key_features=8)
    second = MemoryLayer(6, 50, k=4, key_features=8, values=first.values, seed=1)
    assert second.values is first.values
    assert not torch.equal(first.attention[0].memory.keys, second.attention[0].memory.keys)
    both = nn.ModuleList([first, second])
    dense, rows = split_parameters(both)
    assert len(rows) == 3 and len(dense) + len(rows) == len(list(both.parameters()))


def test_dropout_and_counts_of_use() -> None:
    layer = MemoryLayer(6, 50, heads=2, k=4, key_features=8, dropout=0.5, index="exact")
    use, given = layer.count_use(), inputs(10, 6)
    assert not torch.equal(layer(given), layer(given))
    layer.eval()
    assert torch.equal(layer(given), layer(given))
    assert int(use.reads.sum()) == 4 * 10 * 2 * 4 and 0 < use.share <= 1
    assert float(use.weight.sum()) == pytest.approx(4 * 10 * 2)
    layer.use = None
    layer(given)
    assert int(use.reads.sum()) == 4 * 10 * 2 * 4


def test_it_takes_the_place_of_a_feed_forward_block() -> None:
    class Block(nn.TransformerEncoderLayer):
        def __init__(self) -> None:
            super().__init__(16, 2, 1, dropout=0.0, batch_first=True)
            self.memory = MemoryLayer(16, 200, heads=2, k=4, key_features=8)
            self.activation_relu_or_gelu = 0  # PyTorch's fast path would leave the memory out

        def _ff_block(self, x: Tensor) -> Tensor:
            return self.memory(x)  # type: ignore[no-any-return]

    block = Block()
    given = inputs(2, 5, 16)
    block(given).sum().backward()
    assert all(part.grad is not None for part in block.memory.parameters())
    block.eval()
    with torch.no_grad():
        torch.testing.assert_close(block(given), block.train()(given))


def test_state_and_copies_read_the_same() -> None:
    torch.manual_seed(0)
    layer, given = MemoryLayer(6, 300, heads=2, k=4, key_features=8), inputs(10, 6)
    layer.eval()
    wanted = layer(given)
    torch.testing.assert_close(copy.deepcopy(layer)(given), wanted)
    other = MemoryLayer(6, 300, heads=2, k=4, key_features=8, recall=1.0, seed=5).eval()
    other.load_state_dict(layer.state_dict())
    layer.recall = 1.0
    layer.tune(given)
    torch.testing.assert_close(other(given), layer(given))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"d_model": 0}, "d_model is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"k": 0}, "k is 0"),
        ({"cells": 0}, "cells is 0"),
        ({"recall": 0}, "recall is 0"),
        ({"shared_keys": 1}, "shared_keys is 1"),
        ({"value_features": 0}, "value_features is 0"),
        ({"values": torch.ones(50, 3)}, "values are \\(50, 3\\)"),
        ({"values": nn.Parameter(torch.ones(5, 3))}, "values are \\(5, 3\\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(HMNError, match=error):
        MemoryLayer(**{"d_model": 6, "cells": 50, **settings})  # type: ignore[arg-type]


def test_inputs_of_other_features_are_refused() -> None:
    with pytest.raises(ShapeError, match="the input has 5 features, expected d_model, 6"):
        MemoryLayer(6, 50)(inputs(3, 5))


def test_it_may_begin_without_numbers_and_in_half_precision() -> None:
    torch.manual_seed(0)
    layer, given = MemoryLayer(6, 50, k=4, key_features=8), inputs(3, 6)
    with torch.device("meta"):
        other = MemoryLayer(6, 50, k=4, key_features=8)
    assert all(part.is_meta for part in other.parameters())
    other.to_empty(device="cpu").load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(given), layer(given))
    half = layer.to(torch.bfloat16)(given.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), other(given), rtol=0.1, atol=0.05)
