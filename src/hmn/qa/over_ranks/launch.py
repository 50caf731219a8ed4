"""Commands that ``torchrun`` starts in several processes: rank 0 speaks, the others work along."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from hmn.errors import ConfigError

if TYPE_CHECKING:
    from hmn.distributed.collectives import Ranks

SIZE = "WORLD_SIZE"
"""Variable in which ``torchrun`` says how many processes there are."""
STDIN = "-"
"""Name that stands for standard input in place of a file."""
MORE = b"+"
"""First byte of a text that rank 0 sends; nothing is sent after the last one."""


@contextmanager
def joined() -> Iterator[Ranks | None]:
    """The processes that ``torchrun`` has started; None if this is the only one.

    Within the block all but rank 0 print nothing. An error in one of them reaches the others.
    """
    if os.environ.get(SIZE, "1") == "1" or "RANK" not in os.environ:
        yield None
        return
    from torch.distributed import destroy_process_group

    from hmn.distributed.collectives import Ranks

    ranks = Ranks.join()
    with ExitStack() as stack:
        if ranks.rank:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        with ranks.together():
            yield ranks
    destroy_process_group()


def check_files(ranks: Ranks | None, files: Mapping[str, str | None]) -> None:
    """Refuse standard input in place of a file: of several processes, each would get a part of it.

    Args:
        ranks: the processes; None if this is the only one.
        files: names of files, or several with commas between, by the flags that give them.
    """
    for flag, names in files.items():
        if ranks is not None and STDIN in (names or "").split(","):
            raise ConfigError(
                f"--{flag} is {STDIN}, standard input, expected a file over several ranks, which each reads "
                "for itself: write it to a file"
            )


def same_texts(texts: Iterable[str], ranks: Ranks | None) -> Iterator[str]:
    """The texts that rank 0 has, on every rank, as they come. Those of other ranks are not looked at."""
    if ranks is None:
        yield from texts
        return
    source = iter(texts)

    def following() -> bytes:
        text = next(source, None)
        return b"" if text is None else MORE + text.encode("utf-8", "surrogatepass")

    while sent := ranks.from_first(following, "a question"):
        yield sent[1:].decode("utf-8", "surrogatepass")


def unbuffered_lines() -> Iterator[str]:
    """Lines of standard input. A thread that waits for one does not keep the process from ending.

    One that waits in ``sys.stdin`` holds a lock of it, without which Python ends by a fatal error.
    """
    rest = b""
    while piece := os.read(sys.stdin.fileno(), 1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(sys.stdin.encoding, sys.stdin.errors or "strict")
    if rest:
        yield rest.decode(sys.stdin.encoding, sys.stdin.errors or "strict")
