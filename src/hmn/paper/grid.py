"""The rows of the tables, as data: which experiment, with which settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hmn.errors import ConfigError
from hmn.paper.preset import Preset

SOFTMAX, KMIPS, HARD, KEYWORDS = "softmax", "kmips", "hard", "keywords"
BM25, SENTENCES = "bm25", "sentences"
SENTENCES_IN_BATCH, SENTENCES_KMIPS = "sentences, in-batch", "sentences, kmips"
TRANSE, SUMMED, TEXT = "transe", "transe summed", "text"

CLUSTERS = "cluster:codes=none,reduction=paper,num_clusters={many}"
FEW_CLUSTERS = "cluster:codes=none,reduction=paper,num_clusters={few}"
TWO_LEVELS = "cluster:codes=none,reduction=paper,num_clusters={wide}x{many}"
# buckets must hold more cells than are to be read: how many of these are scored is what is tuned
WTA_HASH = "wta-hash:num_tables=16,num_permutations=2,prefix={prefix}"
PCA_TREE = "pca-tree:leaf_size=32"
OUR_CLUSTERS = "cluster"
"""Clusters as the library makes them where nothing is set: their cells in 4-bit codes, the best rescored."""

TOP, SAMPLE, TOP_SAMPLE, TOP_BLOCK, ALL_THREE = (
    "Top-K",
    "Sample-K",
    "Top-K + Sample-K",
    "Top-K + Rand-block",
    "all three",
)
SWEPT = {
    "clusters": CLUSTERS,
    "two levels of clusters": TWO_LEVELS,
    "PCA-Tree": PCA_TREE,
    "WTA-Hash": WTA_HASH,
}
"""Structures that a swept network is searched by."""
STRATEGIES = (TOP, SAMPLE, TOP_SAMPLE, TOP_BLOCK, ALL_THREE)


@dataclass(frozen=True)
class Row:
    """One line of a table: a network trained in one way."""

    name: str
    """What the report calls it; no other row has it."""
    table: str
    """Where it belongs; see ``TABLES``."""
    reader: str
    """``softmax``, ``kmips``, ``hard`` (REINFORCE) or ``keywords`` (filter, then softmax); or a system other
    than the paper's network: ``bm25`` or one of the ``sentences``."""
    k: int = 0
    """Cells a query, for K-MIPS; 0: all cells that the search looks at."""
    index: str = "exact"
    """Search structure, as ``make_index`` takes it but for the numbers of clusters, which the preset has.
    What is not exact is tuned to the preset's reads."""
    strategy: str = ""
    """One of ``STRATEGIES`` in place of the k best cells; its numbers of clusters are tuned to the reads."""
    cells: str = TRANSE
    """``transe`` (subject, relation, object side by side), ``transe summed``, or ``text``."""
    also_tested_with: str = ""
    """A further search structure to test with, tuned in the same way."""
    swept: bool = False
    """Whether its trained network is searched by every structure at several reads."""
    speed_up: int = 0
    """Its search reads the memory's cells divided by this; 0: by the preset's number."""

    @property
    def exact(self) -> bool:
        """Whether its own search is exact."""
        own = {SOFTMAX, KMIPS, HARD}
        return self.index == "exact" and not self.strategy and self.reader in own

    @property
    def network(self) -> bool:
        """Whether it is the paper's network."""
        return self.reader in {SOFTMAX, KMIPS, HARD, KEYWORDS}

    @property
    def seeded(self) -> bool:
        """Whether another seed may end differently; what is not trained is run once."""
        return self.reader not in {BM25, SENTENCES}

    @property
    def pretrained(self) -> bool:
        """Whether it needs a pretrained encoder, and minutes even in miniature."""
        return self.reader in {SENTENCES, SENTENCES_IN_BATCH, SENTENCES_KMIPS}


TABLES = {
    "table1": "Readers in training",
    "table2": "Strategies against the bias of approximate search, at equal reads",
    "baselines": "Baselines that the paper discusses but does not run",
    "summed": "Cells that are the sum of their three vectors",
    "hierarchy": "Two levels of clusters, and search in training against search at test time",
    "ours": "Beyond the paper: hmn's own clusters, scanned in 4-bit codes",
    "text": "Trained text cells instead of TransE",
    "today": "What a user would pick today: search over the texts of the facts",
}

TABLE1 = (
    Row("full softmax", "table1", SOFTMAX, swept=True),
    *(
        Row(
            f"exact {k}-MIPS",
            "table1",
            KMIPS,
            k=k,
            also_tested_with=CLUSTERS if k == 10 else "",
            swept=k == 10,
        )
        for k in (1, 10, 50, 100, 1000)
    ),
    Row("clustering", "table1", KMIPS, index=CLUSTERS, swept=True),
    Row("PCA-Tree", "table1", KMIPS, index=PCA_TREE, swept=True),
    Row("WTA-Hash", "table1", KMIPS, index=WTA_HASH, swept=True),
)

ROWS = (
    *TABLE1,
    *(
        Row(f"{strategy} with {size} clusters", "table2", KMIPS, index=index, strategy=strategy)
        for strategy in STRATEGIES
        for size, index in (("few", FEW_CLUSTERS), ("many", CLUSTERS))
    ),
    Row("REINFORCE", "baselines", HARD),
    Row("keyword filter", "baselines", KEYWORDS),
    Row("full softmax on summed cells", "summed", SOFTMAX, cells=SUMMED),
    Row("exact 10-MIPS on summed cells", "summed", KMIPS, k=10, cells=SUMMED),
    Row("two levels of clusters", "hierarchy", KMIPS, index=TWO_LEVELS),
    Row("10-MIPS by clusters", "hierarchy", KMIPS, k=10, index=CLUSTERS),
    Row("10-MIPS by hmn's clusters", "ours", KMIPS, k=10, index=OUR_CLUSTERS),
    Row(
        "10-MIPS by hmn's clusters with a tenth of the reads",
        "ours",
        KMIPS,
        k=10,
        index=OUR_CLUSTERS,
        speed_up=10,
    ),
    *(
        replace(
            row,
            name=f"{row.name} on text cells",
            table="text",
            cells=TEXT,
            also_tested_with="",
            swept=False,
        )
        for row in TABLE1
    ),
    Row("keyword filter on text cells", "text", KEYWORDS, cells=TEXT),
    Row("BM25", "today", BM25),
    Row("MiniLM and faiss", "today", SENTENCES),
    Row("MiniLM and faiss after in-batch negatives", "today", SENTENCES_IN_BATCH),
    Row("MiniLM and faiss after 4-MIPS attention", "today", SENTENCES_KMIPS, k=4),
)


def title_of(name: str, preset: Preset) -> str:
    """A row's name, or a text with it, with the numbers of clusters that a preset has."""
    few, many = f"{preset.few_clusters:,}", f"{preset.many_clusters:,}"
    return name.replace("few clusters", f"{few} clusters").replace("many clusters", f"{many} clusters")


def named(only: str, preset: Preset) -> list[str]:
    """The tables and rows of a text with commas between them; rows may have their titles in a report."""
    names = {title_of(row.name, preset): row.name for row in ROWS}
    parts = [one.strip() for one in re.split(r",(?!\d{3} )", only)]  # not within a number
    return [names.get(one, one) for one in parts if one]


def chosen(only: Sequence[str], *, text: bool, pretrained: bool = True) -> list[Row]:
    """Rows of the named tables, or those of the given names, in their order; all if nothing is named.

    Args:
        only: tables or rows.
        text: whether there are trained text cells; without them the rows of a table that has others besides
            are left out.
        pretrained: whether rows of pretrained encoders are run where nothing is named.

    Raises:
        ConfigError: there is no such table or row, or it needs trained text cells.
    """
    known = {*TABLES, *(row.name for row in ROWS)}
    for name in only:
        if name not in known:
            raise ConfigError(
                f"there is no table or row {name!r}, expected tables ({', '.join(TABLES)}) or rows "
                f"({'; '.join(row.name for row in ROWS)})"
            )
    rows = [row for row in ROWS if not only or row.table in only or row.name in only]
    if not only and not pretrained:
        rows = [row for row in rows if not row.pretrained]
    if not text:
        rows = [row for row in rows if row.cells != TEXT]
    for name in only:
        if not any(name in {row.table, row.name} for row in rows):
            raise ConfigError(
                f"{name!r} is of text cells: give the folder of a trained model (--model), or leave it out"
            )
    return rows
