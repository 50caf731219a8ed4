"""The results of the plan's parts as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.distributed.plan.costs import CELLS, FILLED, MACHINES, NETWORK
from bench.distributed.plan.routing import RECALLS, needed


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def _milliseconds(spent: float) -> str:
    return f"{1e3 * spent:.3g}" if spent < 0.9995 else f"{1e3 * spent:,.0f}"


def _of_seeds(rows: Sequence[dict[str, Any]]) -> str:
    """The lowest and the highest recall for each limit of reads, in words."""
    parts = []
    for budget in dict.fromkeys(row["budget"] for row in rows):
        recalls = [row["recall"] for row in rows if row["budget"] == budget]
        parts.append(f"{min(recalls):.4f} to {max(recalls):.4f} within {budget:,} reads")
    return ", ".join(parts)


def _approximate(found: dict[str, Any]) -> str:
    usual = _table(
        ["structure", "ranks", "recall@10", "reads"],
        [
            [row["structure"], row["ranks"], f"{row['recall']:.4f}", f"{row['reads']:,.0f}"]
            for row in sorted(found["usual"], key=lambda row: row["structure"])
        ],
    )
    rows, shards = found["rows"], sorted({row["ranks"] for row in found["rows"]})
    chosen = []
    for structure, budget in dict.fromkeys((row["structure"], row["budget"]) for row in rows):
        line: list[object] = [structure, f"{budget:,}"]
        for ranks in shards:
            same = [row for row in rows if (row["structure"], row["budget"]) == (structure, budget)]
            cell = next((row for row in same if row["ranks"] == ranks), None)
            line.append(
                "–"
                if cell is None
                else f"{cell['recall']:.4f} ({cell['reads']:,.0f}; {cell['effort']}, {cell['rescore']})"
            )
        chosen.append(line)
    return "\n".join(
        [
            f"{found['cells']:,} generated keys of 128 features and {found['queries']:,} queries, over 1, 2 "
            "and 4 processes. Reads are those of all ranks. Clusters are shared by all ranks, and those to "
            "search are chosen once per query. Each rank has a hierarchy of its own.",
            "",
            "The default settings, with one cluster per 64 cells:",
            "",
            *usual,
            "",
            "The best setting within a limit of reads, for each number of ranks: chosen on one half of the "
            "queries, measured on the other. In brackets: reads; `num_probes` of clusters in two levels or "
            "`reach` of the hierarchy; and `rescore`, of all ranks together for clusters, and of each rank "
            "for hierarchies. A dash says that no setting stays within the limit.",
            "",
            *_table(
                ["structure", "reads at most", *(f"{n} ranks" if n > 1 else "1" for n in shards)], chosen
            ),
            "",
            "K-means depends on its seed, and on how cells are divided. One index with the same settings and "
            f"three other seeds finds {_of_seeds(found['seeds'])}.",
        ]
    )


def _costs(found: dict[str, Any]) -> str:
    link = found["link"]
    shards = [
        [
            f"{row['cells']:,}",
            *(
                _milliseconds(row[name][kind])
                for name in ("exact", "hierarchy")
                for kind in ("alone", "batched")
            ),
            f"{row['hierarchy']['reads']:,.0f}",
            f"{row['hierarchy']['build']:.0f}",
            f"{row['index_bytes']:.0f}",
        ]
        for row in found["shards"]
    ]
    together = [
        [
            row["structure"],
            row["ranks"],
            row["batch"],
            _milliseconds(row["measured"]),
            _milliseconds(row["model"]),
            f"{row['model'] / row['measured']:.2f}",
        ]
        for row in found["together"]
    ]
    carried = [
        [
            f"{row['cells']:.0e}".replace("1e+", "10^").replace("^0", "^").replace("^1", "^1"),
            f"{row['machines']:,}",
            f"{row['machines'] // row['ranks']} × {row['ranks']:,}",
            f"{row['bytes'] / 1e9:,.0f} GB",
            _milliseconds(row["alone"]),
            _milliseconds(row["alone_parts"]["messages"]),
            f"{row['per_second']:,.0f}",
        ]
        for row in found["carried"]
    ]
    largest = CELLS[-1] / MACHINES[0] / found["shards"][-1]["cells"]
    return "\n".join(
        [
            f"Shards are random parts of one memory of generated keys of {found['features']} features; the "
            f"hierarchy of each is tuned to find {found['recall']:.0%} of the {found['k']} best cells. "
            "Milliseconds per query, one asked alone or in batches of 64, by one thread:",
            "",
            *_table(
                [
                    *("cells", "exact, alone", "exact, of 64", "hierarchy, alone", "hierarchy, of 64"),
                    *("reads", "build, s", "index, bytes per cell"),
                ],
                shards,
            ),
            "",
            f"A swap of messages with the other ranks takes {1e6 * link['wait']:,.0f} µs of waiting, "
            f"{1e6 * link['swap']:,.0f} µs of the processor, and {1e6 * link['message']:,.0f} µs for each of "
            f"these ranks; a search has four swaps. Loopback carries {1 / link['byte'] / 1e9:.2f} GB/s. A "
            f"candidate is merged in {1e9 * found['candidate']:,.0f} ns, and a search over one rank takes "
            f"{1e6 * found['overhead']:,.0f} µs more than its index.",
            "",
            f"The model (`bench/distributed/plan/model.py`) beside searches over {found['together_cells']:,} "
            "cells by 1, 2 and 4 processes. The processes share 2 cores: with 4, each waits for another at "
            "every step, and the model counts its time on the processor twice.",
            "",
            *_table(["structure", "ranks", "queries", "measured, ms", "model, ms", "ratio"], together),
            "",
            f"The model with hierarchies, a core per machine and a network of {8 * NETWORK / 1e9:.0f} Gb/s. "
            "Machines form one memory, or several groups of 128 that hold the whole memory each. Memory is "
            "that of keys, values and index per machine; milliseconds are those of one query alone, and what "
            f"part of them are messages; queries per second come {FILLED:,} at a time. Shards are up to "
            f"{largest:,.0f} times as large as the largest that was measured.",
            "",
            *_table(
                [
                    "cells",
                    "machines",
                    "groups × shards",
                    "memory",
                    "query, ms",
                    "messages, ms",
                    "queries per s",
                ],
                carried,
            ),
        ]
    )


def _routing(found: dict[str, Any]) -> str:
    def rows_of(rows: list[dict[str, Any]]) -> list[list[object]]:
        lines = []
        for row in rows:
            counts = [needed(row, recall) for recall in RECALLS]
            first = [f"{row['recall'][count - 1]:.3f}" for count in (1, 2, 4)]
            asked = [f"{count} ({row['cells'][count - 1]:.0%})" for count in counts]
            lines.append([row["way"], row["shards"], f"{row['largest']:.2f}", *first, *asked])
        return lines

    head = ["shards filled", "shards", "largest", "m = 1", "m = 2", "m = 4"]
    head += [f"m for {recall:.0%}" for recall in RECALLS]
    return "\n".join(
        [
            f"{found['cells']:,} generated keys, {found['queries']:,} queries. A query goes to the m shards "
            "whose centroids, weighted by the lengths of their keys, have the largest inner products with "
            "it; each searches exactly. Recall@10 for some m, and the m that a recall takes, with the share "
            "of cells searched. `largest` is the largest shard by the mean.",
            "",
            *_table(head, rows_of(found["rows"])),
            "",
            "The same for keys that lie in no clusters, each in a direction of its own:",
            "",
            *_table(head, rows_of(found["unclustered"])),
        ]
    )


def _stragglers(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['shards']:,}",
            row["load"],
            *(f"{row[name][tail]:.1f}" for name in ("plain", "hedged", "budget") for tail in ("p50", "p99")),
        ]
        for row in found["rows"]
    ]
    return "\n".join(
        [
            "Simulated. Every query waits for the slowest shard; times are multiples of the mean service "
            f"time of a query ({found['service_milliseconds']:.2f} ms; p99 {found['service_p99']:.1f} times "
            f"the mean), as measured in the part `costs`. One request in {1 / found['pauses']:,.0f} pauses "
            f"for {found['length']:.0f} service times, which is assumed. Each shard has two replicas. "
            "Hedged: after the time in which 95% of answers come, the other replica is asked as well. "
            f"Budget: a shard does so for at most one request in {1 / found['budget']:.0f}. "
            f"{found['queries']:,} queries each. Simplified: queries come at "
            "random and one by one, services are independent, the "
            "network takes no time, and a request that is no longer needed is served all the same.",
            "",
            *_table(
                [
                    *("shards", "load", "p50", "p99"),
                    *("hedged: p50", "hedged: p99", "budget: p50", "budget: p99"),
                ],
                rows,
            ),
        ]
    )


TEXTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "approximate": ("Approximate search at equal reads", _approximate),
    "costs": ("The cost model", _costs),
    "routing": ("Asking some shards only", _routing),
    "stragglers": ("Stragglers", _stragglers),
}
"""Title of each part, and what makes its text."""
