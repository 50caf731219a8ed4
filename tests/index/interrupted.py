"""Breaks off a call at its n-th line, as Ctrl-C or a lack of memory would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import hmn

HERE = hmn.__file__.removesuffix("__init__.py")
"""Folder of the package; lines elsewhere are not counted."""
LOCK = f"{HERE}index/locking.py"
"""Not counted either: a line that lets go of the lock is one step for Ctrl-C, but not for a tracer."""


class Broken(BaseException):
    """What the call is broken off with."""


def broken_off(call: Callable[[], object], line: int) -> str:
    """Run a call until its n-th line in the package, and raise ``Broken`` there.

    Returns:
        The place, as ``module:line``; empty if the call was done before.
    """
    left, place = line, ""

    def local(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, place
        if event == "line":
            left -= 1
            if left == 0:
                place = f"{frame.f_code.co_filename.removeprefix(HERE)}:{frame.f_lineno}"
                sys.settrace(None)
                raise Broken
        return local if left > 0 else None

    def each(frame: FrameType, *_: object) -> Any:
        name = frame.f_code.co_filename
        return local if left > 0 and name.startswith(HERE) and name != LOCK else None

    before = sys.gettrace()
    sys.settrace(each)
    try:
        call()
    except Broken:
        assert place
    finally:
        sys.settrace(before)
    return place
