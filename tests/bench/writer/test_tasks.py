"""Episodes of the tasks: what is asked was shown."""

from __future__ import annotations

import torch
from bench.writer.tasks import BITS, ITEM_BITS, TASKS, copy, recall, sort


def test_copies_are_asked_in_order_after_the_second_sign() -> None:
    made = copy(3, 5, torch.Generator().manual_seed(0))
    assert torch.equal(made.inputs[:, 1:6, :BITS], made.target)
    assert made.asked.tolist() == [7, 8, 9, 10, 11] and made.inputs.shape == (3, 12, TASKS["copy"].inputs)
    assert not bool(made.inputs[:, made.asked].any())
    assert made.inputs[0, :, BITS:].nonzero().tolist() == [[0, 0], [6, 1]]


def test_recall_asks_for_the_item_after_the_one_shown_again() -> None:
    made = recall(4, 6, torch.Generator().manual_seed(0), queries=2)
    for sequence, inputs in enumerate(made.inputs):
        items = inputs[:24].reshape(6, 4, -1)[:, 1:, :ITEM_BITS]
        assert len(torch.unique(items.flatten(1), dim=0)) == 6
        for query in range(2):
            start = 24 + 8 * query
            shown = inputs[start + 1 : start + 4, :ITEM_BITS]
            (number,) = (items == shown).flatten(1).all(dim=1).nonzero()[0].tolist()
            assert torch.equal(made.target[sequence, 3 * query : 3 * query + 3], items[number + 1])
            assert made.asked[3 * query : 3 * query + 3].tolist() == [start + 5, start + 6, start + 7]
    assert not bool(made.inputs[:, made.asked].any())


def test_sorted_vectors_are_those_of_the_highest_priorities() -> None:
    made = sort(2, 20, torch.Generator().manual_seed(0))
    assert made.target.shape == (2, 16, BITS)
    for inputs, target in zip(made.inputs, made.target, strict=True):
        ranked = sorted(inputs[:20].tolist(), key=lambda row: -row[BITS])
        assert [row[:BITS] for row in ranked[:16]] == target.tolist()


def test_items_of_a_shared_memory_all_differ_in_few_bits() -> None:
    made = recall(8, 4, torch.Generator().manual_seed(0), shared=5)  # 32 items of five bits: all there are
    items = made.inputs[:, :16].reshape(32, 4, -1)[:, 1:, :ITEM_BITS].flatten(1)
    assert len(torch.unique(items, dim=0)) == 32
    assert int((items != items[:1]).any(dim=0).sum()) == 5


def test_close_priorities_lie_in_a_part_of_the_range() -> None:
    inputs = sort(50, 8, torch.Generator().manual_seed(0), width=0.1).inputs[:, :8]
    assert bool((inputs[..., BITS + 1] == 1).all())
    spread = inputs[..., BITS].amax(dim=1) - inputs[..., BITS].amin(dim=1)
    assert 0.1 < float(spread.max()) < 0.2
    assert float(inputs[..., BITS].abs().max()) <= 1
    assert float(inputs[..., BITS].amax() - inputs[..., BITS].amin()) > 1.5
