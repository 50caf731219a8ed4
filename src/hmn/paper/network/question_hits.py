"""Records of the questions that a run got right, kept small; rows are compared question by question."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

STEPS = 240
"""Steps per unit in which shares are kept; exact for ties of up to six, and of eight, ten and twelve."""


def packed(share: NDArray[np.float64]) -> str:
    """Shares ``(Q,)``, from 0 to 1, to which each question was right, as text for JSON."""
    return base64.b64encode(zlib.compress(np.round(share * STEPS).astype(np.uint8).tobytes(), 9)).decode()


def unpacked(text: str) -> NDArray[np.float64]:
    """The shares ``(Q,)`` that ``packed`` was given, to the nearest step."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8) / STEPS
