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
