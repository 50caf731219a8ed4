"""Exchange of rows between ranks, over torch.distributed; its errors name the rank that failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from operator import or_
from threading import Lock, Thread
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from hmn.errors import ConfigError, RankError

SHORTEST_WAIT = 0.1
"""Seconds that each rank is waited for where others have used up the time limit."""
MILLISECOND = 1e-3
"""Seconds by which gloo may wait too briefly, since it counts whole milliseconds."""
LONGEST_REASON = 2_000
"""Upper limit of the bytes of an error that a rank reports to the others."""
KIND_BITS = 32
"""Bits of the number that says in a header what rows are; a note comes above them."""
PULSES = 4
"""Number of times within the time limit that rank 0 says that it still works."""
PULSE = b"\0"
"""Message of rank 0 that it still works."""
RESULT = b"\1"
"""First byte of the message with what rank 0 has made."""
NOTHING = torch.empty(0, dtype=torch.uint8, device="cpu")
"""No bytes."""


class Ranks:
    """The processes that share a memory, and the exchange of rows between them.

    All ranks must call the same exchanges in the same order. Rows travel over gloo, through the CPU's memory.
    Make one per process and share it. Without ``torch.distributed`` there is one rank, and nothing is sent.

    Args:
        group: processes of ``torch.distributed``; all of them if not given.
        timeout: time limit in seconds of each exchange, waiting for slower ranks included. Allow for the
            longest build of an index.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes, W.
        bytes_sent: bytes that this rank has sent to others, headers included.
        noted: bits that any rank noted with the last exchange.

    Raises:
        ConfigError: the group lacks this process or has no gloo backend, or the time limit is not above 0.
    """

    def __init__(self, group: Any = None, *, timeout: float = 30.0) -> None:
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout < 1e6:
            raise ConfigError(f"timeout is {timeout!r}, expected a number of seconds above 0")
        self.timeout = float(timeout)
        self.rank, self.size, self._peers = 0, 1, [0]
        self.bytes_sent = self.noted = 0
        self._group = group
        self._broken: str | None = None
        self._reported: BaseException | None = None
        self._busy = Lock()
        if dist.is_available() and dist.is_initialized():
            if group is not None and dist.get_rank(group) < 0:
                raise ConfigError(
                    f"rank {dist.get_rank()} is not in the process group, expected a group of which it is "
                    "part: make Ranks only in the processes that new_group was given"
                )
            backend = str(dist.get_backend_config(group))
            if "gloo" not in backend:
                raise ConfigError(
                    f"the process group has the backend {backend}, expected gloo for tensors on the CPU: "
                    "call init_process_group('cpu:gloo,cuda:nccl')"
                )
            self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
            self._peers = [
                number if group is None else dist.get_global_rank(group, number)
                for number in range(self.size)
            ]

    @classmethod
    def join(cls, backend: str = "gloo", *, timeout: float = 30.0) -> Ranks:
        """Join the processes that ``torchrun`` has started; the only rank without it.

        It calls ``init_process_group``, if nobody has. Where ``torchrun --max-restarts`` starts the processes
        of one machine again, it keeps them from the addresses of those before, which its store still has.

        Args:
            backend: as for ``init_process_group``, with gloo for tensors on the CPU.
            timeout: as for ``Ranks``.
        """
        if "RANK" in os.environ and not dist.is_initialized():
            store, rank, size = next(rendezvous("env://"))
            if os.environ.get("LOCAL_WORLD_SIZE") == str(size):  # else each machine counts for itself
                restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
                store = dist.distributed_c10d.PrefixStore(f"hmn/restarts/{restarts}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        return cls(timeout=timeout)

    def exchange(
        self, rows: Tensor, counts: Sequence[int], step: str, *, note: int = 0
    ) -> tuple[Tensor, list[int]]:
        """Send each rank its rows, and receive the rows that each rank sends here.

        Args:
            rows: ``(n, ...)`` of any type, ordered by the rank that they go to.
            counts: number of rows for each rank.
            step: what the rows are, for messages. Ranks that are at different steps are refused.
            note: bits that all ranks see in ``noted`` afterwards, whatever rows they get.

        Returns:
            The rows received, ordered by the rank that they come from, and their number for each rank.

        Raises:
            RankError: a rank has failed, does not answer within the time limit, or is at another step; or
                another thread exchanges rows at the same time.
        """
        if not self._busy.acquire(blocking=False):
            self._give_up(
                f"rank {self.rank} of {self.size} exchanges {step} while another of its threads exchanges "
                "rows, expected one thread at a time: let one thread read, and start the ranks again"
            )
        try:
            return self._exchanged(rows, counts, step, note)
        finally:
            self._busy.release()

    def gather(self, rows: Tensor, step: str, *, note: int = 0) -> tuple[Tensor, list[int]]:
        """The rows ``(n, ...)`` of every rank, in the order of the ranks, and their number for each rank."""
        repeated = rows.repeat(self.size, *[1] * (rows.dim() - 1))
        return self.exchange(repeated, [len(rows)] * self.size, step, note=note)

    def tell(self, data: bytes, step: str) -> bytes:
        """What rank 0 gives, on every rank; what the others give is ignored."""
        rows = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data and not self.rank else NOTHING
        came, _ = self.exchange(rows.repeat(self.size), [len(rows)] * self.size, step)
        return came.numpy().tobytes()

    def report(self, data: bytes, step: str) -> list[bytes]:
        """What each rank gives, on rank 0; nothing on the others."""
        rows = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else NOTHING
        came, counts = self.exchange(rows, [len(rows), *[0] * (self.size - 1)], step)
        return [part.numpy().tobytes() for part in torch.split(came, counts)] if not self.rank else []

    def check_same(self, data: bytes, what: str) -> None:
        """Refuse data that is not the same on every rank.

        Raises:
            ConfigError: it is another one on some rank, on all of them.
        """
        checksum = torch.tensor([crc32(data)], device="cpu")
        every, _ = self.gather(checksum, f"checksum of {what}")
        differs = (every != every[0]).nonzero().flatten().tolist()
        if differs:
            raise ConfigError(
                f"{_names(differs)} of {self.size} and rank 0 differ in {what}, expected the same on every "
                "rank: give all of them the same files and settings"
            )

    def in_turns(self, work: Iterator[Any], step: str) -> None:
        """Run iterators of any lengths to their ends; each step may take as long as an exchange.

        So work of any length keeps to the time limit, and a rank that fails in it is noticed soon.
        """
        running = True
        while running:
            more = next(work, self) is not self
            flags, _ = self.gather(torch.tensor([more], device="cpu"), step)
            running = bool(flags.any())

    def from_first(self, work: Callable[[], bytes], step: str) -> bytes:
        """What ``work`` returns on rank 0, on every rank. It may take longer than the time limit.

        Meanwhile the other ranks hear from rank 0 now and then, so that they notice if it ends.

        Raises:
            RankError: another rank has failed; what rank 0's work raises, it raises there.
        """
        with self.together():
            done = None if self.rank else _begun(work)
            while True:
                sent = PULSE
                if done is not None:
                    wait((done,), self.timeout / PULSES)
                    sent = RESULT + done.result() if done.done() else PULSE
                rows = torch.frombuffer(bytearray(sent), dtype=torch.uint8)
                counts = [0 if self.rank else len(rows)] * self.size
                came, _ = self.exchange(rows[: counts[0]].repeat(self.size), counts, step)
                if int(came[0]) == RESULT[0]:
                    return came[1:].numpy().tobytes()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Report an error within the block to the other ranks, which raise a ``RankError`` with its text.

        The others receive it at their next exchange; after that, all ranks are in step again. Put it around a
        training step or a request, so that no rank waits for one whose own code has failed.
        """
        try:
            yield
        except RankError:
            raise
        except Exception as error:
            if error is not self._reported and self._broken is None:
                self._reported = error
                self._report(f"{type(error).__name__}: {error}")
            raise

    def _exchanged(
        self, rows: Tensor, counts: Sequence[int], step: str, note: int
    ) -> tuple[Tensor, list[int]]:
        """See ``exchange``."""
        deadline, kind = self._start(), crc32(f"{step} {rows.dtype} {tuple(rows.shape[1:])}".encode())
        headers = self._headers([(count, kind | note << KIND_BITS) for count in counts], deadline)
        self._refuse_failures([header[0] for header in headers], deadline)
        notes, kinds = zip(*(divmod(header[1], 1 << KIND_BITS) for header in headers), strict=True)
        astray = [number for number, other in enumerate(kinds) if other != kind]
        if astray:
            self._give_up(
                f"{_names(astray)} did not exchange {step} as rank {self.rank} does, expected the same calls "
                "with the same types and sizes on every rank, in the same order: start the ranks again"
            )
        self.noted = reduce(or_, notes)
        got = [header[0] for header in headers]
        parts = [part.contiguous() for part in torch.split(rows.detach().cpu(), list(counts))]
        places = [parts[0].new_empty((count, *rows.shape[1:])) for count in got]
        self._swap(parts, places, deadline, step)
        return torch.cat(places).to(rows.device), got

    def _start(self) -> float:
        """The time at which an exchange that starts now must have ended."""
        if self._broken is not None:
            raise RankError(f"{self._broken} (they are out of step since then)")
        return time.monotonic() + self.timeout

    def _headers(self, own: list[tuple[int, int]], deadline: float) -> list[list[int]]:
        """Swap 16 bytes with each rank before the rows: their number, and a checksum of what they are."""
        places = [torch.empty(2, dtype=torch.int64, device="cpu") for _ in own]
        parts = [torch.tensor(header, dtype=torch.int64, device="cpu") for header in own]
        self._swap(parts, places, deadline, "sizes")
        return [place.tolist() for place in places]

    def _report(self, reason: str) -> None:
        """Tell the other ranks, at their next exchange, that this one has failed."""
        text = torch.frombuffer(bytearray(reason.encode()[:LONGEST_REASON]), dtype=torch.uint8)
        deadline = time.monotonic() + self.timeout
        try:
            headers = self._headers([(-len(text), 0)] * self.size, deadline)
            self._swap_reasons([text] * self.size, [header[0] for header in headers], deadline)
        except RankError:
            return  # the error of this rank says more

    def _refuse_failures(self, counts: list[int], deadline: float) -> None:
        """Raise what other ranks report: negative counts are the lengths of their reasons."""
        failed = [number for number, count in enumerate(counts) if count < 0]
        if not failed:
            return
        reasons = self._swap_reasons([NOTHING] * self.size, counts, deadline)
        raise RankError(f"rank {failed[0]} of {self.size} has failed: {reasons[failed[0]]}")

    def _swap_reasons(self, parts: list[Tensor], counts: list[int], deadline: float) -> list[str]:
        places = [torch.empty(max(0, -count), dtype=torch.uint8, device="cpu") for count in counts]
        self._swap(parts, places, deadline, "errors")
        return [bytes(place.tolist()).decode(errors="replace") for place in places]

    def _swap(self, parts: list[Tensor], places: list[Tensor], deadline: float, step: str) -> None:
        """Send each rank its part and fill each place from its rank; both sides know the sizes."""
        # one message per pair, so that the one that fails says which rank it is
        if parts[self.rank].shape == places[self.rank].shape:  # those of errors go to others alone
            places[self.rank].copy_(parts[self.rank])
        others = [number for number in range(self.size) if number != self.rank]
        failed: list[int] = []
        waiting: list[tuple[int, Any]] = []
        for number in others:
            try:
                if places[number].numel():
                    waiting.append((number, dist.irecv(places[number], self._peers[number], self._group)))
                if parts[number].numel():
                    waiting.append((number, dist.isend(parts[number], self._peers[number], self._group)))
                    self.bytes_sent += parts[number].numel() * parts[number].element_size()
            except RuntimeError:
                failed.append(number)
        for number, work in waiting:
            left = deadline - time.monotonic() + MILLISECOND
            left = SHORTEST_WAIT if failed else max(SHORTEST_WAIT, left)
            try:
                work.wait(timedelta(seconds=left))
            except RuntimeError:
                failed.append(number)
        if failed:
            late = time.monotonic() >= deadline
            what = (
                f"does not answer within {self.timeout:g} s" if late else "has ended or lost its connection"
            )
            number = failed[0] if late else self._blamed(failed[0])
            advice = ", with a longer timeout if it was only slow" if late else ""
            self._give_up(
                f"rank {number} of {self.size} {what} (exchange of {step}): start the ranks again{advice}"
            )

    def _blamed(self, number: int) -> int:
        """The rank that was noticed first to have failed, by any of them: those who notice it end as well."""
        key = f"hmn/failed/{crc32(repr(self._peers).encode())}"
        try:
            return int(dist.distributed_c10d._get_default_store().compare_set(key, "", str(number)))
        except Exception:  # the rank that kept the store may be the one that has ended
            return number

    def _give_up(self, reason: str) -> None:
        self._broken = reason
        raise RankError(reason)


def checked_ranks(ranks: Ranks | None) -> Ranks:
    """The ranks that a setting names: all of ``torch.distributed`` if it is None.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(ranks, Ranks | None):
        raise ConfigError(
            f"ranks is {type(ranks).__name__}, expected hmn.distributed.Ranks: make them with Ranks.join()"
        )
    return Ranks() if ranks is None else ranks


def _names(numbers: list[int]) -> str:
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _begun(work: Callable[[], bytes]) -> Future[bytes]:
    """What some work will have made, in a thread that ends with the process."""
    done: Future[bytes] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="hmn-from-first", daemon=True).start()
    return done
