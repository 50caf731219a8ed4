"""Vectors in short codes, in PyTorch; ``kernels/encode.cpp`` does the same."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.level import GROUP, LANES, Level

SHRUNK = (1.0, 0.85, 0.7)
"""Largest code in shares of the largest coordinate; the one that fits a vector best is taken."""
LONGEST_CODE = 46_000
"""Length of a vector in codes of 16 bits: products of two, rounded, stay below 2^31."""


def write_entries(
    level: Level, place: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor
) -> None:
    """See ``hmn._native.write_entries``."""
    along, rest = split(vectors[rows].float(), direction[lists])
    codes, step = encode_widely(rest) if level.bits == 16 else encode(rest, level.bits)
    level.along[place], level.step[place] = along, step
    level.codes[place // LANES, :, place % LANES] = lines_of(codes, level.bits)


def encode(vector: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes ``(n, D)`` uint8 and steps ``(n,)`` that come nearest to vectors ``(n, D)`` float32.

    One bit a feature keeps the signs alone: they have the step by which a vector's inner product with itself
    is right, and with others right on average (RaBitQ: Gao & Long, SIGMOD 2024, without the rotation).
    """
    most, zero = 2**bits - 1, (2**bits - 1) / 2
    largest = vector.abs().amax(dim=1, keepdim=True) if vector.shape[1] else vector.new_zeros(len(vector), 1)
    best_error = vector.new_full((len(vector), 1), torch.inf)
    codes = torch.zeros_like(vector, dtype=torch.uint8)
    step = torch.zeros_like(largest)
    vector = vector / torch.where(largest > 0, largest, 1.0)
    for share in SHRUNK if bits == 4 else SHRUNK[:1]:
        code = (vector / (share / zero) + zero).round_().clamp_(0, most)
        level = code - zero
        # the step that fits these codes best; never zero, since no level is
        square = (level * level).sum(dim=1, keepdim=True)
        fitted = (vector * level).sum(dim=1, keepdim=True) / square.clamp(min=1e-30)
        error = (vector - fitted * level).square().sum(dim=1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        step = torch.where(better, fitted, step)
        codes = torch.where(better, code.to(torch.uint8), codes)
    if bits == 1:
        own, coded = (
            (vector * vector).sum(dim=1, keepdim=True),
            (vector * (codes.float() - zero)).sum(1, True),
        )
        step = torch.where(coded > 0, own / coded, 0.0)
    return codes, (step * largest).squeeze(1)


def encode_widely(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Codes ``(n, D)`` int16 and steps ``(n,)`` of vectors ``(n, D)``, for inner products in int32."""
    if not vector.shape[1]:
        return vector.short(), vector.new_zeros(len(vector))
    largest = vector.abs().amax(dim=1, keepdim=True)
    part = vector / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(part, dim=1, keepdim=True)
    most = (LONGEST_CODE / torch.where(length > 0, length, 1.0)).clamp(max=32_767)
    codes = part.mul_(most).round_().nan_to_num_(0.0).short()
    return codes, (largest / most).squeeze(1)


def split(vector: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The part ``(n,)`` of vectors along the directions of their lists, and the rest ``(n, D)``."""
    if direction.shape[1] != vector.shape[1]:
        return vector.new_zeros(len(vector)), vector
    square = direction.double().square().sum(dim=1)  # the square of a large float32 is none
    along = ((vector.double() * direction).sum(dim=1) / torch.where(square > 0, square, 1.0)).float()
    return along, vector - along.unsqueeze(1) * direction


def codes_of(level: Level, entry: Tensor, features: int) -> Tensor:
    """Codes ``(..., D)`` of entries ``(...)``, as float32."""
    lines = level.codes[entry // LANES, :, entry % LANES]  # (..., G, 4)
    if level.bits == 16:
        return lines.contiguous().view(torch.int16).flatten(-2)[..., :features].float()
    most = (1 << level.bits) - 1
    parts = [lines >> at & most for at in range(0, 8, level.bits)]
    return torch.cat(parts, dim=-2).flatten(-2)[..., :features].float()


def lines_of(codes: Tensor, bits: int) -> Tensor:
    """Lay codes ``(n, D)`` uint8 or int16 out as the bytes ``(n, G, 4)`` that a panel holds of each entry."""
    if bits == 16:
        even = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2))
        return even.view(torch.uint8).view(len(codes), -1, GROUP)
    per_byte = 8 // bits
    groups = -(-codes.shape[1] // (GROUP * per_byte))
    padded = torch.nn.functional.pad(codes, (0, groups * GROUP * per_byte - codes.shape[1]))
    lines = padded.view(len(codes), per_byte, groups, GROUP)
    packed = lines[:, 0]
    for part in range(1, per_byte):
        packed = packed | (lines[:, part] << part * bits)
    return packed
