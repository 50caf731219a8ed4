"""Short codes of directions: 4 bits for each of a few parts of the features (product quantisation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hmn._native.lists import CENTROIDS
from hmn.errors import ConfigError
from hmn.index.storage.saved import ANY, Saved, refuse

PARTS = (8, 16, 24, 32)
"""Numbers of parts that a code may have."""
SAMPLE = 1 << 14
"""Vectors that codes are fitted to, at most."""
ROUNDS = 6
"""Rounds of assignment and averaging in the k-means of the parts."""
CLEARLY = 0.97
"""Upper limit of what a rotation leaves unexplained, relative to natural features, for it to be chosen.

A query is turned once per search, which costs more than taking its features in another order."""
LEAST_SHARE = 0.05
"""Lower limit of a decoded vector's inner product with its own direction, which the factor is divided by."""
ENCODED_AT_A_TIME = 1 << 14
"""Vectors encoded at a time."""


@dataclass
class ShortCodes:
    """Codes of n parts with 16 centroids each (Jégou et al. 2011, with 4 bits as in André et al. 2015).

    A vector's places are its features in some order, or its coordinates in a rotated basis; part j has the
    places ``j * w`` to ``(j + 1) * w - 1``.

    Attributes:
        centroid: ``(n, w, 16)`` float32; zeros at places that hold nothing.
        order: ``(n * w,)`` int32 feature at each place, -1 for none; None if there is a rotation.
        rotation: ``(n * w, D)`` float32 direction of each place, zeros for none; None if there is an order.
    """

    centroid: Tensor
    order: Tensor | None = None
    rotation: Tensor | None = None

    @property
    def parts(self) -> int:
        """n."""
        return len(self.centroid)

    @classmethod
    def fit(cls, unit_rest: Tensor, parts: int, generator: torch.Generator) -> ShortCodes:
        """Fit codes of 8, 16, 24 or 32 parts to unit vectors ``(s, D)``, of which zeros are left out.

        Raises:
            ConfigError: another number of parts.
        """
        if parts not in PARTS:
            raise ConfigError(f"parts is {parts}, expected 8, 16, 24 or 32: choose one of these")
        sample = torch.randperm(len(unit_rest), generator=generator, device=generator.device)[:SAMPLE]
        points = unit_rest[sample.to(unit_rest.device)].float()  # (s, D)
        points = points[points.square().sum(dim=1) > 0]
        square, axis = torch.linalg.eigh(points.T @ points)
        plain, left = cls._fitted(points, parts, generator, order=_dealt(points.square().sum(dim=0), parts))
        rotation = _rows(axis.T, _dealt(square, parts))
        turned, less = cls._fitted(points, parts, generator, rotation=rotation)
        return turned if less < CLEARLY * left else plain

    def parts_of(self, vector: Tensor) -> Tensor:
        """The places ``(m, n, w)`` of vectors ``(m, D)`` float32."""
        if self.rotation is not None:
            placed = vector @ self.rotation.T
        else:
            assert self.order is not None
            placed = _rows(vector.T, self.order).T
        return placed.reshape(len(vector), *self.centroid.shape[:2])

    def encode(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``(m, n)`` uint8 and factors ``(m,)`` float32 of vectors ``(m, D)`` float32.

        The factor times what the code stands for has the right inner product with the vector itself.
        """
        length = torch.linalg.vector_norm(rest, dim=1)  # (m,)
        code, share = self._nearest(rest / length.clamp(min=1e-30).unsqueeze(1))
        return code, length / share.clamp(min=LEAST_SHARE)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors ``(m, D)`` that codes ``(m, n)`` uint8 stand for, without their factors."""
        part = torch.arange(self.parts, device=codes.device)
        placed = self.centroid.transpose(1, 2)[part, codes.long()].flatten(1)  # (m, n * w)
        if self.rotation is not None:
            return placed @ self.rotation
        assert self.order is not None
        features = int(self.order.max()) + 1
        index = torch.where(self.order >= 0, self.order, features).long()
        return placed.new_zeros(len(codes), features + 1).index_copy_(1, index, placed)[:, :features]

    def tables(self, query: Tensor) -> Tensor:
        """Products ``(B, n, 16)`` of the parts of queries ``(B, D)`` float32 with all centroids."""
        return torch.einsum("bnw,nwc->bnc", self.parts_of(query), self.centroid)

    def state_dict(self, prefix: str) -> dict[str, Tensor]:
        """The tensors, by name."""
        if self.rotation is not None:
            return {f"{prefix}centroid": self.centroid, f"{prefix}rotation": self.rotation}
        assert self.order is not None
        return {f"{prefix}centroid": self.centroid, f"{prefix}order": self.order}

    @classmethod
    def from_state(cls, saved: Saved, prefix: str, features: int) -> ShortCodes:
        """Codes as they were when ``state_dict`` was called.

        Raises:
            ShapeError: a tensor is missing or does not fit.
        """
        centroid = saved.floats(f"{prefix}centroid", (ANY, ANY, CENTROIDS))
        if len(centroid) not in PARTS or not centroid.shape[1]:
            refuse(f"{prefix}centroid", f"{tuple(centroid.shape)}", "8, 16, 24 or 32 parts with features")
        places = centroid.shape[0] * centroid.shape[1]
        if f"{prefix}rotation" in saved:
            return cls(centroid, rotation=saved.floats(f"{prefix}rotation", (places, features)))
        order = saved.whole(f"{prefix}order", (places,), -1, features, torch.int32)
        held = order[order >= 0].sort().values
        if not torch.equal(held, torch.arange(features, dtype=torch.int32, device=order.device)):
            refuse(f"{prefix}order", f"{len(held)} features", f"each of 0 to {features - 1} once")
        return cls(centroid, order=order)

    def _nearest(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Codes ``(m, n)`` uint8 of vectors ``(m, D)``, and products ``(m,)`` with what they stand for."""
        half = self.centroid.square().sum(dim=1, keepdim=True) / 2  # (n, 1, 16)
        codes, shares = [], []
        for part in torch.split(unit, ENCODED_AT_A_TIME):
            product = torch.bmm(self.parts_of(part).transpose(0, 1), self.centroid)  # (n, m, 16)
            code = (product - half).argmax(dim=2, keepdim=True)  # (n, m, 1)
            shares.append(product.gather(2, code).squeeze(2).sum(dim=0))
            codes.append(code.squeeze(2).T.to(torch.uint8))
        return torch.cat(codes), torch.cat(shares)

    @classmethod
    def _fitted(
        cls,
        points: Tensor,
        parts: int,
        generator: torch.Generator,
        order: Tensor | None = None,
        rotation: Tensor | None = None,
    ) -> tuple[ShortCodes, float]:
        """Codes of points ``(s, D)``, and the squared length that they leave unexplained."""
        places = len(order if order is not None else rotation if rotation is not None else ())
        codes = cls(points.new_zeros(parts, places // parts, CENTROIDS), order=order, rotation=rotation)
        placed = codes.parts_of(points).transpose(0, 1).contiguous()  # (n, s, w)
        codes.centroid, left = _centroids(placed, codes.centroid, generator)
        return codes, left


def _centroids(points: Tensor, centroid: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Centroids ``(n, w, 16)`` of points ``(n, s, w)`` of n parts, by k-means in each; see ``_fitted``."""
    count, width = points.shape[1:]
    if not count:
        return centroid, 0.0
    drawn = torch.randint(count, (len(points), CENTROIDS, 1), generator=generator, device=generator.device)
    centroid = points.gather(1, drawn.to(points.device).expand(-1, -1, width)).transpose(1, 2)
    left = 0.0
    for _ in range(ROUNDS):
        half = centroid.square().sum(dim=1, keepdim=True) / 2  # (n, 1, 16)
        gain, code = (torch.bmm(points, centroid) - half).max(dim=2, keepdim=True)  # (n, s, 1)
        left = float(points.square().sum() - 2 * gain.sum())
        total = points.new_zeros(len(points), CENTROIDS, width)
        total.scatter_add_(1, code.expand(-1, -1, width), points)
        size = points.new_zeros(len(points), CENTROIDS, 1).scatter_add_(1, code, torch.ones_like(gain))
        mean = torch.where(size > 0, total / size.clamp(min=1), centroid.transpose(1, 2))
        centroid = mean.transpose(1, 2).contiguous()
    return centroid, left


def _rows(rows: Tensor, numbers: Tensor) -> Tensor:
    """Rows ``(m, ...)`` of these numbers ``(m,)``; -1 gives zeros."""
    return F.pad(rows, (0, 0, 0, 1))[numbers]


def _dealt(square: Tensor, parts: int) -> Tensor:
    """Deal coordinates of mean squares ``(D,)`` to parts, so that each part has about the same sum.

    Returns:
        ``(parts * w,)`` int32 coordinate of each place, -1 for none.
    """
    features = len(square)
    most = -(-features // parts)
    held: list[list[int]] = [[] for _ in range(parts)]
    total = [0.0] * parts
    for feature in square.argsort(descending=True, stable=True).tolist():
        part = min((p for p in range(parts) if len(held[p]) < most), key=lambda p: (total[p], len(held[p])))
        held[part].append(feature)
        total[part] += float(square[feature])
    width = max(1, *map(len, held))
    places = [sorted(own) + [-1] * (width - len(own)) for own in held]
    return torch.tensor(places, dtype=torch.int32, device=square.device).flatten()
