"""The rows of the tables, as data: which experiment, with which settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hmn.errors import ConfigError
from hmn.paper.preset import Preset

FORMAT = 3
"""Version of the experiments; raise it whenever a run changes, so that older results are not reused."""

SOFTMAX = "softmax"
"""Reader: the full softmax."""
KMIPS = "kmips"
"""Reader: K-MIPS attention."""
HARD = "hard"
"""Reader: hard attention, trained by REINFORCE."""
KEYWORDS = "keywords"
"""Reader: a softmax over the facts of the keyword filter."""
BM25 = "bm25"
"""System in place of the network: BM25 over the texts of the facts."""
SENTENCES = "sentences"
"""System in place of the network: a pretrained sentence encoder as it comes."""
SENTENCES_IN_BATCH = "sentences, in-batch"
"""The same, trained with in-batch negatives."""
SENTENCES_KMIPS = "sentences, kmips"
"""The same, trained with K-MIPS attention."""

TRANSE = "transe"
"""Cells: TransE vectors of subject, relation and object side by side."""
SUMMED = "transe summed"
"""Cells: the sum of these vectors."""
TEXT = "text"
"""Cells: those of a trained model, made from text."""

CLUSTERS = "cluster:codes=none,reduction=paper,num_clusters={many}"
"""Structure: the paper's clusters."""
FEW_CLUSTERS = "cluster:codes=none,reduction=paper,num_clusters={few}"
"""Structure: fewer of the paper's clusters."""
TWO_LEVELS = "cluster:codes=none,reduction=paper,num_clusters={wide}x{many}"
"""Structure: two levels of the paper's clusters."""
WTA_HASH = "wta-hash:num_tables=16,num_permutations=2,prefix={prefix}"
"""Structure: WTA-Hash. Its buckets hold more cells than may be read; how many are scored is tuned."""
WIDE_WTA_HASH = "wta-hash:num_tables=16,num_permutations=2,prefix=8"
"""Structure: WTA-Hash whose tables hold up to one cell in 4 per query, for searches of many reads."""
PCA_TREE = "pca-tree:leaf_size=32"
"""Structure: PCA-Tree."""
OUR_CLUSTERS = "cluster:num_clusters={ours}"
"""Structure: the library's clusters, cells in 4-bit codes with the best scored again."""
OUR_CELLS_PER_CLUSTER = 64
"""Mean number of cells in one of these clusters."""

TOP = "Top-K"
"""Strategy: the cells of the best clusters."""
SAMPLE = "Sample-K"
"""Strategy: the cells of clusters drawn by their scores."""
TOP_SAMPLE = "Top-K + Sample-K"
"""Strategy: both."""
TOP_BLOCK = "Top-K + Rand-block"
"""Strategy: the cells of the best clusters and a random block."""
ALL_THREE = "all three"
"""Strategy: best clusters, drawn clusters and a random block."""
STRATEGIES = (TOP, SAMPLE, TOP_SAMPLE, TOP_BLOCK, ALL_THREE)
"""Strategies in the order of the report."""
SWEPT = {
    "clusters": CLUSTERS,
    "two levels of clusters": TWO_LEVELS,
    "PCA-Tree": PCA_TREE,
    "WTA-Hash": WTA_HASH,
}
"""Structures that a swept network is searched by, by their names in the report."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a network trained in one way."""

    name: str
    """Name in the report, unique among the rows."""
    table: str
    """Table that it belongs to, one of ``TABLES``."""
    reader: str
    """Reader, such as ``SOFTMAX`` or ``KMIPS``; or a system in place of the network, such as ``BM25``."""
    k: int = 0
    """Cells per query, for K-MIPS; 0 for all cells that the search looks at."""
    index: str = "exact"
    """Search structure as ``make_index`` takes it, with placeholders for numbers of clusters and other
    sizes. Approximate search is tuned to the preset's reads."""
    strategy: str = ""
    """One of ``STRATEGIES``, in place of the k best cells; its numbers of clusters are tuned to the reads."""
    cells: str = TRANSE
    """Cells: ``TRANSE``, ``SUMMED`` or ``TEXT``."""
    also_tested_with: str = ""
    """Second search structure to test with, tuned in the same way."""
    swept: bool = False
    """Whether its trained network is searched by every structure at several reads."""
    speed_up: float = 0
    """Cells of the memory divided by the reads of its search; 0 for the preset's number."""

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
        """Whether another seed may end differently; a system that is not trained runs once."""
        return self.reader not in {BM25, SENTENCES}

    @property
    def pretrained(self) -> bool:
        """Whether it needs a pretrained encoder, which takes minutes even in miniature."""
        return self.reader in {SENTENCES, SENTENCES_IN_BATCH, SENTENCES_KMIPS}


TABLES = {
    "table1": "Readers in training",
    "table2": "Strategies against the bias of approximate search, at equal reads",
    "baselines": "Baselines that the paper discusses but does not run",
    "speed-up": "The paper's structures with more reads: cells / 5.4",
    "summed": "Cells that are the sum of their three vectors",
    "hierarchy": "Two levels of clusters, and search in training against search at test time",
    "ours": "Beyond the paper: hmn's own clusters, scanned in 4-bit codes",
    "text": "Trained text cells instead of TransE",
    "today": "What a user would pick today: search over the texts of the facts",
}
"""Headings of the tables, by their names."""

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
"""Rows of the paper's table of readers."""

PAPERS_SPEED_UP = 5.4
"""Cells of the memory divided by the reads of an approximate search, if the paper's softmax sizes of about
20,000 of 108,442 cells are what one question reads."""
AT_PAPERS_SPEED_UP = tuple(
    replace(
        row,
        name=f"{row.name} at the paper's speed-up",
        table="speed-up",
        index=WIDE_WTA_HASH if row.index == WTA_HASH else row.index,
        swept=False,
        speed_up=PAPERS_SPEED_UP,
    )
    for row in TABLE1
    if row.index != "exact"
)
"""Rows of the paper's structures once more, with more reads."""
BESIDE = {
    row.name: base
    for row, base in zip(AT_PAPERS_SPEED_UP, (row for row in TABLE1 if row.index != "exact"), strict=True)
}
"""Rows that stand above other rows in the tables of these, for comparison, by the names of these."""

ROWS = (
    *TABLE1,
    *(
        Row(f"{strategy} with {size} clusters", "table2", KMIPS, index=index, strategy=strategy)
        for strategy in STRATEGIES
        for size, index in (("few", FEW_CLUSTERS), ("many", CLUSTERS))
    ),
    Row("REINFORCE", "baselines", HARD),
    Row("keyword filter", "baselines", KEYWORDS),
    *AT_PAPERS_SPEED_UP,
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
"""All rows, in the order in which they run."""


def title_of(name: str, preset: Preset) -> str:
    """A row's name, or a text that holds it, with the preset's numbers of clusters."""
    few, many = f"{preset.few_clusters:,}", f"{preset.many_clusters:,}"
    return name.replace("few clusters", f"{few} clusters").replace("many clusters", f"{many} clusters")


def named(only: str, preset: Preset) -> list[str]:
    """The tables and rows that a text lists with commas; rows may have their titles from a report."""
    names = {title_of(row.name, preset): row.name for row in ROWS}
    parts = [part.strip() for part in re.split(r",(?!\d{3} )", only)]  # not within a number
    return [names.get(part, part) for part in parts if part]


def chosen(only: Sequence[str], *, text: bool, pretrained: bool = True) -> list[Row]:
    """The named rows and the rows of the named tables, in the order of ``ROWS``; all if nothing is named.

    Args:
        only: names of tables or rows.
        text: whether there are trained text cells; if not, rows that need them are left out.
        pretrained: whether rows of pretrained encoders run if nothing is named.

    Raises:
        ConfigError: a name is unknown, or all its rows need trained text cells.
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
                f"{name!r} needs text cells: give the folder of a trained model with --model, or leave it out"
            )
    return rows
