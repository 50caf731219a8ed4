"""Starts sooner: files are read ahead, and nothing looks for garbage while PyTorch and a model come in."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

LIBRARIES = ("libtorch_cpu.so", "libtorch_python.so", "libc10.so")
"""Names of the large files that importing PyTorch reads."""


@contextmanager
def starting(*folders: Path) -> Iterator[None]:
    """Import PyTorch and load a model within the block: it takes two thirds of the time.

    What is there afterwards counts as needed until the process ends, so Python's search for garbage passes
    over it, at the very end of the process too. For commands, not for a library's user.

    Args:
        folders: Folders whose files will be read.
    """
    was_on = gc.isenabled()
    gc.disable()
    # large tensors then take few large pages, where the system has them: each page takes time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # PyTorch then does not look through all installed packages for devices of other makers
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    Thread(target=_read_ahead, args=(folders,), daemon=True).start()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _read_ahead(folders: tuple[Path, ...]) -> None:
    """Let the system read files that are not in memory yet, PyTorch's own first."""
    if not hasattr(os, "posix_fadvise"):  # such as on macOS
        return
    files: list[Path] = []
    with suppress(ImportError, ValueError, OSError):
        torch = find_spec("torch")
        places = torch.submodule_search_locations if torch else None
        files = [Path(place) / "lib" / name for place in places or () for name in LIBRARIES]
        for folder in folders:
            files += sorted(folder.iterdir())
    for file in files:
        # a file that is not there, or a folder, is somebody else's to report
        with suppress(OSError), file.open("rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
