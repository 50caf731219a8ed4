"""The results of serving as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.machine import described

KILLS, ACKNOWLEDGED = 200, 100_000
"""Kills, and facts that are acknowledged before them."""
Row = tuple[str, str, str]
"""Row of the table: the name of a figure, what was found, and what it should be."""


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Serving: what is promised, and how fast it is",
        "",
        "`make bench-serve` (`python -m bench.serve`; single parts with `--only`). Models: one of about "
        f"{results['settings']['small_facts']:,} facts of the demo's world for the kills, one of "
        f"SimpleQuestions for all else. {results['settings']['threads']} thread of PyTorch, in the server "
        "and in process. Server and clients share the machine. Seeds are fixed.",
        "",
        "| | measured | to reach |",
        "|---|---|---|",
        *(f"| {what} | {found} | {goal} |" for what, found, goal in _rows(results)),
        "",
    ]
    for part, text in TEXTS.items():
        if part in results:
            lines += [f"## {text[0]}", "", described(results[part]["machine"]), ""]
            lines += [text[1](results[part]), ""]
    return "\n".join(lines)


def _rows(results: dict[str, Any]) -> Iterator[Row]:
    """The rows of the table, of the parts that there are."""
    for part, rows in (
        ("kills", _kills),
        ("readers", _readers),
        ("writes", _writes),
        ("load", _load),
        ("slow", _slow),
    ):
        if part in results:
            yield from rows(results[part])


def _kills(found: dict[str, Any]) -> Iterator[Row]:
    yield "`kill -9` while clients write", f"{found['kills']:,}", f"{KILLS}"
    yield (
        "acknowledged before a kill: facts (requests)",
        f"{found['facts']:,} ({found['requests']:,})",
        f"{ACKNOWLEDGED:,}",
    )
    yield "acknowledged facts that are lost", f"{found['lost']:,}", "0"
    yield "writes that are half applied", f"{found['half']:,}", "0"
    yield (
        "answers that differ from a model built from the table",
        f"{found['wrong']:,} of {found['questions']:,}",
        "0",
    )


def _readers(found: dict[str, Any]) -> Iterator[Row]:
    quiet, busy = (found["latency"][name]["p99"] for name in ("without writes", "with writes"))
    yield (
        f"{found['readers']} readers and a writer: responses that are not of their version's table",
        f"{found['wrong']:,} of {found['responses']:,}",
        "0",
    )
    yield "readers' p99 with writes, by that without", f"{busy / quiet:.2f}", "2"
    yield "a second server on the folder", "refused with the process id", "the same"


def _writes(found: dict[str, Any]) -> Iterator[Row]:
    one = found["batches"][0]
    yield (
        f"acknowledged facts per second, batches of {found['batch']}, one client",
        f"{one['facts_per_second']:,}",
        "2,000",
    )
    yield "p50 of a write of one fact", f"{found['single']['p50']:.1f} ms", "5 ms"
    yield "p50 of a bare commit of SQLite, `synchronous=FULL`", f"{found['bare']['p50']:.1f} ms", "–"
    yield (
        f"start with {found['facts'] + found['singles']:,} facts in the journal",
        f"{max(found['restart_seconds']):.1f} s",
        "10 s",
    )


def _load(found: dict[str, Any]) -> Iterator[Row]:
    share = found["per_second"] / found["ask_all_per_second"]
    yield (
        f"questions per second, {found['connections']} connections, as a share of `ask_all`",
        f"{found['per_second']:.0f} of {found['ask_all_per_second']:.0f}: {share:.2f}",
        "0.5",
    )
    share = found["per_second"] / found["ask_few_per_second"]
    yield (
        f"the same, as a share of `ask_all` with {found['connections']} questions per call",
        f"{found['per_second']:.0f} of {found['ask_few_per_second']:.0f}: {share:.2f}",
        "–",
    )
    yield (
        "p50 of a single question, more than `qa.ask`",
        f"{found['single']['p50'] - found['ask']['p50']:.1f} ms ({found['single']['p50']:.1f} ms)",
        "5 ms",
    )
    yield "start of the server until it is ready", f"{max(found['start_seconds']):.1f} s", "5 s"


def _slow(found: dict[str, Any]) -> Iterator[Row]:
    alone, beside = found["alone"], found["beside"]
    share = beside["p99"] / alone["p99"]
    yield f"healthy p99 beside {found['slow']} slow clients, by that without", f"{share:.2f}", "2"
    yield "memory that they take", f"{beside['mb'] - alone['mb']:.1f} MB", "50 MB"


def _kills_text(found: dict[str, Any]) -> str:
    return (
        f"{found['writers']} clients add, replace and remove facts at the same time, one by one and in "
        "batches, of new subjects and of the model's own. The server is killed "
        f"{found['least_milliseconds']:.0f} to {found['most_milliseconds']:.0f} ms after the first write and "
        "started again on the same folder, time after time. Then all facts are listed and compared with a "
        "set in Python that took the acknowledged writes; of the writes in flight "
        f"({found['in_flight']:,}), {found['applied']:,} were there, wholly, and were recognised by their "
        "idempotency keys. Questions are answered as by a model that is loaded from the bundle and given the "
        f"table in one go. In the end the table has {found['table']:,} facts; the slowest start took "
        f"{found['most_start_seconds']:.1f} s."
    )


def _readers_text(found: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {row['questions']:,} | {row['p50']:.1f} | {row['p99']:.1f} |"
        for name, row in found["latency"].items()
    ]
    return "\n".join(
        [
            f"{found['readers']} clients ask and list without a pause for {found['seconds']:g} s, then for "
            f"as long while another writes {found['writes']:,} times ({found['written_facts']:,} facts, p50 "
            f"{found['write_p50']:.1f} ms). Every response names its version; it is compared with that "
            "table, and with a model that took the same writes up to it, one by one "
            f"({found['versions_seen']:,} versions were seen). A second server ends with: "
            f"`{found['second_server']}`",
            "",
            "| | questions | p50, ms | p99, ms |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _writes_text(found: dict[str, Any]) -> str:
    rows = [
        f"| batches of {found['batch']}, {row['clients']} clients | {row['facts_per_second']:,} "
        f"| {row['p50']:.1f} | {row['p99']:.1f} |"
        for row in found["batches"]
    ]
    one, bare = found["single"], found["bare"]
    starts = ", ".join(f"{seconds:.1f} s" for seconds in found["restart_seconds"])
    return "\n".join(
        [
            "| | facts per second | p50, ms | p99, ms |",
            "|---|---|---|---|",
            f"| one fact, one client | – | {one['p50']:.1f} | {one['p99']:.1f} |",
            f"| a bare commit | – | {bare['p50']:.1f} | {bare['p99']:.1f} |",
            *rows,
            "",
            f"Then the server is killed and started again, with {found['writes']:,} writes in its journal "
            f"and {found['table']:,} facts in its table: {starts} until it is ready.",
        ]
    )


def _load_text(found: dict[str, Any]) -> str:
    rows = [
        f"| {row['per_second']:.0f} | {row['p50']:.1f} | {row['p99']:.1f} | {row['ask_all']:.0f} "
        f"| {row['ask_few']:.0f} |"
        for row in found["rounds"]
    ]
    starts = ", ".join(f"{seconds:.1f} s" for seconds in found["start_seconds"])
    return "\n".join(
        [
            f"wrk with {found['connections']} connections and one question per request; `ask_all` gets "
            "a thousand at once, then as many as there are connections, in this process, while the server "
            "has nothing to do.",
            "",
            "| over HTTP, per second | p50, ms | p99, ms | `ask_all`, per second | few, per second |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"One question at a time, by turns: p50 {found['single']['p50']:.1f} ms over HTTP and "
            f"{found['ask']['p50']:.1f} ms by `qa.ask`; p99 {found['single']['p99']:.1f} and "
            f"{found['ask']['p99']:.1f} ms. Starts: {starts}.",
        ]
    )


def _slow_text(found: dict[str, Any]) -> str:
    alone, beside = found["alone"], found["beside"]
    return (
        f"{found['slow']} connections send a byte per second, half of them in the head of a request and "
        f"half in its body; the server closes them, and they come again ({found['opened']:,} were opened). "
        f"{found['healthy']} other clients ask: p50 {alone['p50']:.1f} ms and p99 {alone['p99']:.1f} ms "
        f"alone, {beside['p50']:.1f} and {beside['p99']:.1f} ms beside them, for {found['seconds']:g} s "
        f"each. The server has {alone['mb']:.0f} MB at most alone, and {beside['mb']:.0f} MB."
    )


TEXTS = {
    "kills": ("Kills", _kills_text),
    "readers": ("Readers and a writer", _readers_text),
    "writes": ("Writes", _writes_text),
    "load": ("Load", _load_text),
    "slow": ("Slow clients", _slow_text),
}
"""Title and text of each part."""
