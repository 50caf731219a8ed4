"""What writes to a memory compute, in one step each, with gradients by hand; see ``blending`` for reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmn.nn.writing.recency import Recency
from hmn.nn.writing.tape import Gradients, Tape

LEAST_WEIGHT = 0.005
"""Weight up to which a cell does not count as read, and is not written (Rae et al. 2016 have the former)."""


@dataclass
class Plan:
    """What a write changes: n entries, each a cell that a head changes.

    Attributes:
        cells: ``(S, M * (K + 1))`` cells that change, of each head those found and then the oldest, else -1.
        rows: ``(n,)`` row of each entry.
        head: ``(n,)`` head of each entry, through all sequences.
        place: ``(n,)`` place of its cell among the K that its head found; K for the oldest cell.
        fresh: ``(n, 1)`` whether it is the oldest cell.
        weight: ``(n, 1)`` weight of each entry.
        both: ``(S, M, K)`` found cells that are the oldest as well: their weight goes there; None for none.
        writes: ``(S, M)`` heads that write to the oldest cell.
        rounds: entries in the order in which they are made, those of a round at once; see ``rounds``.
        distinct: ``(r,)`` the rows that change, each once.
    """

    cells: np.ndarray
    rows: Tensor
    head: Tensor
    place: Tensor
    fresh: Tensor
    weight: Tensor
    both: Tensor | None
    writes: Tensor
    rounds: list[Tensor] | None
    distinct: Tensor


def planned(
    cell: Tensor, found: Tensor, gate: Tensor, mix: Tensor, recency: Recency, first: np.ndarray
) -> Plan | None:
    """What a write changes; None if nothing.

    It is worked out in NumPy, whose calls on few numbers take the least time.

    Args:
        cell: ``(S, M, K)`` cells found, -1 where unused.
        found: ``(S, M, K)`` weights of these.
        gate: ``(S, M)``, see ``WrittenMemory.write``.
        mix: ``(S, M)``, likewise.
        recency: names the oldest cells.
        first: ``(S, 1, 1)`` row of the first cell of each sequence.
    """
    device, dtype = cell.device, torch.float32
    for part in (found, gate, mix):
        dtype = torch.promote_types(dtype, part.dtype)
    cells = cell.cpu().numpy()
    weights, gates, mixes = (part.detach().to(dtype).cpu().numpy() for part in (found, gate, mix))
    fresh = gates * (1 - mixes)
    writes = fresh > LEAST_WEIGHT
    oldest = recency.oldest(writes)[:, :, None]  # (S, M, 1)
    weights = (gates * mixes)[:, :, None] * weights
    both = (cells == oldest) & (oldest >= 0)  # (S, M, K)
    fresh = (fresh * writes)[:, :, None]
    if both.any():
        fresh += (weights * both).sum(axis=2, keepdims=True)
        cells = np.where(both, -1, cells)
    weights = np.concatenate([weights, fresh], axis=2)  # (S, M, K + 1)
    cells = np.concatenate([cells, oldest], axis=2)
    changes = (cells >= 0) & (weights > LEAST_WEIGHT)
    heads, places = changes.reshape(-1, changes.shape[2]).nonzero()
    if not len(heads):
        return None
    rows = torch.from_numpy((cells + first)[changes]).to(device)
    turns = rounds(rows.tolist())
    parts = (
        None if len(turns) == 1 else [torch.tensor(turn, dtype=torch.int64, device=device) for turn in turns]
    )
    return Plan(
        np.where(changes, cells, -1).reshape(len(cells), -1),
        rows,
        torch.from_numpy(heads).to(device),
        torch.from_numpy(places).to(device),
        torch.from_numpy(places[:, None] == cells.shape[2] - 1).to(device),
        torch.from_numpy(weights[changes][:, None]).to(device),
        torch.from_numpy(both).to(device) if both.any() else None,
        torch.from_numpy(writes).to(device),
        parts,
        rows if parts is None else rows[parts[0]],
    )


def change_cells(
    tape: Tape, plan: Plan, new: Tensor, erase: Tensor | None, gate: Tensor, mix: Tensor, found: Tensor
) -> None:
    """Change rows as planned, with gradients; see ``changed`` and ``planned``."""
    tape.keep(plan.distinct)
    if torch.is_grad_enabled():
        tape.apply(_Change, plan.rows, tape.rows, plan, new, erase, gate, mix, found)
        return
    changed(tape.rows, plan, new, erase)
    tape.end_gradients(plan.distinct)


class _Change(torch.autograd.Function):
    """Replace rows by ``kept * row + weight * new``; see ``changed``."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        slots: Tensor,
        gradients: Gradients,
        held: Tensor,
        plan: Plan,
        new: Tensor,
        erase: Tensor | None,
        gate: Tensor,
        mix: Tensor,
        found: Tensor,
    ) -> Tensor:
        old, kept = changed(held, plan, new, erase)
        ctx.save_for_backward(old, kept, new, erase, gate, mix, found)
        ctx.slots, ctx.gradients, ctx.plan = slots, gradients, plan
        return token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, ...]:
        # 1. From the rows after the write to those before it, and to each entry's new row and weight.
        # 2. From the entries to the heads that made them.
        # 3. From the weights to gate, mix and the weights of what was found.
        old, kept, new, erase, gate, mix, found = ctx.saved_tensors
        plan: Plan = ctx.plan
        after = ctx.gradients.pass_on(ctx.slots, kept, plan.rounds).to(kept.dtype)  # (n, W)
        lost = (after * old).masked_fill(plan.fresh, 0.0)  # by erasing
        made = new.flatten(0, 1)[plan.head]
        weight = (after * made).sum(dim=1)  # (n,)
        of_erase = None
        of_new = torch.zeros_like(new, dtype=kept.dtype).flatten(0, 1)
        of_new.index_add_(0, plan.head, plan.weight.to(kept.dtype) * after)
        if erase is None:
            weight = weight - lost.sum(dim=1)
        else:
            weight = weight - (lost * erase.flatten(0, 1)[plan.head]).sum(dim=1)
            of_erase = torch.zeros_like(erase, dtype=kept.dtype).flatten(0, 1)
            of_erase.index_add_(0, plan.head, plan.weight.to(kept.dtype) * lost, alpha=-1)
            of_erase = of_erase.view(erase.shape).to(erase.dtype)
        whole = weight.new_zeros(len(of_new), found.shape[2] + 1)
        whole[plan.head, plan.place] = weight
        whole = whole.view(*gate.shape, -1)  # (S, M, K + 1)
        of_oldest = whole[..., -1:]
        of_weight = whole[..., :-1] if plan.both is None else whole[..., :-1] + plan.both * of_oldest
        share = (of_weight * found).sum(dim=2)  # of gate * mix
        fresh = of_oldest.squeeze(2) * plan.writes  # of gate * (1 - mix)
        return (
            ctx.gradients.nothing,
            *[None] * 4,
            of_new.view(new.shape).to(new.dtype),
            of_erase,
            (share * mix + fresh * (1 - mix)).to(gate.dtype),
            ((share - fresh) * gate).to(mix.dtype),
            (of_weight * (gate * mix).unsqueeze(2)).to(found.dtype),
        )


def changed(held: Tensor, plan: Plan, new: Tensor, erase: Tensor | None) -> tuple[Tensor, Tensor]:
    """Replace rows in place; returns what they held, and how much of it they keep: ``(n, W)`` or ``(n, 1)``.

    Args:
        held: ``(R, W)`` all rows.
        plan: the entries.
        new: ``(S, M, W)`` what each head writes.
        erase: ``(S, M, W)`` how much each head erases; all of it if None.
    """
    erased = plan.weight if erase is None else plan.weight * erase.flatten(0, 1)[plan.head]
    kept = (1 - erased).masked_fill(plan.fresh, 0.0)
    added = plan.weight * new.flatten(0, 1)[plan.head]
    dtype = torch.promote_types(held.dtype, torch.promote_types(kept.dtype, added.dtype))
    kept = kept.to(dtype)
    if plan.rounds is None:
        old = held[plan.rows].to(dtype)
        held[plan.rows] = (kept * old + added).to(held.dtype)
        return old, kept
    old = held.new_empty(added.shape, dtype=dtype)
    for part in plan.rounds:
        rows = plan.rows[part]
        old[part] = before = held[rows].to(dtype)
        held[rows] = (kept[part] * before + added[part]).to(held.dtype)
    return old, kept


def rounds(rows: list[int]) -> list[list[int]]:
    """Places of rows in rounds: the n-th time that a row occurs is in the n-th round."""
    if len(set(rows)) == len(rows):
        return [list(range(len(rows)))]
    times: dict[int, int] = {}
    made: list[list[int]] = []
    for place, row in enumerate(rows):
        turn = times[row] = times.get(row, -1) + 1
        if turn == len(made):
            made.append([])
        made[turn].append(place)
    return made
