"""Short codes of vectors, in PyTorch; ``kernels/encode.cpp`` computes the same."""

from __future__ import annotations

import torch
from torch import Tensor

from hmn._native.level import GROUP, LANES, Level

SHRUNK = (1.0, 0.85, 0.7)
"""Ratios tried of the largest representable coordinate to the vector's largest; the closest code is kept."""
LONGEST_CODE = 46_000
"""Length of a vector in 16-bit codes, so that the product of two, rounding included, stays below 2^31."""


def write_entries(
    level: Level, slot: Tensor, vectors: Tensor, rows: Tensor, lists: Tensor, direction: Tensor
) -> None:
    """See ``hmn._native.lists.write_entries``."""
    along, rest = split(vectors[rows].float(), direction[lists])  # (n,), (n, D)
    codes, step = encode_16_bits(rest) if level.bits == 16 else encode(rest, level.bits)
    level.along[slot], level.step[slot] = along, step
    level.codes[slot // LANES, :, slot % LANES] = pack(codes, level.bits)  # (n, G, 4)


def encode(vector: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes ``(n, D)`` uint8 and steps ``(n,)`` that come nearest to vectors ``(n, D)`` float32.

    Codes of one bit keep the signs alone. Their step makes a vector's inner product with itself exact, and
    those with other vectors right on average (RaBitQ: Gao & Long, SIGMOD 2024, without the rotation).
    """
    # 1. scale each vector to a largest coordinate of 1
    # 2. round it to codes at several scales, each with the step that fits best, and keep the closest
    # 3. with one bit, replace the step by RaBitQ's
    top, zero = 2**bits - 1, (2**bits - 1) / 2
    largest = vector.abs().amax(dim=1, keepdim=True) if vector.shape[1] else vector.new_zeros(len(vector), 1)
    best_error = vector.new_full((len(vector), 1), torch.inf)
    codes = torch.zeros_like(vector, dtype=torch.uint8)
    step = torch.zeros_like(largest)  # (n, 1)
    vector = vector / torch.where(largest > 0, largest, 1.0)
    for share in SHRUNK if bits == 4 else SHRUNK[:1]:
        code = (vector / (share / zero) + zero).round_().clamp_(0, top)  # (n, D)
        level = code - zero
        # least squares; the divisor is positive, since zero lies between two codes
        square = (level * level).sum(dim=1, keepdim=True)
        fitted = (vector * level).sum(dim=1, keepdim=True) / square.clamp(min=1e-30)  # (n, 1)
        error = (vector - fitted * level).square().sum(dim=1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        step = torch.where(better, fitted, step)
        codes = torch.where(better, code.to(torch.uint8), codes)
    if bits == 1:
        own = (vector * vector).sum(dim=1, keepdim=True)
        coded = (vector * (codes.float() - zero)).sum(dim=1, keepdim=True)
        step = torch.where(coded > 0, own / coded, 0.0)
    return codes, (step * largest).squeeze(1)


def encode_16_bits(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Codes ``(n, D)`` int16 and steps ``(n,)`` of vectors ``(n, D)``; inner products of codes fit int32."""
    if not vector.shape[1]:
        return vector.short(), vector.new_zeros(len(vector))
    largest = vector.abs().amax(dim=1, keepdim=True)  # (n, 1)
    scaled = vector / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    top = (LONGEST_CODE / torch.where(length > 0, length, 1.0)).clamp(max=32_767)
    codes = scaled.mul_(top).round_().nan_to_num_(0.0).short()
    return codes, (largest / top).squeeze(1)


def split(vector: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficient ``(n,)`` of each vector along the direction of its list, and the remainder ``(n, D)``."""
    if direction.shape[1] != vector.shape[1]:
        return vector.new_zeros(len(vector)), vector
    square = direction.double().square().sum(dim=1)  # in float32, the square of a large number overflows
    along = ((vector.double() * direction).sum(dim=1) / torch.where(square > 0, square, 1.0)).float()
    return along, vector - along.unsqueeze(1) * direction


def codes_of(level: Level, slot: Tensor, features: int) -> Tensor:
    """Codes ``(..., D)`` of the entries at slots ``(...)``, as float32."""
    packed = level.codes[slot // LANES, :, slot % LANES]  # (..., G, 4)
    if level.bits == 16:
        return packed.contiguous().view(torch.int16).flatten(-2)[..., :features].float()
    mask = (1 << level.bits) - 1
    parts = [packed >> shift & mask for shift in range(0, 8, level.bits)]
    return torch.cat(parts, dim=-2).flatten(-2)[..., :features].float()


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes ``(n, D)`` uint8 or int16 into the bytes ``(n, G, 4)`` that a panel holds per entry."""
    if bits == 16:
        even = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2))
        return even.view(torch.uint8).view(len(codes), -1, GROUP)
    per_byte = 8 // bits
    groups = -(-codes.shape[1] // (GROUP * per_byte))
    padded = torch.nn.functional.pad(codes, (0, groups * GROUP * per_byte - codes.shape[1]))
    parts = padded.view(len(codes), per_byte, groups, GROUP)  # (n, per_byte, G, 4)
    packed = parts[:, 0]
    for number in range(1, per_byte):
        packed = packed | (parts[:, number] << number * bits)
    return packed
